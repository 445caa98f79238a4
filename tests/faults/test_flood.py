"""Malformed messages through a broker, good wristbands beside them, against a real edge node."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.floodbed.trial import Case, run
from simulators.broker_process import default_kind, mosquitto_program

RSS_GROWTH_MIB = 256
RATE_KEPT = 0.2  # the figure is bench-flood's; here the machine may be busy


@pytest.mark.slow
def test_ten_thousand_malformed_messages_cost_no_good_update(tmp_path: Path) -> None:
    """`run` holds that all good ones are stored, once, and all malformed ones counted."""
    kind = "mosquitto" if mosquitto_program() else default_kind()
    case = Case(kind, 10_000, 500, mute_after=0, good_per_s=40, seconds=20, pairs=1)
    figures = run(case, tmp_path)
    assert figures["num_attacked"] == 10_000
    assert figures["results"]["malformed"] > 1000
    assert figures["rss_mib"] < figures["rss_before_mib"] + RSS_GROWTH_MIB
    assert figures["worst_ratio"] > RATE_KEPT
