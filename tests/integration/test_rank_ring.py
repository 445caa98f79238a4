"""Real Horovod rings of ranks that run as child processes, against plain numpy sums."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
from horovod.runner.http.http_server import RendezvousServer

from common import fixedpoint, wire
from common.digest import tensors_digest
from common.messages import (
    AggregateHeader,
    FixedPoint,
    LocalRule,
    ModelHeader,
    RingPlan,
    RingSumHeader,
    RoundSpec,
    ServerRule,
)
from edge.rank_protocol import Computed, Failed, Join, Lost
from edge.traces import Traces
from tests.builders.ranks import Member, results, wait_until

REGION = "county"
SHAPES = {"layer.bias": (7,), "layer.weight": (13, 5), "odd": (1,)}
EVALUATED = {"confusion": (3, 3)}


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Callable[[int], list[Member]]]:
    made: list[Member] = []

    def make(num: int) -> list[Member]:
        made.extend(Member(f"hospital-{i}", tmp_path / f"hospital-{i}") for i in range(num))
        wait_until(made, lambda: all(m.rank.state == "warm" for m in made), "warm ranks")
        return made

    yield make
    for member in made:
        member.rank.kill()


@pytest.fixture
def rendezvous() -> Iterator[Callable[[list[Member]], int]]:
    servers: list[RendezvousServer] = []

    def serve(members: list[Member]) -> int:
        server = RendezvousServer(verbose=0)
        servers.append(server)
        port = server.start()
        hosts = parse_hosts(",".join(f"{m.name}:1" for m in members))
        server.init(get_host_assignments(hosts, len(members)))
        return int(port)

    yield serve
    for server in servers:
        server.stop()


def make_base() -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def make_spec(round_id: int = 1, purpose: str = "train") -> RoundSpec:
    base_digest = tensors_digest(make_base())
    return RoundSpec.model_validate(
        {
            "region": REGION,
            "day": 1,
            "cycle": 1,
            "round_id": round_id,
            "purpose": purpose,
            "task": "dummy",
            "base_digest": base_digest,
            "state_digest": tensors_digest({}),
            "server": ServerRule(),
            "local": LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
            "fixed_point": FixedPoint(
                clip_norm=1.0, exponents=fixedpoint.first_exponents(make_base(), 1.0, 16)
            ),
            "evaluate": (base_digest,),
            "evaluation_shapes": EVALUATED,
            "locations": {base_digest: "county/ring/000001/base.safetensors"},
            "opened_at": 0.0,
            "closes_at": 1.0,
        }
    )


def make_sums(spec: RoundSpec, seed: int, weight: int = 3) -> dict[str, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    sums = {}
    if spec.purpose == "train":
        for name, shape in SHAPES.items():
            values = rng.integers(-30_000, 30_000, shape) * min(weight, 1)
            sums[f"update/{name}"] = np.asarray(values, np.int64)
    for name, shape in EVALUATED.items():
        counts = rng.integers(0, 1 << 40, shape)
        sums[f"evaluation/{spec.base_digest}/{name}"] = np.asarray(counts, np.int64)
    sums["counts"] = np.array([weight, weight, 2, seed], np.int64)
    return sums


def make_plan(members: list[Member], port: int, spec: RoundSpec, generation: int = 1) -> RingPlan:
    return RingPlan(
        round_id=spec.round_id,
        generation=generation,
        members=tuple(m.name for m in members),
        rendezvous_host="127.0.0.1",
        rendezvous_port=port,
        interface="lo",
        timeout_s=20,
        total_weight=100,
    )


def send(
    members: list[Member],
    plan: RingPlan,
    spec: RoundSpec,
    sums: list[dict[str, Any]],
    traces: Path | None = None,
) -> None:
    for member, own in zip(members, sums, strict=True):
        header = AggregateHeader(
            region=REGION,
            hospital=member.name,
            round_id=spec.round_id,
            base_digest=spec.base_digest,
            weight=int(own["counts"][0]),
            num_updates=0,
            num_evaluations=0,
            num_saturated=0,
        )
        aggregate, base = member.folder / "aggregate", member.folder / "base"
        aggregate.write_bytes(wire.encode(header, own))
        model = ModelHeader(region=REGION, task="dummy", digest=spec.base_digest, made_by_round=0)
        base.write_bytes(wire.encode(model, make_base()))
        member.rank.join(
            Join(
                plan=plan,
                spec=spec,
                hospital=member.name,
                rank=plan.members.index(member.name),
                interface="lo",
                cycle_ms=10,
                aggregate=str(aggregate),
                base=str(base),
                state=None,
                out=str(member.folder / "sums"),
                trace=Traces(traces, member.name).path(plan.generation),
            )
        )


def plain_sum(sums: list[dict[str, Any]]) -> dict[str, npt.NDArray[np.int64]]:
    return {name: np.sum([own[name] for own in sums], axis=0) for name in sums[0]}


def plain_model(spec: RoundSpec, total: dict[str, Any]) -> dict[str, npt.NDArray[np.float32]]:
    weight = np.float64(total["counts"][0])
    exponents = spec.fixed_point.exponents
    return {
        name: np.asarray(
            base.astype(np.float64) + total[f"update/{name}"] * 2.0 ** exponents[name] / weight,
            np.float32,
        )
        for name, base in make_base().items()
    }


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ring_sums_equal_numpy_and_one_world_serves_several_rounds(
    size: int,
    hospitals: Callable[[int], list[Member]],
    rendezvous: Callable[[list[Member]], int],
) -> None:
    members = hospitals(size)
    port = rendezvous(members)
    pids = [m.rank.pid for m in members]
    for round_id, purpose in enumerate(("train", "train", "evaluate"), start=1):
        spec = make_spec(round_id, purpose)
        weights = [0] * (size - 1) + [4]  # all but one bring nothing
        sums = [
            make_sums(spec, seed=10 * round_id + i, weight=w if size > 1 else 4)
            for i, w in enumerate(weights)
        ]
        send(members, make_plan(members, port, spec), spec, sums)
        said = results(members, round_id)
        total = plain_sum(sums)
        assert {r.sums_digest for r in said} == {tensors_digest(total)}
        header, tensors = wire.decode(Path(said[0].path).read_bytes(), RingSumHeader)
        assert all(np.array_equal(tensors[name], total[name]) for name in total)
        assert header.weight == said[0].weight == 4
        expected = (
            tensors_digest(plain_model(spec, total)) if purpose == "train" else spec.base_digest
        )
        assert {r.model_digest for r in said} == {expected}
    assert [m.rank.pid for m in members] == pids
    assert all(m.rank.state == "joined" for m in members)


def test_zero_weight_everywhere_leaves_model_and_state(
    hospitals: Callable[[int], list[Member]], rendezvous: Callable[[list[Member]], int]
) -> None:
    members = hospitals(2)
    spec = make_spec()
    sums = [make_sums(spec, seed=i, weight=0) for i in range(2)]
    send(members, make_plan(members, rendezvous(members), spec), spec, sums)
    for said in results(members, 1):
        assert (said.model_digest, said.state_digest, said.weight) == (
            spec.base_digest,
            spec.state_digest,
            0,
        )


def test_horovods_trace_is_whole_json_after_the_rank_was_killed(
    hospitals: Callable[[int], list[Member]],
    rendezvous: Callable[[list[Member]], int],
    tmp_path: Path,
) -> None:
    members = hospitals(2)
    port = rendezvous(members)
    for round_id in (1, 2):
        spec = make_spec(round_id)
        sums = [make_sums(spec, seed=i) for i in range(2)]
        send(members, make_plan(members, port, spec), spec, sums, tmp_path / "traces")
        results(members, round_id)
    for member in members:
        member.rank.kill()
    (trace,) = (tmp_path / "traces").iterdir()  # rank 0's alone
    assert trace.name == f"{members[0].name}-000001.json"
    events = json.loads(trace.read_text())
    assert sum(event.get("name") == "GLOO_ALLREDUCE" for event in events) == 2


def test_killed_rank_breaks_the_ring_which_forms_again_in_the_next_generation(
    hospitals: Callable[[int], list[Member]], rendezvous: Callable[[list[Member]], int]
) -> None:
    members = hospitals(3)
    spec = make_spec()
    sums = [make_sums(spec, seed=i) for i in range(3)]
    # Two join, the third is killed on its way: no ring can form.
    plan = make_plan(members, rendezvous(members), spec)
    send(members[:2], plan, spec, sums[:2])
    os.kill(members[2].rank.pid, signal.SIGKILL)
    wait_until(members, lambda: members[2].last(Lost) is not None, "the death")
    for member in members[:2]:  # what their edge nodes do when the generation is given up
        member.rank.renew(time.monotonic())
    wait_until(members, lambda: all(m.rank.state == "warm" for m in members), "warm again")

    plan = make_plan(members, rendezvous(members), spec, generation=2)
    send(members, plan, spec, sums)
    assert {r.sums_digest for r in results(members, 1)} == {tensors_digest(plain_sum(sums))}
    assert all(r.generation == 2 for r in results(members, 1))


def test_survivors_of_a_formed_ring_end_with_an_error_or_are_killed_in_time(
    hospitals: Callable[[int], list[Member]], rendezvous: Callable[[list[Member]], int]
) -> None:
    members = hospitals(3)
    first, second = make_spec(1), make_spec(2)
    sums = [make_sums(first, seed=i) for i in range(3)]
    plan = make_plan(members, rendezvous(members), first)
    send(members, plan, first, sums)
    results(members, 1)

    os.kill(members[0].rank.pid, signal.SIGKILL)
    again = plan.model_copy(update={"round_id": 2})
    send(members[1:], again, second, sums[1:])
    survivors = members[1:]
    wait_until(
        members,
        lambda: any(m.last(Failed) or m.last(Lost) for m in survivors),
        "a survivor that says so",
    )
    assert not any((r := m.last(Computed)) and r.round_id == 2 for m in survivors)


def test_aggregate_of_another_shape_is_refused_before_the_allreduce(
    hospitals: Callable[[int], list[Member]], rendezvous: Callable[[list[Member]], int]
) -> None:
    members = hospitals(1)
    spec = make_spec()
    sums = make_sums(spec, seed=0)
    sums["update/odd"] = np.zeros(2, np.int64)
    send(members, make_plan(members, rendezvous(members), spec), spec, [sums])
    wait_until(members, lambda: members[0].last(Failed) is not None, "the refusal")
    assert "not those of the round" in members[0].last(Failed).reason


def test_rank_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from common import logs; logs.set_up()\n"
        "from edge.rank_process import RankProcess\n"
        "from queue import SimpleQueue\nnews = SimpleQueue()\n"
        "rank = RankProcess(sys.executable, news.put)\n"
        "rank.tick(0.0)\nwhile rank.state != 'warm': rank.heard(news.get(), 0.0)\n"
        "print(rank.pid, flush=True); time.sleep(600)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", script, root], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in _state(pid):
        assert time.monotonic() < deadline, "the rank outlives its parent"
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
