"""What an operator sees of an edge node and asks of it, with a real node and broker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from common import topics, wire
from common.health import announced_url
from common.messages import Receipt
from simulators.broker import EmbeddedBroker, accepts_sessions
from simulators.broker_process import mosquitto_program
from tests.integration.test_edge_node import (
    HOSPITAL,
    REGION,
    ROOT,
    Played,
    health,
    ledger,
    make_outcome,
    make_spec,
    make_update,
    run_edge,
    wait_for,
)

MB = 1 << 20


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    region = Played(tmp_path)
    yield region
    region.close()


def start(played: Played, **changes: object) -> None:
    """Start the node with keys of its configuration changed."""
    config = played.config(**changes)
    played.node = subprocess.Popen(
        [sys.executable, "-m", "edge", "run", "--config", str(config)], cwd=ROOT
    )


def port(played: Played) -> int:
    url = wait_for(lambda: announced_url(played.folder / "edge"), "the health port")
    return int(str(url).rpartition(":")[2])


def metrics(played: Played) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port(played)}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_over_its_quota_a_node_takes_nothing_says_so_and_goes_on_when_there_is_room(
    played: Played,
) -> None:
    holds_back_until_there_is_room(played, "disk_quota_mb = 8", 8 * MB, disk_quota_mb=8)


@pytest.mark.slow
def test_on_a_small_disk_a_node_holds_back_before_it_is_full(
    played: Played, small_disk: Path
) -> None:
    assert small_disk == played.folder / "edge"
    holds_back_until_there_is_room(played, "min_free_mb = 16", 30 * MB, min_free_mb=16)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The node's state directory on a disk of 40 MiB."""
    folder = tmp_path / "edge"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def holds_back_until_there_is_room(
    played: Played, key: str, ballast_bytes: int, **config: object
) -> None:
    start(played, **config)
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    ballast = played.folder / "edge" / "ballast"
    ballast.write_bytes(bytes(ballast_bytes))
    wait_for(lambda: health(port(played))[0] == 503, "the full disk in /healthz")
    assert key in health(port(played))[1]["error"]
    assert key in played.wait_status(lambda s: s.error != "", "the error").error
    assert 'pulsering_edge_disk_state{state="full"} 1.0' in metrics(played)

    update = topics.device(REGION, HOSPITAL, "band-a", "update")
    receipts = topics.device(REGION, HOSPITAL, "band-a", "receipt")
    assert played.link.publish(update, make_update(spec, "band-a"))
    long_enough = time.monotonic() + 1.0
    wait_for(lambda: time.monotonic() > long_enough, "a receipt that must not come")
    assert (ledger(played), played.heard.get(receipts)) == ([], None)

    ballast.unlink()
    said = wait_for(lambda: played.heard.get(receipts), "the receipt, without a resend")
    assert wire.decode_json(said[-1], Receipt).status == "stored"
    assert health(port(played))[0] == 200
    played.wait_status(lambda s: s.error == "", "no error any more")


@pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")
def test_drops_of_the_hospital_broker_are_a_metric_where_it_is_mosquitto(played: Played) -> None:
    with EmbeddedBroker(kind="mosquitto") as broker:
        start(played, hospital_broker=broker.url)
        name = 'pulsering_edge_broker_dropped{broker="hospital"} 0.0'
        wait_for(lambda: name in metrics(played), "the broker's word of itself", 30)
    played.wait_status(lambda s: s.online, "the node, whose hospital broker has gone")


def test_a_broker_that_tells_nothing_of_itself_is_used_all_the_same(played: Played) -> None:
    start(played)
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    assert played.send("band-a", "update", make_update(spec, "band-a")).status == "stored"
    wait_for(lambda: "pulsering_edge_waiting_updates 1.0" in metrics(played), "the gauge")
    long_enough = time.monotonic() + 4.0

    def stays() -> bool:
        assert health(port(played))[1]["links"] == {"region": True, "hospital": True}
        return time.monotonic() > long_enough

    wait_for(stays, "both links to stay")
    if played.broker.kind == "iotcore":
        assert "pulsering_edge_broker_dropped{" not in metrics(played)


def test_status_and_doctor_of_a_running_node(played: Played) -> None:
    start(played)
    played.wait_status(lambda s: s.online and s.rank == "warm", "a warm node")
    config = ("--config", str(played.folder / "edge.toml"))
    report = json.loads(run_edge("status", "--json", *config).stdout)
    assert (report["runs"], report["health"]["ok"]) == (True, True)
    assert report["health"]["links"] == {"region": True, "hospital": True}
    assert report["status"]["rank"] == "warm"
    assert "runs, http://" in run_edge("status", *config).stdout

    said = run_edge("doctor", "--json", *config)
    findings = {each["name"]: each for each in json.loads(said.stdout)["findings"]}
    assert said.returncode == 0, findings
    assert {findings[name]["level"] for name in ("region broker", "hospital broker")} == {"ok"}
    assert "torch" in findings["rank_python"]["found"]
    assert "runs" in findings["node"]["found"]
    assert health(port(played))[1]["links"] == {"region": True, "hospital": True}


@pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")
def test_doctor_reads_the_limits_that_a_broker_announces(played: Played) -> None:
    limited = played.folder / "mosquitto.conf"
    free = EmbeddedBroker(kind="mosquitto").port
    limited.write_text(f"listener {free} 127.0.0.1\nallow_anonymous true\nmax_packet_size 4096\n")
    command = [str(mosquitto_program()), "-c", str(limited)]
    broker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    config = ("--config", str(played.config(hospital_broker=f"mqtt://127.0.0.1:{free}")))
    try:
        wait_for(lambda: accepts_sessions("127.0.0.1", free), "the broker")
        said = run_edge("doctor", "--json", *config, "-s", "rank_python=/bin/false")
    finally:
        broker.terminate()
        broker.wait(10)
    found = {each["name"]: each for each in json.loads(said.stdout)["findings"]}
    assert said.returncode == 1
    assert "max_packet_size" in found["hospital broker"]["remedy"]
    assert found["region broker"]["level"] == "ok"


def test_drained_node_ends_its_round_with_every_fate_and_exit_code_0(played: Played) -> None:
    start(played)
    base, following = played.put_model(0), played.put_model(1)
    spec = make_spec(base)
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    assert played.send("band-a", "update", make_update(spec, "band-a")).status == "stored"
    config = ("--config", str(played.folder / "edge.toml"))
    command = [sys.executable, "-m", "edge", "drain", "--json", *config]
    drain = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: health(port(played))[1]["draining"], "the order to be noticed")
    assert played.send("band-b", "update", make_update(spec, "band-b", 1)).status == "stored"
    ready = played.wait_status(lambda s: s.phase == "ready", "readiness")
    assert drain.poll() is None

    ended = make_outcome(spec, following, ready.aggregate_digest, "committed")
    played.say("open", spec=make_spec(following, 2), outcome=ended)
    assert played.node is not None
    wait_for(lambda: played.say_again() or played.node.poll() is not None, "its end", 30)  # type: ignore[union-attr,func-returns-value]  # says again, and looks
    assert played.node.returncode == 0
    out, _ = drain.communicate(timeout=20)
    assert (drain.returncode, json.loads(out)["waiting_updates"]) == (0, 0)
    played.wait_status(lambda s: not s.online and s.round_id == 1, "the goodbye")
    assert [row["fate"] for row in ledger(played)] == ["counted", "counted"]
    assert run_edge("drain", *config).returncode == 1

    start(played)
    played.wait_status(lambda s: s.online and s.round_id == 2, "the next round, started again")


@pytest.mark.slow
def test_killed_node_goes_on_draining_when_it_is_started_again(played: Played) -> None:
    start(played)
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    config = ("--config", str(played.folder / "edge.toml"))
    waited = run_edge("drain", "--timeout-s", "0.5", *config)
    assert (waited.returncode, "the order stands" in waited.stderr) == (1, True)
    played.end_node(signal.SIGKILL)
    start(played)
    played.wait_status(lambda s: s.online and s.phase == "collecting", "the round again")
    ended = make_outcome(spec, spec.base_digest, None, "skipped")
    played.say("closed", spec=spec, outcome=ended)
    assert played.node is not None
    assert played.node.wait(30) == 0


class Senders:
    """Wristbands that send their updates one after the other, again and again, until stopped."""

    def __init__(self, played: Played, updates: dict[str, bytes]) -> None:
        self._played, self._updates = played, updates
        self._stopping = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for device, data in self._updates.items():
                topic = topics.device(REGION, HOSPITAL, device, "update")
                self._played.link.publish(topic, data)
                if self._stopping.wait(0.03):
                    return

    def receipted(self) -> set[str]:
        """Devices that have a receipt saying stored."""
        found = set()
        for device in self._updates:
            said = self._played.heard.get(topics.device(REGION, HOSPITAL, device, "receipt"), [])
            if any(wire.decode_json(one, Receipt).status == "stored" for one in said):
                found.add(device)
        return found


@pytest.mark.slow
def test_backup_under_load_is_restored_and_each_of_its_updates_gets_one_fate(
    played: Played,
) -> None:
    devices = [f"band-{number:03d}" for number in range(150)]
    start(played, devices=devices)
    base, following = played.put_model(0), played.put_model(1)
    spec = make_spec(base)
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    senders = Senders(played, {name: make_update(spec, name, 1) for name in devices})
    wait_for(lambda: len(senders.receipted()) >= 30, "some receipts")
    config = ("--config", str(played.folder / "edge.toml"))
    file = played.folder / "saved.tar"
    said = run_edge("backup", "--to", str(file), "--json", *config)
    assert said.returncode == 0, said.stderr
    num_saved = json.loads(said.stdout)["waiting_updates"]
    senders.stop()
    played.end_node(signal.SIGKILL)
    shutil.rmtree(played.folder / "edge")

    said = run_edge("restore", "--from", str(file), "--json", *config)
    assert said.returncode == 0, said.stderr
    saved = {row["device"] for row in ledger_of(config)}
    assert len(saved) == num_saved >= 30
    start(played, devices=devices)
    again = Senders(played, {name: make_update(spec, name, 1) for name in devices})
    ready = played.wait_status(lambda s: s.phase == "ready", "readiness")
    again.stop()
    ended = make_outcome(spec, following, ready.aggregate_digest, "committed")
    played.say("open", spec=make_spec(following, 2), outcome=ended)
    played.wait_status(lambda s: s.round_id == 2, "the next round")
    rows = ledger_of(config)
    assert len(rows) == len({row["device"] for row in rows}) == len(devices)
    assert {row["fate"] for row in rows} == {"counted"}


def ledger_of(config: tuple[str, str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(run_edge("ledger", "--json", *config).stdout)
    return rows
