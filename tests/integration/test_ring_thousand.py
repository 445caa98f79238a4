"""A thousand random rounds, half of them sparse, on real rings of 1 to 16 ranks, against one sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common import fixedpoint, wire
from common.digest import tensors_digest
from common.messages import (
    AggregateHeader,
    FixedPoint,
    LocalRule,
    ModelHeader,
    RingPlan,
    RoundSpec,
    ServerRule,
)
from common.parts import part_shapes
from common.round_sums import Counts
from edge.rank_protocol import Join
from regional.rendezvous import Rendezvous
from tests.builders.ranks import Member, results, wait_until

REGION = "county"
RAM = Path("/dev/shm")
NUM_CASES = {size: 220 if size <= 4 else 10 for size in range(1, 17)}  # 1000; large rings are slow
Sums = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Case:
    """One round: what each hospital brings."""

    spec: RoundSpec
    base: dict[str, npt.NDArray[np.float32]]
    sums: list[Sums]

    @property
    def total_weight(self) -> int:
        return sum(int(own["counts"][0]) for own in self.sums)

    def expected(self) -> Sums:
        """In Python's own integers, so that no array can wrap around."""
        return {
            name: np.array(
                [sum(column) for column in zip(*(own[name].ravel().tolist() for own in self.sums), strict=True)],
                np.int64,
            ).reshape(self.sums[0][name].shape)
            for name in self.sums[0]
        }  # fmt: skip


def make_case(rng: np.random.Generator, round_id: int, num_ranks: int) -> Case:
    shapes = [
        tuple(int(n) for n in rng.integers(0, 9, rng.integers(0, 4)))
        for _ in range(rng.integers(1, 5))
    ]
    parts = 1 if rng.random() < 0.5 else int(rng.integers(2, 65))
    if parts > 1:
        shapes.append((int(rng.integers(16, 40)), 16))  # enough to be split
    base = {
        f"t{i}": rng.standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)
    }
    bits: fixedpoint.Bits = 16 if rng.random() < 0.5 else 8
    digest = tensors_digest(base)
    spec = RoundSpec(
        region=REGION,
        day=1,
        cycle=1,
        round_id=round_id,
        task="dummy",
        base_digest=digest,
        state_digest=tensors_digest({}),
        server=ServerRule(),
        local=LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        fixed_point=FixedPoint(
            clip_norm=1.0,
            bits=bits,
            exponents=fixedpoint.first_exponents(base, 1.0, bits),
            parts=parts,
            part=int(rng.integers(parts)),
            order=int(rng.integers(1 << 53)),
        ),
        evaluate=(digest,),
        evaluation_shapes={"confusion": (2, 2)},
        locations={digest: f"{REGION}/ring/000001/base.safetensors"},
        opened_at=0.0,
        closes_at=1.0,
    )
    weights = [int(w) for w in rng.choice([0, 1, 7, 5000], num_ranks)]
    sums = [make_sums(rng, spec, base, weight) for weight in weights]
    return Case(spec, base, sums)


def make_sums(rng: np.random.Generator, spec: RoundSpec, base: dict[str, Any], weight: int) -> Sums:
    most = weight * fixedpoint.largest(spec.fixed_point.bits)
    extreme = rng.random() < 0.3  # every number at its bound
    sums: Sums = {}
    for name, shape in part_shapes(spec.fixed_point, wire.shapes_of(base)).items():
        numbers = rng.integers(-most, most + 1, shape)
        sums[f"update/{name}"] = np.sign(numbers) * most if extreme else numbers
    sums[f"evaluation/{spec.base_digest}/confusion"] = rng.integers(0, 1 << 48, (2, 2))
    sums["counts"] = Counts(weight, weight, int(rng.integers(0, 9)), 0).tensor()
    return sums


def send(members: list[Member], order: npt.NDArray[np.intp], plan: RingPlan, case: Case) -> None:
    for rank in order:
        member, own = members[rank], case.sums[rank]
        header = AggregateHeader(
            region=REGION,
            hospital=member.name,
            round_id=plan.round_id,
            base_digest=case.spec.base_digest,
            **Counts.of(own)._asdict(),
        )
        model = ModelHeader(
            region=REGION, task="dummy", digest=case.spec.base_digest, made_by_round=0
        )
        (member.folder / "aggregate").write_bytes(wire.encode(header, own))
        (member.folder / "base").write_bytes(wire.encode(model, case.base))
        member.rank.join(
            Join(
                plan=plan,
                spec=case.spec,
                hospital=member.name,
                rank=int(rank),
                interface="lo",
                cycle_ms=1,
                aggregate=str(member.folder / "aggregate"),
                base=str(member.folder / "base"),
                state=None,
                out=str(member.folder / "sums"),
            )
        )


@pytest.fixture
def sixteen() -> Iterator[list[Member]]:
    """Sixteen keepers, whose ranks are renewed for each ring size; in memory, as ranks fsync."""
    with TemporaryDirectory(dir=RAM if RAM.is_dir() else None) as folder:
        made = [Member(f"hospital-{i}", Path(folder) / f"hospital-{i}") for i in range(16)]
        yield made
        for member in made:
            member.rank.kill()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_rounds_on_rings_of_1_to_16_ranks_give_the_integer_sum(
    sixteen: list[Member],
) -> None:
    rng = np.random.default_rng(4)
    rendezvous = Rendezvous("127.0.0.1")
    round_id = 0
    for size, num_cases in NUM_CASES.items():
        for member in sixteen:
            if member.rank.state == "joined":
                member.rank.renew(0.0)
        wait_until(sixteen, lambda: all(m.rank.state == "warm" for m in sixteen), "warm ranks", 240)
        members = [sixteen[i] for i in rng.permutation(16)[:size]]
        names = tuple(member.name for member in members)
        port = rendezvous.start(names)
        for _ in range(num_cases):
            round_id += 1
            case = make_case(rng, round_id, size)
            plan = RingPlan(
                round_id=round_id,
                generation=size,
                members=names,
                rendezvous_host="127.0.0.1",
                rendezvous_port=port,
                interface="lo",
                timeout_s=60,
                total_weight=case.total_weight,
            )
            send(members, rng.permutation(size), plan, case)
            digests = {said.sums_digest for said in results(members, round_id)}
            assert digests == {tensors_digest(case.expected())}, (size, round_id)
    rendezvous.stop()
    assert round_id >= 1000
