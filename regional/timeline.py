"""Where the seconds of a committed round's ring went, hospital by hospital.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from typing import Any

from rich.table import Table
from rich.text import Text

from common.errors import ConfigError, QuorumError
from regional.records import Record, RoundEnded

PARTS = {"read": "blue", "pack": "cyan", "allreduce": "green", "unpack": "cyan", "step": "magenta"}
PARTS |= {"write": "yellow"}


def timeline(records: Iterable[Record], round_id: int | None = None) -> dict[str, Any]:
    """The timings of a round, of the last committed one when none is named.

    Returns
    -------
    dict
        What the round was, and for each hospital ``ready_s`` (from the round's opening until its
        aggregate was stored), ``parts`` (seconds of its rank's work, in their order), ``total_s``
        of these, and ``send_busy_s``, how long its link held data back within the allreduce.

    Raises
    ------
    ConfigError
        When there is no such round.
    QuorumError
        When it has no timings.
    """
    ended = [record for record in records if isinstance(record, RoundEnded)]
    found = _asked(ended, round_id)
    outcome = found.outcome
    if not found.timings:
        why = outcome.reason if outcome.end != "committed" else "an earlier version recorded it"
        raise QuorumError(f"round {outcome.round_id} ({outcome.end}) has no timings: {why}")
    return {
        "round_id": outcome.round_id,
        "day": outcome.day,
        "purpose": outcome.purpose,
        "generation": outcome.generation,
        "seconds": outcome.seconds,
        "ring_seconds": found.ring_seconds,
        "hospitals": {name: _hospital(found, name) for name in sorted(found.timings)},
    }


def headline(report: Mapping[str, Any]) -> str:
    """One sentence on the round."""
    return (
        f"round {report['round_id']} of day {report['day']}, ring {report['generation']}: "
        f"{report['seconds']:.2f} s, of which {report['ring_seconds']:.3f} s from plan to commit; "
        "parts of each rank's work in ms"
    )


def bars(report: Mapping[str, Any], width: int) -> Table:
    """One bar for each hospital, drawn with the first letters of its parts, on one scale.

    Parameters
    ----------
    width : int
        Columns of the longest bar.
    """
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("hospital", no_wrap=True, max_width=16)
    for name in ("ready s", *PARTS, "all"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    longest = max(each["total_s"] for each in report["hospitals"].values())
    for name, each in report["hospitals"].items():
        seconds = [each["parts"].get(f"{part}_s", 0.0) for part in PARTS]
        cells = [_ms(s) for s in (*seconds, each["total_s"])]
        ready = "–" if each["ready_s"] is None else f"{each['ready_s']:.2f}"
        table.add_row(name, ready, *cells, _bar(seconds, longest, width))
    return table


def _asked(ended: list[RoundEnded], round_id: int | None) -> RoundEnded:
    if round_id is None:
        committed = [each for each in ended if each.outcome.end == "committed"]
        if not committed:
            raise QuorumError("no round is committed yet")
        return committed[-1]
    found = next((each for each in ended if each.outcome.round_id == round_id), None)
    if found is None:
        last = ended[-1].outcome.round_id if ended else "none"
        raise ConfigError(f"round {round_id} has not ended; the last one that has: {last}")
    return found


def _hospital(ended: RoundEnded, name: str) -> dict[str, Any]:
    said = ended.timings[name]
    parts = {f"{part}_s": said[f"{part}_s"] for part in PARTS if f"{part}_s" in said}
    return {
        "ready_s": ended.lags.get(name),
        "parts": parts,
        "total_s": round(sum(parts.values()), 6),
        "send_busy_s": said.get("send_busy_s"),
    }


def _bar(seconds: list[float], longest: float, width: int) -> Text:
    """Edges are rounded, not lengths, so that equal totals are equally long."""
    scale = width / longest if longest > 0 else 0.0
    edges = [round(edge * scale) for edge in accumulate(seconds, initial=0.0)]
    text = Text()
    for (part, style), (begin, end) in zip(PARTS.items(), pairwise(edges), strict=True):
        text.append(part[0] * (end - begin), style=style)
    return text


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:.1f}" if ms < 10 else f"{ms:.0f}"
