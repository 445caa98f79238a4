"""The closing summary of `make demo`: what was learnt, at what cost, and what it may not claim."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from common.notice import MEANING_OF_N, SYNTHETIC_NOTICE
from simulators.demo_view import notice_panel, report_table, rounds_table, rows_of, share

Rounds = Sequence[Mapping[str, Any]]
Decisions = Mapping[int, Mapping[str, Any]]


def summarise(
    rounds: Rounds,
    decisions: Decisions,
    traffic: Mapping[str, Any],
    data_source: str,
    seconds: float,
) -> dict[str, Any]:
    """The summary as JSON values.

    Parameters
    ----------
    rounds : sequence of mapping
        The coordinator's report.
    decisions : mapping of int to mapping
        What ``python -m cloud daily --json`` said of each day.
    traffic : mapping
        The fleet's report, empty when it left none.
    data_source : str
        ``mitdb`` or ``synthetic``.
    seconds : float
        From the start of the first process.
    """
    committed = [r for r in rounds if r["end"] == "committed" and r["purpose"] == "train"]
    released = [d["release"] for _, d in sorted(decisions.items()) if d.get("release")]
    return {
        "model_digest": committed[-1]["model_digest"] if committed else None,
        "release": released[-1]["name"] if released else None,
        "releases": {day: release_name(decision) for day, decision in decisions.items()},
        "data_source": data_source,
        "num_rounds": len(committed),
        "seconds": round(seconds, 1),
        "traffic": bytes_per_round(traffic, {r["round_id"] for r in committed}),
        "report": released[-1].get("report") if released else None,
        "rounds": list(rounds),
    }


def release_name(decision: Mapping[str, Any]) -> str | None:
    """Name of the release that a decision made, if it made one."""
    release = decision.get("release")
    return release["name"] if release else None


def bytes_per_round(traffic: Mapping[str, Any], rounds: set[int]) -> dict[str, Any]:
    """Median over `rounds` of the mean bytes that a wristband sent and received in one."""
    counted = [r for r in traffic.get("rounds", ()) if r["round_id"] in rounds]
    if not counted:
        return {}
    return {
        "counted": traffic["counted"],
        "up_per_device_round": statistics.median(r["mean_bytes_up"] for r in counted),
        "down_per_device_round": statistics.median(r["mean_bytes_down"] for r in counted),
    }


def show(console: Console, summary: Mapping[str, Any]) -> None:
    """Print rounds, report, bytes, digest and release."""
    console.print(rounds_table(rows_of(summary["rounds"])))
    if summary["report"]:
        _show_report(console, summary["report"], synthetic=summary["data_source"] == "synthetic")
    lines = []
    if summary["traffic"]:
        up, down = (summary["traffic"][f"{way}_per_device_round"] for way in ("up", "down"))
        lines.append(
            f"bytes per wristband and round: {up:,.0f} up, {down:,.0f} down (MQTT payloads, topics)"
        )
    lines += [
        f"regional model {summary['model_digest']}",
        f"release        {summary['release'] or 'none'}",
        f"{summary['num_rounds']} rounds committed in {summary['seconds']} s",
    ]
    console.print("\n" + "\n".join(lines), highlight=False)


def _show_report(console: Console, report: Mapping[str, Any], *, synthetic: bool) -> None:
    figures = report["figures"]
    where = "synthetic patients" if synthetic else "DS2, 22 patients that no wristband wore"
    console.print(
        f"\n{where}; scored after the decision, report only", style="bold", highlight=False
    )
    console.print(report_table(figures))
    overall = f"accuracy {share(figures['accuracy'])}   macro-F1 (N, S, V) {share(figures['macro_f1_nsv'])}"
    without = f"   S F1 without record 232 {share(figures['classes']['S']['f1_without_232'])}"
    console.print(overall + ("" if synthetic else without), highlight=False)
    console.print(f"{report['peaks']} R peaks. {MEANING_OF_N}", style="dim", highlight=False)
    if synthetic:
        console.print(notice_panel(SYNTHETIC_NOTICE, "Synthetic", "red"))
