"""An edge node as a process, between a real broker, a coordinator and wristbands played here."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
from horovod.runner.http.http_server import RendezvousServer

from common import fixedpoint, topics, wire
from common.digest import bytes_digest, tensors_digest
from common.link import Link
from common.mailbox import Mailbox, message_path
from common.messages import (
    AggregateHeader,
    EvaluationHeader,
    HospitalStatus,
    Invite,
    ModelHeader,
    Receipt,
    RegionState,
    RingPlan,
    RingSumHeader,
    RoundOutcome,
    RoundSpec,
    UpdateHeader,
)
from common.signing import Keyring, Signer
from simulators.broker import EmbeddedBroker, free_port

REGION, HOSPITAL = "county", "north"
DEVICES = ("band-a", "band-b")
SHAPES = {"bias": (3,), "weight": (4, 3)}
WAIT_S = 60.0
HEARTBEAT_S = 0.5


def wait_for(happened: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := happened()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
    return value


def make_model(seed: int) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def make_integers(seed: int) -> dict[str, npt.NDArray[np.int16]]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-900, 900, s).astype(np.int16) for name, s in SHAPES.items()}


class Played:
    """The region around one edge node: broker, coordinator, wristbands, mailbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = EmbeddedBroker().start()
        signer = Signer.at("region", folder / "region")
        self.mailbox = Mailbox(
            str(folder / "mailbox"), signer, Keyring({HOSPITAL: folder / "edge" / "signing.pub"})
        )
        self.heard: dict[str, list[bytes]] = {}
        self.revision = 0
        self.servers: list[RendezvousServer] = []
        self.node: subprocess.Popen[bytes] | None = None
        self.state: RegionState | None = None
        self.link = Link(
            self.broker.url,
            f"played-{time.monotonic_ns()}",
            on_connect=lambda: None,
            on_message=lambda topic, data, _: self.heard.setdefault(topic, []).append(data),
            subscriptions=[
                topics.hospital_status(REGION),
                f"{topics.PREFIX}/{REGION}/{HOSPITAL}/#",
            ],
        )
        self.link.start()
        wait_for(lambda: self.link.connected, "the broker")

    def config(self, **changes: object) -> Path:
        values: dict[str, object] = {
            "region": REGION,
            "hospital": HOSPITAL,
            "region_broker": self.broker.url,
            "hospital_broker": self.broker.url,
            "state_dir": str(self.folder / "edge"),
            "mailbox": str(self.folder / "mailbox"),
            "coordinator_key": str(self.folder / "region" / "signing.pub"),
            "devices": list(DEVICES),
            "heartbeat_s": 0.5,
            "mute_after": 0,  # so that one wristband can say all that is wrong
        } | changes
        path = self.folder / "edge.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        return path

    def start_node(self, **changes: object) -> None:
        self.node = subprocess.Popen(
            [sys.executable, "-m", "edge", "run", "--config", str(self.config(**changes))], cwd=ROOT
        )

    def end_node(self, number: signal.Signals) -> int:
        assert self.node is not None
        self.node.send_signal(number)
        return self.node.wait(timeout=10)

    def put_model(self, seed: int) -> str:
        model = make_model(seed)
        digest = tensors_digest(model)
        header = ModelHeader(region=REGION, task="dummy", digest=digest, made_by_round=seed)
        self.mailbox.put(location(digest), wire.encode(header, model))
        return digest

    def say(self, phase: str, **fields: object) -> None:
        self.revision += 1
        self.state = RegionState.model_validate(
            {"region": REGION, "revision": self.revision, "phase": phase, **fields}
        )
        self.say_again()

    def say_again(self) -> None:
        assert self.state is not None
        data = wire.encode_json(self.state)
        wait_for(
            lambda: self.link.publish(topics.round_state(REGION), data, retain=True), "publishing"
        )

    def status(self) -> HospitalStatus | None:
        said = self.heard.get(topics.hospital_status(REGION, HOSPITAL))
        return wire.decode_json(said[-1], HospitalStatus) if said else None

    def wait_status(self, fits: Callable[[HospitalStatus], bool], what: str) -> HospitalStatus:
        spoke_at = time.monotonic()

        def fitting() -> HospitalStatus | None:
            nonlocal spoke_at
            if self.state and time.monotonic() > spoke_at + HEARTBEAT_S:
                spoke_at = time.monotonic()
                self.say_again()
            status = self.status()
            return status if status and fits(status) else None

        try:
            status: HospitalStatus = wait_for(fitting, what)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; last: {self.status()}") from None
        return status

    def send(self, device: str, leaf: Any, data: bytes, within_s: float = 15.0) -> Receipt:
        """Publish and wait for the receipt of these bytes."""
        topic = topics.device(REGION, HOSPITAL, device, "receipt")
        before = len(self.heard.get(topic, []))
        assert self.link.publish(topics.device(REGION, HOSPITAL, device, leaf), data)

        def receipt() -> Receipt | None:
            for said in self.heard.get(topic, [])[before:]:
                one = wire.decode_json(said, Receipt)
                if one.content_digest == bytes_digest(data):
                    return one
            return None

        found: Receipt = wait_for(receipt, f"a receipt for {device}", within_s)
        return found

    def plan(self, round_id: int, generation: int) -> RingPlan:
        server = RendezvousServer(verbose=0)
        self.servers.append(server)
        port = server.start()
        server.init(get_host_assignments(parse_hosts(f"{HOSPITAL}:1"), 1))
        return RingPlan(
            round_id=round_id,
            generation=generation,
            members=(HOSPITAL,),
            rendezvous_host="127.0.0.1",
            rendezvous_port=port,
            interface="lo",
            timeout_s=20,
            total_weight=1000,
        )

    def close(self) -> None:
        if self.node and self.node.poll() is None:
            self.node.kill()
            self.node.wait()
        self.link.stop()
        for server in self.servers:
            server.stop()
        self.broker.stop()


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    region = Played(tmp_path)
    yield region
    region.close()


def location(digest: str) -> str:
    return message_path(REGION, "ring", 0, f"{digest}.safetensors")


def make_spec(base: str, round_id: int = 1, *, evaluate: tuple[str, ...] = ()) -> RoundSpec:
    return RoundSpec.model_validate(
        {
            "region": REGION,
            "day": 1,
            "cycle": 1,
            "round_id": round_id,
            "task": "dummy",
            "base_digest": base,
            "state_digest": tensors_digest({}),
            "server": {},
            "local": {"learning_rate": 0.1, "num_steps": 1, "batch_size": 1},
            "fixed_point": {
                "clip_norm": 1.0,
                "exponents": fixedpoint.first_exponents(make_model(0), 1.0, 16),
            },
            "evaluate": evaluate,
            "evaluation_shapes": {"confusion": (2, 2)},
            "locations": {digest: location(digest) for digest in (base, *evaluate)},
            "opened_at": time.time(),
            "closes_at": time.time() + 600,
        }
    )


def make_update(spec: RoundSpec, device: str, seed: int = 0, **header: object) -> bytes:
    fields = {
        "region": REGION,
        "hospital": HOSPITAL,
        "device": device,
        "round_id": spec.round_id,
        "base_digest": spec.base_digest,
        "num_examples": 5,
        "num_saturated": 0,
    } | header
    return wire.encode(UpdateHeader.model_validate(fields), make_integers(seed))


def make_evaluation(
    spec: RoundSpec, device: str, counts: npt.NDArray[np.int64] | None = None
) -> bytes:
    header = EvaluationHeader(
        region=REGION,
        hospital=HOSPITAL,
        device=device,
        round_id=spec.round_id,
        models=spec.evaluate,
        num_examples=4,
    )
    if counts is None:
        counts = np.array([[1, 2], [0, 1]], np.int64)
    return wire.encode(header, {f"{digest}/confusion": counts for digest in spec.evaluate})


def make_outcome(spec: RoundSpec, model: str, aggregate: str | None, end: str) -> dict[str, Any]:
    return RoundOutcome.model_validate(
        {
            "region": REGION,
            "day": 1,
            "round_id": spec.round_id,
            "end": end,
            "reason": "as played",
            "base_digest": spec.base_digest,
            "model_digest": model,
            "state_digest": spec.state_digest,
            "aggregates": {HOSPITAL: aggregate} if aggregate else {},
        }
    ).model_dump()


def run_edge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def health(port: int) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as fault:
        return fault.code, json.load(fault)


def ledger(played: Played, *flags: str) -> list[dict[str, Any]]:
    said = run_edge("ledger", "--config", str(played.config()), "--json", *flags)
    rows: list[dict[str, Any]] = json.loads(said.stdout)
    return rows


def expected_update_sum(*seeds: int) -> dict[str, npt.NDArray[np.int64]]:
    return {
        f"update/{name}": np.sum([make_integers(seed)[name].astype(np.int64) for seed in seeds], 0)
        for name in SHAPES
    }


def test_two_rounds_through_one_ring_and_a_third_after_the_rank_was_killed(
    played: Played,
) -> None:
    played.start_node()
    base = played.put_model(0)
    spec = make_spec(base, evaluate=(base,))
    played.say("open", spec=spec)
    offer = topics.model(REGION, HOSPITAL, base)
    wait_for(lambda: played.heard.get(offer), "the model's offer")
    invited = wait_for(
        lambda: played.heard.get(topics.device(REGION, HOSPITAL, "band-b", "invite")), "an invite"
    )
    assert wire.decode_json(invited[-1], Invite).spec == spec
    for seed, device in enumerate(DEVICES):
        assert played.send(device, "update", make_update(spec, device, seed)).status == "stored"
        evaluation = make_evaluation(spec, device)
        assert played.send(device, "evaluation", evaluation).status == "stored"
    ready = played.wait_status(lambda s: s.phase == "ready" and s.rank == "warm", "readiness")
    assert (ready.weight, ready.num_stored, ready.num_evaluated, ready.complete) == (2, 2, 2, True)

    plan = played.plan(round_id=1, generation=1)
    played.say("ring", spec=spec, plan=plan)
    result = played.wait_status(lambda s: s.result is not None, "a result").result
    assert result is not None
    sums = message_path(REGION, "ring", 1, f"{result.sums_digest}.safetensors")
    header, tensors = wire.decode(played.mailbox.get(sums, signer=HOSPITAL), RingSumHeader)
    assert header.members == (HOSPITAL,)
    for name, total in expected_update_sum(0, 1).items():
        assert np.array_equal(tensors[name], total)
    assert tensors[f"evaluation/{base}/confusion"].tolist() == [[2, 4], [0, 2]]

    outcome = make_outcome(spec, base, ready.aggregate_digest, "committed")
    played.say("closed", outcome=outcome)
    played.wait_status(lambda s: s.phase == "idle" and s.num_stored == 0, "the end of round 1")
    assert {row["fate"] for row in ledger(played)} == {"counted"}

    following = played.put_model(1)
    second = make_spec(following, round_id=2)
    played.say("open", spec=second, outcome=outcome)
    for device in DEVICES:
        wait_for(lambda: played.heard.get(topics.model(REGION, HOSPITAL, following)), "offer")
        played.wait_status(lambda s: s.round_id == 2, "round 2")
        played.send(device, "update", make_update(second, device))
    again = plan.model_copy(update={"round_id": 2})
    played.wait_status(lambda s: s.round_id == 2 and s.phase == "ready", "readiness")
    played.say("ring", spec=second, plan=again, outcome=outcome)
    status = played.wait_status(lambda s: bool(s.result and s.result.round_id == 2), "result 2")
    assert (status.rank, status.generation, status.rank_pid) == ("joined", 1, ready.rank_pid)
    wait_for(lambda: played.heard[offer][-1] == b"", "the old model to be cleared")

    os.kill(status.rank_pid, signal.SIGKILL)
    played.wait_status(lambda s: s.rank == "warm" and s.rank_pid != status.rank_pid, "respawn")
    played.say(
        "ring", spec=second, plan=played.plan(2, generation=2), min_generation=2, outcome=outcome
    )
    played.wait_status(lambda s: bool(s.result and s.result.generation == 2), "the second ring")


def test_kill_9_after_receipts_keeps_round_updates_aggregate_and_receipts(played: Played) -> None:
    played.start_node()
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    first = make_update(spec, "band-a", 0)
    receipt = played.send("band-a", "update", first)
    played.end_node(signal.SIGKILL)

    played.start_node()
    assert played.send("band-a", "update", first) == receipt
    played.send("band-b", "update", make_update(spec, "band-b", 1))
    ready = played.wait_status(lambda s: s.online and s.phase == "ready", "readiness")
    assert ready.num_stored == 2
    played.end_node(signal.SIGKILL)
    wait_for(lambda: (s := played.status()) and not s.online, "the last will")

    played.start_node()
    again = played.wait_status(lambda s: s.online and s.phase == "ready", "readiness again")
    assert again.aggregate_digest == ready.aggregate_digest
    late = played.send("band-b", "update", make_update(spec, "band-b", 2))
    assert late.reason == "round_closed"


def test_plan_of_a_generation_entered_before_a_restart_is_answered_by_a_failure(
    played: Played,
) -> None:
    played.start_node()
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    for device in DEVICES:
        played.send(device, "update", make_update(spec, device))
    played.wait_status(lambda s: s.phase == "ready" and s.rank == "warm", "readiness")
    played.say("ring", spec=spec, plan=played.plan(1, 1))
    played.wait_status(lambda s: s.result is not None, "a result")
    played.end_node(signal.SIGKILL)
    played.start_node()
    failed = played.wait_status(lambda s: s.online and s.failure is not None, "the failure")
    assert failed.failure is not None
    assert failed.failure.generation == 1
    played.say("ring", spec=spec, plan=played.plan(1, 2), min_generation=2)
    status = played.wait_status(lambda s: bool(s.result and s.result.generation == 2), "result")
    assert status.failure is None


def test_missed_outcome_is_learned_from_the_mailbox(played: Played) -> None:
    played.start_node()
    base = played.put_model(0)
    spec = make_spec(base)
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    played.send("band-a", "update", make_update(spec, "band-a"))
    played.end_node(signal.SIGKILL)

    following = played.put_model(1)
    outcome = RoundOutcome.model_validate(make_outcome(spec, following, None, "committed"))
    played.mailbox.put(message_path(REGION, "ring", 1, "outcome.json"), wire.encode_json(outcome))
    played.say("open", spec=make_spec(following, round_id=3))
    played.start_node()
    played.wait_status(lambda s: s.round_id == 3, "round 3")
    assert [(row["fate"], row["fate_round"]) for row in ledger(played)] == [("left_out", 1)]


def wrong_messages(spec: RoundSpec) -> dict[bytes, str]:
    """Everything that `band-a` may get wrong in its update, with the reason it is to hear."""
    good = make_update(spec, "band-a")
    header, _ = wire.decode(good, UpdateHeader)
    nan = {name: np.full(shape, np.nan, np.float32) for name, shape in SHAPES.items()}
    loud = {name: np.full(shape, 32767, np.int16) for name, shape in SHAPES.items()}
    short = {name: np.zeros(shape, np.int8) for name, shape in SHAPES.items()}
    null = b'{"__metadata__": null}'
    return {
        good[:-3]: "malformed",
        good[: len(good) // 2]: "malformed",
        b"": "malformed",
        len(null).to_bytes(8, "little") + null: "malformed",
        good + bytes(100_000): "oversize",
        bytes(1_900_000): "oversize",  # the broker's own limit is 2 MiB
        make_evaluation(spec, "band-a"): "schema",
        make_update(spec, "band-b"): "wrong_identity",
        make_update(spec, "band-a", hospital="south"): "wrong_identity",
        make_update(spec, "band-a", round_id=999): "wrong_round",
        make_update(spec, "band-a", round_id=1 << 53): "wrong_round",
        make_update(spec, "band-a", base_digest="0" * 64): "wrong_base",
        wire.encode(header, {"bias": np.zeros(3, np.int16)}): "wrong_shape",
        wire.encode(header, short): "wrong_shape",
        wire.encode(header, nan): "not_finite",
        wire.encode(header, loud): "norm",
        make_update(spec, "band-a", num_saturated=1 << 53): "impossible_counts",
    }


def test_wrong_messages_get_their_reason_and_the_good_ones_count(played: Played) -> None:
    played.start_node()
    base = played.put_model(0)
    spec = make_spec(base, evaluate=(base,))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    wrong = wrong_messages(spec)
    for data, reason in wrong.items():
        assert played.send("band-a", "update", data).reason == reason
    stranger = make_update(spec, "band-z")
    assert played.send("band-z", "update", stranger).reason == "unknown_device"
    for counts in ([[-1, 0], [0, 1]], [[1 << 62, 1 << 62], [1 << 62, 1 << 62]]):
        data = make_evaluation(spec, "band-a", np.array(counts, np.int64))
        assert played.send("band-a", "evaluation", data).reason == "impossible_counts"
    for topic in ("Not A Name/update", "band-a/update/more", "/update", "é/evaluation"):
        assert played.link.publish(f"{topics.PREFIX}/{REGION}/{HOSPITAL}/{topic}", b"", retain=True)
    assert ledger(played) == []

    good = {name: make_update(spec, name, seed) for seed, name in enumerate(DEVICES)}
    for device, data in good.items():
        first = played.send(device, "update", data)
        assert first.status == "stored"
        assert played.send(device, "update", data) == first
        other = make_update(spec, device, seed=7)
        assert played.send(device, "update", other).reason == "conflicting_duplicate"
        evaluation = make_evaluation(spec, device)
        assert played.send(device, "evaluation", evaluation).status == "stored"
    ready = played.wait_status(lambda s: s.phase == "ready", "readiness")
    assert (ready.weight, ready.num_stored, ready.error) == (2, 2, "")
    file = played.folder / "edge" / "rounds" / "aggregate-000001.safetensors"
    _, tensors = wire.decode(file.read_bytes(), AggregateHeader)
    for name, total in expected_update_sum(0, 1).items():
        assert np.array_equal(tensors[name], total)
    assert tensors["counts"].tolist() == [2, 2, 2, 0]
    refused = ledger(played, "--rejected")
    assert sum(row["num"] for row in refused) >= len(wrong) + 1 + 2 + 2


def test_a_sparse_round_takes_its_part_and_nothing_else(played: Played) -> None:
    played.start_node()
    dense = make_spec(played.put_model(0))
    coarse = dict.fromkeys(SHAPES, -7)  # 127 * 2**-7 is just below the clip norm
    fixed = dense.fixed_point.model_copy(
        update={"bits": 8, "parts": 4, "part": 1, "exponents": coarse}
    )
    spec = dense.model_copy(update={"fixed_point": fixed})
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    part = np.arange(-7, 8, dtype=np.int8)  # tensors so small are whole in every part
    header, _ = wire.decode(make_update(spec, "band-a"), UpdateHeader)
    saturated = header.model_copy(update={"num_saturated": 16})
    good = wire.encode(header, {"part": part})
    for data, reason in {
        good[:-1]: "malformed",
        make_update(spec, "band-a"): "wrong_shape",
        wire.encode(header, {"part": part[1:]}): "wrong_shape",
        wire.encode(header, {"part": part.astype(np.int16)}): "wrong_shape",
        wire.encode(header, {"parts": part}): "wrong_shape",
        wire.encode(header, {"part": np.full(15, np.nan, np.float32)}): "not_finite",
        wire.encode(header, {"part": np.full(15, 127, np.int8)}): "norm",
        wire.encode(saturated, {"part": part}): "impossible_counts",
    }.items():
        assert played.send("band-a", "update", data).reason == reason
    for device in DEVICES:
        data = wire.encode(header.model_copy(update={"device": device}), {"part": part})
        assert played.send(device, "update", data).status == "stored"
    played.wait_status(lambda s: s.phase == "ready", "readiness")
    file = played.folder / "edge" / "rounds" / "aggregate-000001.safetensors"
    _, tensors = wire.decode(file.read_bytes(), AggregateHeader)
    assert tensors["update/bias"].tolist() == [-14, -12, -10]
    assert tensors["update/weight"].ravel().tolist() == list(range(-8, 16, 2))


def test_flood_of_refusals_fills_neither_ledger_nor_memory(played: Played) -> None:
    played.start_node()
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    topic = topics.device(REGION, HOSPITAL, "band-a", "update")
    for number in range(10_000):
        data = b"%08d" % number
        wait_for(partial(played.link.publish, topic, data), "room to publish")
    update = make_update(spec, "band-b")
    assert played.send("band-b", "update", update, WAIT_S).status == "stored"
    played.wait_status(lambda s: s.num_rejected >= 10_000, "all refusals")
    (row,) = ledger(played, "--rejected")
    assert (row["device"], row["reason"], row["num"] >= 10_000) == ("band-a", "malformed", True)
    assert sum(file.stat().st_size for file in (played.folder / "edge").glob("ledger*")) < 10 << 20


def test_full_disk_means_no_receipt_until_there_is_room(played: Played) -> None:
    port = free_port()
    config = played.config(health_listen=f"127.0.0.1:{port}")
    # Its log goes nowhere: the limit below would hold for a file of it, too.
    played.node = subprocess.Popen(
        [sys.executable, "-m", "edge", "run", "--config", str(config)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting" and s.rank == "warm", "the round")
    unlimited = resource.prlimit(played.node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(played.node.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
    data = make_update(spec, "band-a")
    assert played.link.publish(topics.device(REGION, HOSPITAL, "band-a", "update"), data)
    wait_for(lambda: health(port)[0] == 503, "the fault in /healthz")
    assert "ledger: " in health(port)[1]["error"]
    assert played.heard.get(topics.device(REGION, HOSPITAL, "band-a", "receipt")) is None
    assert ledger(played) == []

    resource.prlimit(played.node.pid, resource.RLIMIT_FSIZE, unlimited)
    receipts = wait_for(
        lambda: played.heard.get(topics.device(REGION, HOSPITAL, "band-a", "receipt")),
        "the receipt",
    )
    assert wire.decode_json(receipts[-1], Receipt).status == "stored"
    assert health(port)[0] == 200
    assert len(ledger(played)) == 1


def test_second_node_with_the_same_state_is_refused_and_a_kill_leaves_no_lock(
    played: Played,
) -> None:
    played.start_node()
    played.wait_status(lambda s: s.online, "the node")
    second = run_edge("run", "--config", str(played.config()))
    assert second.returncode == 2
    assert "another edge node is running there" in second.stderr
    played.end_node(signal.SIGKILL)
    played.heard.clear()
    played.start_node()
    played.wait_status(lambda s: s.online and s.rank == "warm", "the node again")


def test_sigterm_ends_a_node_that_reaches_no_broker(played: Played) -> None:
    config = played.config(region_broker="mqtt://127.0.0.1:1", hospital_broker="mqtt://127.0.0.1:1")
    played.node = subprocess.Popen(
        [sys.executable, "-m", "edge", "run", "--config", str(config)], cwd=ROOT
    )
    wait_for(lambda: (played.folder / "edge" / "ledger.sqlite").exists(), "its start")
    time_to_settle = time.monotonic() + 1.0
    wait_for(lambda: time.monotonic() > time_to_settle, "both sessions to be tried")
    assert played.end_node(signal.SIGTERM) == 0


def test_key_that_is_none_stops_the_start_with_one_line(played: Played) -> None:
    (played.folder / "edge").mkdir()
    (played.folder / "edge" / "signing.key").write_bytes(b"\x00broken")
    said = run_edge("run", "--config", str(played.config()))
    assert said.returncode == 2
    assert len(said.stderr.strip().splitlines()) == 1
    assert "signing.key" in said.stderr


def test_after_a_broker_restart_models_and_invites_are_said_again(played: Played) -> None:
    played.start_node()
    base = played.put_model(0)
    spec = make_spec(base)
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    played.broker.kill()
    wait_for(lambda: not played.link.connected, "the loss")
    played.heard.clear()
    played.broker.start()
    wait_for(lambda: played.link.connected, "the broker")
    offer = topics.model(REGION, HOSPITAL, base)
    invite = topics.device(REGION, HOSPITAL, "band-a", "invite")
    wait_for(lambda: played.heard.get(offer) and played.heard.get(invite), "offers")
    played.wait_status(lambda s: s.phase == "collecting", "the status")
    assert played.send("band-a", "update", make_update(spec, "band-a")).status == "stored"


def test_sigterm_ends_cleanly_and_says_offline(played: Played) -> None:
    port = free_port()
    config = played.config(health_listen=f"127.0.0.1:{port}")
    played.node = subprocess.Popen(
        [sys.executable, "-m", "edge", "run", "--config", str(config)], cwd=ROOT
    )
    status = played.wait_status(lambda s: s.online and s.rank == "warm", "a warm node")
    code, said = health(port)
    assert (code, said["ok"], said["identity"]) == (200, True, "unauthenticated")
    assert said["links"] == {"region": True, "hospital": True}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"pulsering_edge_rank_starts 1.0" in answer.read()

    taken = run_edge("run", "--config", str(config), "--set", f"state_dir={played.folder / 'b'}")
    assert (taken.returncode, len(taken.stderr.strip().splitlines())) == (2, 1), taken.stderr

    began = time.monotonic()
    assert played.end_node(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
    played.wait_status(lambda s: not s.online, "the goodbye")
    wait_for(lambda: not Path(f"/proc/{status.rank_pid}").exists(), "the rank's end", 5)
