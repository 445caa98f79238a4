"""Committed rounds taken again from a real mailbox, whole and harmed."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.mailbox import message_path
from regional.recheck import Check, Claim, check, claims
from regional.records import HospitalAdmitted, Record, RoundEnded, RoundOpened
from tests.unit.regional.disk import Disk, make_ring

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
