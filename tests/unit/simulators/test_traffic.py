from __future__ import annotations

from simulators.traffic import Traffic


def test_counts_payload_and_topic_bytes_by_device_and_round() -> None:
    traffic = Traffic()
    traffic.sent("a", 1, "t/u", b"12345")
    traffic.sent("a", 1, "t/u", b"12345")
    traffic.received("b", 1, "t/µ", b"")
    traffic.sent("a", 2, "t/u", b"1")
    report = traffic.report()
    assert report["bytes_up"] == 8 + 8 + 4
    assert report["bytes_down"] == 4
    assert report["devices"]["a"] == {
        "1": {"bytes_up": 16, "bytes_down": 0},
        "2": {"bytes_up": 4, "bytes_down": 0},
    }
    assert [r["mean_bytes_up"] for r in report["rounds"]] == [8.0, 4.0]


def test_report_of_a_fleet_that_never_spoke_is_empty() -> None:
    assert Traffic().report()["rounds"] == []
