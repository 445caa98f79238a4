"""Logs go to stderr as it is, and never stop a service."""

import io
import json
import sys

import pytest
import structlog

from common import logs


def test_json_line_carries_event_level_time_and_bound_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(form="json", tier="edge", hospital_id="north")
    structlog.get_logger().warning("broker_lost", round_id=3)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "broker_lost",
        "level": "warning",
        "tier": "edge",
        "hospital_id": "north",
        "round_id": 3,
    }


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("warning")
    structlog.get_logger().info("round_opened")
    assert capsys.readouterr().err == ""


def test_closed_stderr_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", closed)
    logs.set_up()
    closed.close()
    structlog.get_logger().error("nobody_hears")
