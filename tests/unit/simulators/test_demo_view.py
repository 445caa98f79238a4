"""The demo's table and summary, from reports as coordinator, cloud and fleet write them."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from common.notice import SYNTHETIC_NOTICE
from simulators.demo_summary import bytes_per_round, show, summarise
from simulators.demo_view import Scene, render, rows_of

PERFECT = [[9, 0, 0, 0, 0], [0, 3, 0, 0, 0], [0, 0, 2, 0, 0], [0] * 5, [0] * 5]


def make_round(round_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "day": 1,
        "round_id": round_id,
        "purpose": "train",
        "end": "committed",
        "reason": "all hospitals took part",
        "num_invited": 22,
        "num_stored": 22,
        "num_rejected": 0,
        "generation": 1,
        "seconds": 2.0,
        "complete": True,
        "base_digest": f"model{round_id - 1}",
        "model_digest": f"model{round_id}",
        "evaluation": {f"model{round_id - 1}": {"confusion": [[1, 1], [1, 1]]}},
        **changes,
    }


def make_report(source: str) -> dict[str, Any]:
    figures = {"num_beats": 9, "sensitivity": 1.0, "positive_predictivity": 0.5, "f1": None}
    classes = {name: dict(figures) for name in "NSVFQ"}
    classes["S"]["f1_without_232"] = 0.25
    return {
        "source": source,
        "peaks": "reference",
        "figures": {"classes": classes, "accuracy": 0.9, "macro_f1_nsv": 0.8},
    }


def printed(*things: Any, width: int = 80) -> str:
    console = Console(width=width, record=True, file=StringIO())
    for thing in things:
        console.print(thing)
    return console.export_text()


def test_figure_of_a_round_is_of_the_model_it_made() -> None:
    evaluation = {"model2": {"confusion": PERFECT}}
    rows = rows_of([make_round(1), make_round(2), make_round(3, evaluation=evaluation)])
    assert [row.macro_f1 for row in rows] == [0.5, 1.0, None]


def test_round_that_nobody_evaluated_has_no_figure() -> None:
    [row] = rows_of([make_round(1, evaluation={})])
    assert row.macro_f1 is None


def test_table_fits_a_terminal_of_80_columns() -> None:
    rows = rows_of([make_round(1, end="skipped"), make_round(2, complete=False)])
    text = printed(render(Scene(rows=rows)))
    assert "skipped" in text
    assert "committed late" in text
    assert "…" not in text.replace("…  skipped", "").splitlines()[0]


def test_hospital_that_went_away_is_told() -> None:
    status = {
        "num_stored": 1,
        "num_invited": 8,
        "num_rejected": 0,
        "phase": "collecting",
        "online": False,
        "rank": "lost",
        "rank_pid": 0,
    }
    assert "away" in printed(render(Scene(hospitals={"north": status})))


def test_bytes_are_the_median_over_committed_rounds() -> None:
    rounds = [
        {"round_id": i, "mean_bytes_up": up, "mean_bytes_down": 2 * up}
        for i, up in ((1, 10), (2, 30), (3, 20), (4, 999))
    ]
    traffic = bytes_per_round({"counted": "all", "rounds": rounds}, {1, 2, 3})
    assert (traffic["up_per_device_round"], traffic["down_per_device_round"]) == (20, 40)


def test_fleet_that_left_no_report_costs_the_bytes_only() -> None:
    summary = summarise([make_round(1)], {}, {}, "mitdb", 1.0)
    assert summary["traffic"] == {}
    assert summary["model_digest"] == "model1"
    assert summary["release"] is None


def test_summary_names_the_last_release_and_its_report() -> None:
    decisions: dict[int, dict[str, Any]] = {
        1: {"release": {"name": "county-d0001-aa", "report": make_report("mitdb")}},
        2: {"release": None},
    }
    summary = summarise([make_round(1)], decisions, {}, "mitdb", 1.0)
    assert summary["release"] == "county-d0001-aa"
    console = Console(width=80, record=True, file=StringIO())
    show(console, summary)
    text = console.export_text()
    assert "S F1 without record 232 0.250" in text
    assert "n/a" in text
    assert "county-d0001-aa" in text


def test_synthetic_figures_are_never_shown_as_real() -> None:
    decisions = {1: {"release": {"name": "county-d0001-aa", "report": make_report("synthetic")}}}
    console = Console(width=200, record=True, file=StringIO())
    show(console, summarise([make_round(1)], decisions, {}, "synthetic", 1.0))
    text = console.export_text()
    assert SYNTHETIC_NOTICE in text
    assert "DS2" not in text
    assert "232" not in text
