from __future__ import annotations

from pathlib import Path

import pytest

from edge.disk import MB, DiskState, Limits, Usage, judge, measure

LIMITS = Limits(quota_bytes=100 * MB, reserve_bytes=50 * MB)


@pytest.mark.parametrize(
    ("used_mb", "free_mb", "before", "state"),
    [
        (10, 500, "ok", "ok"),
        (80, 500, "ok", "low"),
        (100, 500, "low", "full"),
        (96, 500, "full", "full"),
        (94, 500, "full", "low"),
        (10, 99, "ok", "low"),
        (10, 49, "ok", "full"),
        (10, 54, "full", "full"),
        (10, 56, "full", "low"),
        (10, 500, "full", "ok"),
    ],
)
def test_state_follows_quota_and_reserve_and_does_not_flicker(
    used_mb: int, free_mb: int, before: DiskState, state: str
) -> None:
    assert judge(Usage(used_mb * MB, free_mb * MB), LIMITS, before).state == state


def test_zero_switches_a_limit_off() -> None:
    assert judge(Usage(1 << 40, 0), Limits(0, 0), "ok").state == "ok"


@pytest.mark.parametrize(
    ("usage", "key"), [(Usage(200 * MB, 500 * MB), "disk_quota_mb"), (Usage(0, 0), "min_free_mb")]
)
def test_full_names_the_key_and_the_remedy(usage: Usage, key: str) -> None:
    why = judge(usage, LIMITS, "ok").why
    assert key in why
    assert ": intake waits; " in why


def test_all_files_count_but_what_is_free_in_the_ledger_does_not(tmp_path: Path) -> None:
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "sums").write_bytes(bytes(1000))
    (tmp_path / "ledger.sqlite").write_bytes(bytes(500))
    (tmp_path / "ledger.sqlite-wal").write_bytes(bytes(70))
    usage = measure(tmp_path, reusable_bytes=200)
    assert (usage.used_bytes, usage.ledger_bytes) == (1370, 570)
    assert usage.free_bytes > 0


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "large").write_bytes(bytes(1 << 16))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "link").symlink_to(tmp_path / "elsewhere")
    assert measure(tmp_path / "state").used_bytes < 1000
