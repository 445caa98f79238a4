"""A training round of a model of a given size, as the files and commands that ranks get."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.ring_vectors import NUM_DEVICES, Int64, expected_sum, hospital_sum
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
from common.round_sums import COUNTS, Counts
from edge.rank_protocol import Join

REGION = "bench"
CYCLE_MS = 1.0  # while a round runs
WAIT_S = 600.0  # ranks stand still while others are measured


@dataclass(frozen=True)
class Ring:
    """Where ranks meet."""

    members: tuple[str, ...]
    rendezvous_host: str
    rendezvous_port: int
    interface: str


class Round:
    """A round whose model has `size` parameters, with its files in `folder`.

    Every hospital's aggregate is the sum of ten updates of `bits` bits.
    """

    def __init__(self, folder: Path, ring: Ring, size: int, bits: fixedpoint.Bits) -> None:
        folder.mkdir(parents=True)
        self._folder, self._ring, self._size, self._bits = folder, ring, size, bits
        base = {name: np.zeros(num, np.float32) for name, num in _layers(size).items()}
        self._spec = _spec(base, bits)
        header = ModelHeader(
            region=REGION, task="bench", digest=self._spec.base_digest, made_by_round=0
        )
        (folder / "base").write_bytes(wire.encode(header, base))
        for site, hospital in enumerate(ring.members):
            sums = _sums(hospital_sum(site, size, bits), 1)
            (folder / hospital).write_bytes(wire.encode(self._header(hospital, sums), sums))
        total = _sums(expected_sum(len(ring.members), size, bits), len(ring.members))
        self.sums_digest = tensors_digest(total)

    def join(self, rank: int, round_id: int) -> Join:
        """What the edge node of that rank says to it."""
        hospital = self._ring.members[rank]
        return Join(
            plan=self._plan(round_id),
            spec=self._spec.model_copy(update={"round_id": round_id}),
            hospital=hospital,
            rank=rank,
            interface=self._ring.interface,
            cycle_ms=CYCLE_MS,
            aggregate=str(self._folder / hospital),
            base=str(self._folder / "base"),
            state=None,
            out=str(self._folder / f"{hospital}.sums"),
        )

    def _plan(self, round_id: int) -> RingPlan:
        fields = {
            "round_id": round_id,
            "generation": 1,
            "members": self._ring.members,
            "rendezvous_host": self._ring.rendezvous_host,
            "rendezvous_port": self._ring.rendezvous_port,
            "interface": self._ring.interface,
            "timeout_s": WAIT_S,
            "total_weight": NUM_DEVICES * len(self._ring.members),
        }
        return RingPlan.model_validate(
            {k: v for k, v in fields.items() if k in RingPlan.model_fields}
        )

    def _header(self, hospital: str, sums: dict[str, Int64]) -> AggregateHeader:
        return AggregateHeader(
            region=REGION,
            hospital=hospital,
            round_id=self._spec.round_id,
            base_digest=self._spec.base_digest,
            **Counts.of(sums)._asdict(),
        )


def _spec(base: dict[str, npt.NDArray[np.float32]], bits: fixedpoint.Bits) -> RoundSpec:
    digest = tensors_digest(base)
    return RoundSpec(
        region=REGION,
        day=1,
        cycle=1,
        round_id=1,
        task="bench",
        base_digest=digest,
        state_digest=tensors_digest({}),
        server=ServerRule(),
        local=LocalRule(learning_rate=0.01, num_steps=1, batch_size=1),
        fixed_point=FixedPoint(
            clip_norm=1.0, bits=bits, exponents=fixedpoint.first_exponents(base, 1.0, bits)
        ),
        locations={digest: f"{REGION}/ring/000001/base.safetensors"},
        opened_at=0.0,
        closes_at=1.0,
    )


def _layers(size: int) -> dict[str, int]:
    """A model with more than one tensor, the first of an odd size."""
    bias = size // 50 | 1
    return {"bias": bias, "weight": size - bias}


def _sums(vector: Int64, num_hospitals: int) -> dict[str, Int64]:
    bias = _layers(vector.size)["bias"]
    num = NUM_DEVICES * num_hospitals
    counts = Counts(weight=num, num_updates=num, num_evaluations=0, num_saturated=0)
    return {
        "update/bias": vector[:bias],
        "update/weight": vector[bias:],
        COUNTS: counts.tensor(),
    }
