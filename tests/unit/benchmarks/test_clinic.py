"""The clinic benchmark: its control group, its counters, its memory, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import clinic
from benchmarks.clinicbed import body, cgroup, link
from benchmarks.clinicbed.body import Body
from benchmarks.clinicbed.cgroup import Group
from benchmarks.clinicbed.figures import figures, medians
from benchmarks.clinicbed.region import Order, ordered
from common.errors import ConfigError, QuorumError

SMAPS = """\
7f0000000000-7f0000100000 r-xp 00001000 fd:00 42                         /lib/libtorch.so
Size:               1024 kB
Rss:                 600 kB
Pss:                 200 kB
Anonymous:           100 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0                          [heap]
Rss:                 900 kB
Anonymous:           900 kB
"""


def make_reading(at: float, num_bytes: int, cpu_s: float) -> dict[str, Any]:
    told = Body({"edge node": 80.0, "keeper": 200.0}, 250.0, cpu_s)
    return {"at": at, "bytes": {"up_ring": num_bytes}, "body": vars(told)}


def make_round(number: int, purpose: str = "train", end: str = "committed") -> dict[str, Any]:
    return {
        "opened_at": 10.0 * number,
        "seconds": 6.0,
        "ring_seconds": 2.0,
        "purpose": purpose,
        "end": end,
    }


def make_measured(num_rounds: int = 4) -> dict[str, Any]:
    """Idle costs 1000 bytes and .1 CPU seconds a second; a round 5000 bytes and 2 CPU seconds more.

    A round is opened every 10 s; the idle time is the 100 s after the evaluation.
    """
    last = 10 * (num_rounds + 1)
    course = []
    for at in range(last + 112):
        done = max(0, min(at, last) // 10 - 1)
        course.append(make_reading(float(at), 1000 * at + 5000 * done, 0.1 * at + 2.0 * done))
    said = {"states": 10, "state_bytes": 30_000, "statuses": 5, "status_bytes": 5000}
    return {
        "rounds": [make_round(n) for n in range(1, num_rounds + 1)]
        + [make_round(num_rounds + 1, "evaluate")],
        "idle": {"began": last + 10.0, "ended": last + 110.0, "said": said},
        "course": course,
        "peak_bytes": 2**28,
        "num_killed": 0,
    }


def test_a_round_costs_what_is_over_idle_and_a_day_is_24_of_them() -> None:
    found = figures(make_measured())
    assert found["mb"]["up_ring"] == {"a_round": 0.005, "idle_day": 86.4, "day": 86.52}
    assert found["cpu_s"] == {"a_round": 2.0, "idle_day": 8640.0, "day": 8688.0}
    assert (found["round_s"], found["rounds_committed"]) == (6.0, 4)
    assert found["memory_mib"] == {
        "edge node": 80.0,
        "keeper": 200.0,
        "rank": 0.0,
        "together": 250.0,
    }
    assert found["memory_charged_mib"] == 256.0
    assert found["idle_said"]["region_state_bytes"] == 3000
    assert found["idle_said"]["statuses_a_minute"] == 3.0


def test_too_few_rounds_are_no_figure() -> None:
    with pytest.raises(QuorumError, match="2 rounds were committed"):
        figures(make_measured(2))


def test_medians_keep_the_form_and_join_lists() -> None:
    runs = [{"a": {"b": n}, "each": [n]} for n in (1.0, 5.0, 2.0)]
    assert medians(runs) == {"a": {"b": 2.0}, "each": [1.0, 5.0, 2.0]}


def test_table_compares_the_clinic_with_the_unlimited_one() -> None:
    arms = {name: figures(make_measured()) for name in clinic.ARMS}
    arms["unlimited"] |= {"round_s": 3.0}
    shown = clinic.table({"arms": arms})
    rows = dict(
        zip(*(column.cells for column in (shown.columns[0], shown.columns[-1])), strict=True)
    )
    assert rows["seconds a round"] == "2.00"
    assert rows["rank, MiB at most"] == "–"


def test_pages_of_files_count_without_what_is_anonymous_in_them() -> None:
    assert body._files(SMAPS) == {("00001000", "fd:00", "42"): 500 * 1024}


def test_own_memory_is_at_least_its_anonymous_part_and_has_a_role() -> None:
    import os

    found = body.body_of(os.getpid(), [os.getpid(), 2**22 + 1])
    assert set(found.rss_mib) == {"edge node"}
    assert 0 < found.together_mib <= 1.1 * found.rss_mib["edge node"]


def test_counters_are_named_by_way_and_port() -> None:
    text = link.rules({"broker": 1883})
    assert 'oifname "ring0" tcp dport 1883 counter name "up_broker" return' in text
    assert 'iifname "ring0" tcp sport 1883 counter name "down_broker" return' in text
    assert 'oifname "ring0" counter name "up_ring"' in text


@pytest.mark.parametrize(
    ("version", "limit", "peak", "events"),
    [
        (1, "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"),
        (2, "memory.max", "memory.peak", "memory.events"),
    ],
)
def test_both_versions_of_control_groups_are_spoken(
    tmp_path: Path, version: int, limit: str, peak: str, events: str
) -> None:
    (tmp_path / peak).write_text("4096\n")
    (tmp_path / events).write_text("low 0\noom_kill 3\n")
    (tmp_path / "cgroup.procs").write_text("7\n8\n")
    group = Group(tmp_path, version)
    group.limit(1_000_000_000)
    assert (tmp_path / limit).read_text() == "1000000000"
    assert (group.peak_bytes(), group.num_killed(), group.pids()) == (4096, 3, [7, 8])


def test_group_lies_below_our_own_so_that_our_limits_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.write_text("5:cpu:/\n4:memory:/user/me\n0::/\n")
    monkeypatch.setattr(cgroup, "OWN", own)
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    assert cgroup._parent() == (tmp_path / "memory/user/me", 1)
    own.write_text("0::/\n")
    with pytest.raises(ConfigError, match="no memory control group"):
        cgroup._parent()
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    assert cgroup._parent() == (tmp_path, 2)


def test_order_comes_back_as_it_was() -> None:
    order = Order("f", "10.0.0.1", ("a", "b", "c"), "10.0.0.2", "g", 1, "0", 5.0, 1.0, 12, 60.0)
    assert ordered(order.encoded()) == order
