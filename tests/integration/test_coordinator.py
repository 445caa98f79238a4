"""The coordinator as a process, against a real broker and hospitals that speak real bytes."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.digest import tensors_digest
from common.mailbox import Mailbox, message_path
from common.messages import ModelHeader, ReleaseHeader, SealedHeader
from common.signing import Keyring, Signer
from common.wire import decode, encode, without_prefix
from simulators.broker import free_port
from tests.builders.coordinator_process import CLIP_NORM, ROOT, Coordinator, Site, ask, until
from tests.builders.fake_hospitals import HOSPITALS, REGION, WEIGHT, Arrays, make_update

CYCLE_STARTS = (1, 5)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as running:
        yield running


def release(folder: Path, sealed: SealedHeader, model: Arrays) -> None:
    header = ReleaseHeader(
        region=REGION,
        day=sealed.day,
        decision="released",
        release="county-1",
        rule="better",
        task=sealed.task,
        sealed_digest=sealed.model_digest,
        model_digest=sealed.model_digest,
    )
    mailbox = Mailbox(str(folder / "mailbox"), Signer.at("cloud", folder / "cloud"), Keyring({}))
    path = message_path(REGION, "to-region", sealed.day, f"{sealed.model_digest}.safetensors")
    mailbox.put(path, encode(header, model))


def test_two_days_commit_seal_and_adopt_over_a_kill_in_mid_round(
    site: Site,
) -> None:
    coordinator, west = site.coordinator, site.hospitals["west"]
    west.last_answered = 1
    site.start()
    until("a ring with two results", site.stands_in_a_ring_without_west)
    coordinator.end(signal.SIGKILL)
    west.last_answered = math.inf
    coordinator.start()

    sealed, tensors = until("the first seal", lambda: _sealed(coordinator, 1))
    assert [r["purpose"] for r in coordinator.committed()] == ["train"] * 3 + ["evaluate"]
    assert [r["round_id"] for r in coordinator.committed()] == [1, 2, 3, 4]
    release(site.folder, sealed, without_prefix("model", tensors))
    second, _ = until("the second seal", lambda: _sealed(coordinator, 2))
    assert (second.cycle, second.rounds, second.in_service_release) == (2, (5,), "county-1")
    assert coordinator.end(signal.SIGTERM) == 0

    reports = coordinator.committed()
    assert {report["generation"] for report in reports} == {1}
    for report in reports:
        outcome = coordinator.outcome(report["round_id"])
        assert outcome is not None
        assert outcome.model_digest == report["model_digest"]
        assert report["complete"]
    expected = [digest for digest, _ in _plain_average(coordinator, reports)]
    assert [r["model_digest"] for r in reports if r["purpose"] == "train"] == expected
    replayed = coordinator.ask("replay")
    assert (replayed["num_rounds"], replayed["num_wrong"]) == (len(reports), 0)


def _sealed(coordinator: Coordinator, day: int) -> tuple[SealedHeader, Arrays] | None:
    for name in coordinator.mailbox.names(REGION, "to-cloud", day):
        path = message_path(REGION, "to-cloud", day, name)
        return decode(coordinator.mailbox.get(path), SealedHeader)
    return None


def _plain_average(
    coordinator: Coordinator, reports: list[dict[str, Any]]
) -> Iterator[tuple[str, Arrays]]:
    """FedAvg over the same updates in plain numpy, one process, no fold and no ring.

    The release of day 1 is the sealed model itself, so that the chain of models has no break.
    """
    (name,) = coordinator.mailbox.names(REGION, "ring", 0)
    data = coordinator.mailbox.get(message_path(REGION, "ring", 0, name))
    _, model = decode(data, ModelHeader)
    exponents = {tensor: ceil(log2(CLIP_NORM / 32767)) for tensor in model}
    for report in reports:
        if report["purpose"] != "train":
            continue
        if report["round_id"] in CYCLE_STARTS:
            exponents = {tensor: ceil(log2(CLIP_NORM / 32767)) for tensor in model}
        means = {}
        for tensor, base in model.items():
            total = np.zeros(base.shape)
            for hospital in HOSPITALS:
                total += make_update(hospital, report["base_digest"], model)[tensor]
            means[tensor] = total * 2.0 ** exponents[tensor] / (WEIGHT * len(HOSPITALS))
        model = {n: (model[n].astype(np.float64) + means[n]).astype(np.float32) for n in model}
        for tensor, mean in means.items():
            peak = float(np.abs(mean).max())
            exponents[tensor] = min(exponents[tensor], ceil(log2(8 * peak / 32767)))
        yield tensors_digest(model), model


def test_operator_seals_the_day_beside_a_running_coordinator(site: Site) -> None:
    coordinator = site.coordinator
    site.start("--set", "rounds.rounds_per_day=1000")
    until("a committed round", coordinator.committed)
    said = subprocess.run(
        coordinator.command("seal", "--wait", "--timeout-s", "40", "--json"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    report = json.loads(said.stdout)
    sealed = _sealed(coordinator, 1)
    assert sealed is not None
    assert sealed[0].model_digest == report["model_digest"]
    assert Path(report["path"]).is_file()
    again = subprocess.run(
        coordinator.command("seal"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (again.returncode, "day 1 is sealed already" in again.stderr) == (3, True)


def test_reports_answer_over_http_and_stop_is_clean(site: Site) -> None:
    listen = f"127.0.0.1:{free_port()}"
    url = f"http://{listen}"
    site.start("--set", f"health_listen={listen}")
    rounds = until("a round over HTTP", lambda: ask(f"{url}/rounds")[1])
    assert rounds[0]["end"] == "committed"
    _, status = ask(f"{url}/status")
    assert set(status["hospitals"]) == set(HOSPITALS)
    assert ask(f"{url}/healthz")[0] == 200
    seen = site.coordinator.ask("watch")  # finds the port in the state directory
    assert set(seen["status"]["hospitals"]) == set(HOSPITALS)
    assert seen["rounds"][0]["end"] == "committed"
    began = time.monotonic()
    assert site.coordinator.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
    silent = subprocess.run(
        site.coordinator.command("watch"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (silent.returncode, silent.stdout) == (1, "")
    assert f"{url} does not answer" in silent.stderr


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("colour=red", "colour: unknown key"),
        ("rounds.quorum=9", "rounds.quorum = 9"),
        ("task=sleep", "no task 'sleep'"),
        ("rendezvous_host=203.0.113.7", "rendezvous_host"),
        ("health_listen=TAKEN", "health_listen"),
    ],
)
def test_a_faulty_start_is_one_line_and_code_2(tmp_path: Path, override: str, named: str) -> None:
    coordinator = Coordinator(tmp_path, "mqtt://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        override = override.replace("TAKEN", f"127.0.0.1:{taken.getsockname()[1]}")
        done = subprocess.run(
            coordinator.command("run", "--set", override),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert named in line
