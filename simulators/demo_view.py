"""What `make demo` shows: the table of rounds as it grows, and the closing summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Group
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from common.metrics.figures import macro_f1
from common.metrics.report import SCORED

END_STYLES = {"committed": "green", "skipped": "yellow", "aborted": "red"}
PHASES = {
    "open": "wristbands learn",
    "ring": "hospitals add up in the ring",
    "closed": "round closed",
    "sealing": "sealing the day",
    "waiting_for_release": "the cloud decides on the day's model",
    "finished": "all days are done",
}


@dataclass(frozen=True)
class RoundRow:
    """One ended round, as the table shows it."""

    day: int
    round_id: int
    purpose: str
    end: str
    reason: str
    num_invited: int
    num_stored: int
    num_rejected: int
    generation: int
    seconds: float
    complete: bool
    macro_f1: float | None


@dataclass
class Scene:
    """All that is on the screen at one moment."""

    rows: Sequence[RoundRow] = ()
    phase: str = ""
    day: int = 0
    round_id: int = 0
    hospitals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


def rows_of(rounds: Sequence[Mapping[str, Any]]) -> list[RoundRow]:
    """Rows from the coordinator's report; each round's macro-F1 is of the model it made.

    A round's ring also sums the evaluation of the model it started from, so the figure of a round
    is found in a later round that evaluated its model.
    """
    confusions = {
        digest: np.asarray(counts["confusion"], dtype=np.int64)
        for ended in rounds
        for digest, counts in ended.get("evaluation", {}).items()
        if "confusion" in counts
    }
    return [
        RoundRow(
            day=ended["day"],
            round_id=ended["round_id"],
            purpose=ended["purpose"],
            end=ended["end"],
            reason=ended["reason"],
            num_invited=ended["num_invited"],
            num_stored=ended["num_stored"],
            num_rejected=ended["num_rejected"],
            generation=ended["generation"],
            seconds=ended["seconds"],
            complete=ended["complete"],
            macro_f1=scored(confusions.get(ended["model_digest"])),
        )
        for ended in rounds
    ]


def scored(confusion: np.ndarray | None) -> float | None:
    """Macro-F1 over N, S, V of the beat task, over all classes of another."""
    if confusion is None:
        return None
    classes: Iterable[int] = SCORED if len(confusion) > max(SCORED) else range(len(confusion))
    return macro_f1(confusion, classes)


def render(scene: Scene) -> Group:
    """The whole screen."""
    parts: list[Any] = [rounds_table(scene.rows), Text()]
    if scene.hospitals:
        parts += [hospitals_table(scene.hospitals), Text()]
    if scene.events:
        parts.append(Text("\n".join(scene.events[-6:]), style="yellow"))
    if scene.phase:
        parts.append(Spinner("dots", text=status_line(scene)))
    return Group(*parts)


def rounds_table(rows: Sequence[RoundRow]) -> Table:
    """Sampled, received, rejected, ring generation, seconds and macro-F1 of every round."""
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("day", "round"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("for", no_wrap=True)
    for name in ("sampled", "received", "rejected", "ring", "seconds", "macro-F1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("end", no_wrap=True)
    previous_day = None
    for row in rows:
        if previous_day not in (None, row.day):
            table.add_row()
        previous_day = row.day
        table.add_row(*cells(row))
    return table


def cells(row: RoundRow) -> list[Text | str]:
    """The cells of one row; a round that its deadline closed is marked ``late``."""
    note = "" if row.complete or row.end != "committed" else " late"
    return [
        str(row.day),
        str(row.round_id),
        "learn" if row.purpose == "train" else "score",
        str(row.num_invited),
        str(row.num_stored) if row.purpose == "train" else "-",
        str(row.num_rejected),
        str(row.generation) if row.generation else "-",
        f"{row.seconds:.1f}",
        "…" if row.macro_f1 is None else f"{row.macro_f1:.3f}",
        Text(f"{row.end}{note}", style=END_STYLES.get(row.end, "")),
    ]


def status_line(scene: Scene) -> str:
    """What happens now."""
    now = PHASES.get(scene.phase, scene.phase)
    return f"day {scene.day}, round {scene.round_id}: {now}" if scene.round_id else now


def hospitals_table(hospitals: Mapping[str, Mapping[str, Any]]) -> Table:
    """What each edge node holds in the open round, and how its rank stands."""
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("hospital", "stored", "rejected", "edge node", "rank", "process"):
        table.add_column(name, justify="right" if name in ("stored", "rejected") else "left")
    for name, status in sorted(hospitals.items()):
        table.add_row(
            name,
            f"{status['num_stored']}/{status['num_invited']}",
            str(status["num_rejected"]),
            status["phase"] if status["online"] else Text("away", style="red"),
            Text(status["rank"], style="" if status["rank"] in ("warm", "joined") else "red"),
            str(status["rank_pid"] or "-"),
        )
    return table


def report_table(report: Mapping[str, Any]) -> Table:
    """Per class Se, +P and F1 of the report on records no wristband wore."""
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class")
    for name in ("beats", "Se", "+P", "F1"):
        table.add_column(name, justify="right")
    for name, figures in report["classes"].items():
        table.add_row(
            name,
            f"{figures['num_beats']:,}",
            *(share(figures[key]) for key in ("sensitivity", "positive_predictivity", "f1")),
        )
    return table


def share(value: float | None) -> str:
    """A figure in [0, 1] with three digits, ``n/a`` when it cannot be known."""
    return "n/a" if value is None else f"{value:.3f}"


def notice_panel(text: str, title: str, style: str) -> Panel:
    """A framed notice."""
    return Panel(Text(text), title=title, title_align="left", border_style=style, padding=(0, 1))
