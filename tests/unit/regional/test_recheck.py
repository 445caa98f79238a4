"""Committed rounds taken again from a real mailbox, whole and harmed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.mailbox import message_path
from regional.late import Contribution
from regional.messages import PutModels, RepeatStep, StepRepeated
from regional.outcomes import committed
from regional.recheck import Check, Claim, check, claims
from regional.records import HospitalAdmitted, Record, RoundEnded, RoundOpened
from regional.region import restore
from tests.unit.regional.disk import Disk, make_ring
from tests.unit.regional.test_groups import slow_world
from tests.unit.regional.world import finished

NUM_ROUNDS = 3


class Committed(Disk):
    """A region with a few committed rounds; `records` is what its ledger would hold."""

    def __init__(self, folder: Path, algorithm: str = "fedavg") -> None:
        super().__init__(folder, algorithm=algorithm)
        self.records: list[Record] = [HospitalAdmitted(hospital="east")]
        for _ in range(NUM_ROUNDS):
            spec, ended = self.commit(make_ring())
            self.records += [RoundOpened(spec=spec), ended]

    def claim(self, number: int) -> Claim:
        (found,) = claims(self.records, number, number)
        return found

    def check(self, number: int) -> Check:
        return check(self.config, self.claim(number))

    def file(self, number: int, digest: str | None) -> Path:
        path = message_path("county", "ring", number, f"{digest}.safetensors")
        return Path(self.config.mailbox) / path


@pytest.fixture
def region(tmp_path: Path) -> Committed:
    return Committed(tmp_path)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedadam"])
def test_every_committed_round_gives_again_what_the_ledger_says(
    tmp_path: Path, algorithm: str
) -> None:
    region = Committed(tmp_path, algorithm)
    checks = [check(region.config, claim) for claim in claims(region.records)]
    assert [(c.round_id, c.verdict, c.reason) for c in checks] == [
        (number, "equal", "") for number in (1, 2, 3)
    ]


def test_ledger_that_names_another_model_differs(region: Committed) -> None:
    claim = region.claim(2)
    wrong = claim.ended.outcome.model_copy(update={"model_digest": "a" * 64})
    ended = claim.ended.model_copy(update={"outcome": wrong, "num_updates": 7})
    region.records[region.records.index(claim.ended)] = ended
    found = region.check(2)
    assert found.verdict == "unreadable"  # nor does such a model lie in the mailbox
    shown = check(
        region.config, Claim(claim.spec, claim.ended.model_copy(update={"num_updates": 7}))
    )
    assert (shown.verdict, "num_updates: recorded 7, computed 1" in shown.reason) == (
        "differs",
        True,
    )


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_sums_that_are_cut_off_are_named(region: Committed, cut: int) -> None:
    path = region.file(2, region.claim(2).ended.outcome.sums_digest)
    path.write_bytes(path.read_bytes()[:cut])
    found = region.check(2)
    assert (found.verdict, path.name in found.reason) == ("unreadable", True)
    assert [region.check(number).verdict for number in (1, 3)] == ["equal", "equal"]


def test_sums_with_one_bit_changed_are_named(region: Committed) -> None:
    path = region.file(1, region.claim(1).ended.outcome.sums_digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = region.check(1)
    assert (found.verdict, path.name in found.reason) == ("unreadable", True)
    assert "signature" in found.reason


def test_missing_sums_base_or_model_are_named(region: Committed) -> None:
    ended = region.claim(2).ended.outcome
    for number, digest in ((2, ended.sums_digest), (2, ended.model_digest)):
        path = region.file(number, digest)
        data = path.read_bytes()
        path.unlink()
        found = region.check(2)
        assert (found.verdict, path.name in found.reason) == ("unreadable", True)
        path.write_bytes(data)
    path = region.file(2, ended.model_digest)
    path.unlink()
    assert path.name in region.check(3).reason


def test_only_committed_rounds_of_the_range_are_claims(region: Committed) -> None:
    skipped = region.claim(3).ended
    outcome = skipped.outcome.model_copy(update={"end": "skipped"})
    region.records[-1] = skipped.model_copy(update={"outcome": outcome})
    assert [c.ended.outcome.round_id for c in claims(region.records)] == [1, 2]
    assert [c.ended.outcome.round_id for c in claims(region.records, 2)] == [2]
    assert [c.ended.outcome.round_id for c in claims(region.records, 1, 1)] == [1]
    assert all(isinstance(c.ended, RoundEnded) for c in claims(region.records))


def test_nothing_is_written(region: Committed, tmp_path: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    for number in (1, 2, 3):
        region.check(number)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_sums_of_slow_groups_are_taken_again_with_their_age(region: Committed) -> None:
    slow, spec = region.open(), region.open()
    summed = region.put_sums(slow).sums_digest
    counted = Contribution(slow, summed, age=1)
    late = region.store.made_late(spec, [counted])
    plan = region.store.put_late(late, spec, (slow.round_id,))
    answer = region.hands.carry_out(RepeatStep(spec, region.put_sums(spec), plan))
    assert isinstance(answer, StepRepeated)
    region.hands.carry_out(PutModels(spec, answer.repeated))
    alone = restore(region.progress, now=1.0)
    ended = committed(alone, make_ring(), spec, answer.repeated, 2.0, region.config)
    claim = Claim(spec, ended, {}, plan, (counted,))
    assert check(region.config, claim).reason == ""
    older = replace(claim, contributions=(replace(counted, age=3),))
    assert "late_digest" in check(region.config, older).reason


def test_claims_of_rounds_that_counted_slow_groups_name_their_sums() -> None:
    world = slow_world()
    world.run(until=finished)
    found = claims(world.ledger)
    counting = [claim for claim in found if claim.late]
    assert counting
    for claim in counting:
        assert claim.late is not None
        assert tuple(c.spec.round_id for c in claim.contributions) == claim.late.rounds
        assert claim.ended.num_updates == 9 + claim.num_late_updates
    of_groups = [claim for claim in found if claim.ended.group]
    assert all(claim.spec.round_id == claim.ended.outcome.round_id for claim in of_groups)
