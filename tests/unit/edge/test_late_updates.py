"""Updates that missed their round: taken, weighed by their age, and given one fate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common import fixedpoint, wire
from common.digest import tensors_digest
from common.errors import ContractError
from common.messages import AggregateHeader, FixedPoint, Reason, RoundSpec
from edge.aggregate import aggregate
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    SHAPES,
    make_integers,
    make_model,
    make_outcome,
    make_spec,
    make_state,
    make_update,
    put_model,
)
from tests.unit.edge.hospital import Hospital

NEXT = tensors_digest(make_model(1))
AFTER = tensors_digest(make_model(2))
LATE = {"max_staleness": 2}


def second(**changes: object) -> RoundSpec:
    return make_spec(2, NEXT, late_bases=(BASE,), **(LATE | changes))


def finer(exponents: dict[str, int], by: int) -> dict[str, int]:
    return {name: exponent - by for name, exponent in exponents.items()}


def test_a_late_update_counts_as_a_difference_to_its_own_base_in_256ths() -> None:
    first = make_spec(**LATE)  # type: ignore[arg-type]  # a builder's keywords
    exponents = finer(first.fixed_point.exponents, 1)
    spec = second(fixed_point={"clip_norm": 1.0, "exponents": exponents})
    fresh = make_update("band-a", 1, base_digest=NEXT, round_id=2)
    late = make_update("band-b", 2, round_id=2)
    made = aggregate(HOSPITAL, spec, SHAPES, [fresh, late], [], {BASE: first.fixed_point})
    for name in SHAPES:
        plain = 256 * make_integers(1)[name].astype(np.int64)
        plain += 181 * 2 * make_integers(2)[name].astype(np.int64)
        assert np.array_equal(made.tensors[f"update/{name}"], plain)
    assert (made.header.weight, made.header.num_updates) == (256 + 181, 2)
    assert (made.members, made.late_members) == (("band-a",), (("band-b", BASE),))


def test_what_leaves_the_range_in_finer_steps_saturates_and_is_counted() -> None:
    first = make_spec(**LATE)  # type: ignore[arg-type]  # a builder's keywords
    exponents = finer(first.fixed_point.exponents, 6)
    spec = second(fixed_point={"clip_norm": 1.0, "exponents": exponents})
    made = aggregate(HOSPITAL, spec, SHAPES, [make_update()], [], {BASE: first.fixed_point})
    beyond = sum(int(np.sum(np.abs(v.astype(int)) * 64 > 32767)) for v in make_integers().values())
    assert beyond > 0
    assert made.header.num_saturated == beyond
    largest = max(int(np.abs(made.tensors[f"update/{name}"]).max()) for name in SHAPES)
    assert largest == 181 * 32767


def test_coarser_steps_are_refused() -> None:
    first = make_spec(**LATE)  # type: ignore[arg-type]  # a builder's keywords
    form = FixedPoint(clip_norm=1.0, exponents=finer(first.fixed_point.exponents, 1))
    with pytest.raises(ContractError, match="have grown"):
        aggregate(HOSPITAL, second(), SHAPES, [make_update()], [], {BASE: form})


def test_min_devices_counts_devices_not_updates() -> None:
    spec = second(min_devices=2)
    both = [make_update(base_digest=NEXT), make_update()]
    made = aggregate(HOSPITAL, spec, SHAPES, both, [], {BASE: spec.fixed_point})
    assert made.header.num_updates == 0


class Region:
    """A hospital whose region commits a first round and opens a second."""

    def __init__(self, folder: Path, **late: object) -> None:
        self.hospital = Hospital(folder)
        for seed in (1, 2):
            put_model(self.hospital.coordinators, seed)
        self.hospital.hear(make_state(spec=make_spec(**(LATE | late))))  # type: ignore[arg-type]

    def deliver(self, device: str, **header: object) -> Reason | None:
        return self.hospital.receipt(make_update(device, **header), device).reason  # type: ignore[arg-type]

    def commit(self, round_id: int, spec: RoundSpec, following: RoundSpec, counted: bool) -> None:
        told = self.hospital.step(now=200.0)
        assert told.aggregate_digest
        outcome = make_outcome(
            round_id,
            base_digest=spec.base_digest,
            aggregates={HOSPITAL: told.aggregate_digest} if counted else {},
        )
        state = make_state(spec=following, revision=round_id + 1, outcome=outcome)
        self.hospital.hear(state, now=200.0)


def test_an_update_of_a_hospital_that_was_left_out_counts_late(tmp_path: Path) -> None:
    region = Region(tmp_path)
    region.deliver("band-a")
    region.commit(1, make_spec(**LATE), second(closes_at=300.0), counted=False)  # type: ignore[arg-type]
    assert region.hospital.fates() == {"band-a": "waiting"}
    third = make_spec(3, AFTER, late_bases=(NEXT, BASE), closes_at=300.0, **LATE)
    region.hospital.step(now=301.0)
    region.commit(2, second(), third, counted=True)
    assert region.hospital.fates() == {"band-a": "counted"}


def test_a_wristband_that_comes_a_round_late_is_stored_and_counted(tmp_path: Path) -> None:
    region = Region(tmp_path)
    region.deliver("band-b", seed=5)
    region.commit(1, make_spec(**LATE), second(closes_at=300.0), counted=True)  # type: ignore[arg-type]
    assert region.deliver("band-a", round_id=2) is None
    assert region.hospital.step(now=201.0).num_stored == 1
    region.hospital.step(now=301.0)
    path = sorted((tmp_path / "state" / "rounds").glob("aggregate-*"))[-1]
    header, _ = wire.decode(path.read_bytes(), AggregateHeader)
    assert (header.weight, header.num_updates) == (181, 1)
    third = make_spec(3, AFTER, late_bases=(NEXT, BASE), closes_at=300.0, **LATE)
    region.commit(2, second(), third, counted=True)
    assert region.hospital.fates() == {"band-a": "counted", "band-b": "counted"}


def test_a_base_too_old_is_refused_as_stale_and_one_never_seen_as_wrong(tmp_path: Path) -> None:
    region = Region(tmp_path, max_staleness=0)
    following = make_spec(2, NEXT, closes_at=300.0)
    region.commit(1, make_spec(), following, counted=True)
    assert region.deliver("band-a", round_id=2) is Reason.STALE
    assert region.deliver("band-b", round_id=2, base_digest="9" * 64) is Reason.WRONG_BASE


def test_what_no_later_round_takes_becomes_stale(tmp_path: Path) -> None:
    region = Region(tmp_path)
    region.deliver("band-a")
    region.commit(1, make_spec(**LATE), second(closes_at=300.0), counted=False)  # type: ignore[arg-type]
    following = make_spec(3, AFTER, late_bases=(NEXT,), closes_at=300.0, **LATE)
    region.hospital.hear(make_state(spec=following, revision=9), now=201.0)
    assert region.hospital.fates() == {"band-a": "stale"}


def test_an_evaluation_round_lets_late_updates_wait(tmp_path: Path) -> None:
    region = Region(tmp_path)
    region.deliver("band-a")
    pausing = second(purpose="evaluate", evaluate=(NEXT,), closes_at=300.0)
    region.commit(1, make_spec(**LATE), pausing, counted=False)  # type: ignore[arg-type]
    assert region.hospital.fates() == {"band-a": "waiting"}


def test_without_the_policy_a_hospital_left_out_leaves_its_updates_out(tmp_path: Path) -> None:
    region = Region(tmp_path, max_staleness=0)
    region.deliver("band-a")
    region.commit(1, make_spec(), make_spec(2, NEXT, closes_at=300.0), counted=False)
    assert region.hospital.fates() == {"band-a": "left_out"}


def test_an_integer_below_the_symmetric_range_is_refused(tmp_path: Path) -> None:
    region = Region(tmp_path)
    tensors = {name: np.zeros(shape, np.int16) for name, shape in SHAPES.items()}
    tensors["bias"][0] = -32768
    assert -fixedpoint.largest(16) == -32767
    assert region.deliver("band-a", tensors=tensors) is Reason.OUT_OF_RANGE
