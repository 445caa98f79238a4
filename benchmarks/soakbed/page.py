"""``docs/soak.md`` and its drawing, from a soak's document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plot_style import SERIES, SOFT, require, sheet
from benchmarks.soakbed.report import rows

DRAWING = "soak.svg"
TITLE = "An edge node over an hour of faults"


def write(document: Mapping[str, Any], folder: Path) -> Path:
    """Write ``soak.md`` and ``soak.svg`` into `folder`; return the former's path."""
    draw(document, folder / DRAWING)
    path = folder / "soak.md"
    path.write_text(page(document))
    return path


def page(document: Mapping[str, Any]) -> str:
    """The page: what ran, the table, the faults, the drawing."""
    edge = document["edge_node"]
    table = ["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows(document))]
    faults = ", ".join(f"{num} × {what}" for what, num in sorted(document["faults"].items()))
    quarters = [
        "| quarter | RSS MiB (median, largest) | PSS MiB | descriptors (median, least–most) | threads |",
        "|---|---|---|---|---|",
        *(_quarter(n, q) for n, q in enumerate(edge["quarters"], start=1)),
    ]
    messages = ", ".join(f"{num:,} {what}" for what, num in edge["messages"].items())
    reasons = document["reasons_of_the_uncommitted"]
    uncommitted = "; ".join(f"{num} × {why}" for why, num in reasons.items()) or "none"
    return "\n".join(
        [
            "# Soak",
            "",
            f"Written by `{document['command']}` ([soak.json](../benchmarks/results/soak.json)); "
            f"{document['machine']['cores']} cores, {document['machine']['processor']}"
            f"{'; ' + document['beside'] if document['beside'] else ''}.",
            "",
            f"{document['num_wristbands']} wristbands at three hospitals, each process the "
            f"product's own, {document['broker']} as broker, the beat task with one small step a "
            "round so that the edge nodes are what works. Every minute a fault that a seed draws "
            f"(seed {document['seed']}), each kind once before any comes again. The edge node of "
            f"{edge['hospital']} is stopped at times but never ended: memory and descriptors are "
            "its own, read every 5 s; `/healthz` and `/metrics` are asked every 15 s.",
            "",
            *table,
            "",
            f"Faults: {faults}.",
            "",
            f"Rounds that were not committed: {uncommitted}.",
            "",
            f"## Memory of the edge node\n\n![RSS and descriptors over time]({DRAWING})",
            "",
            *quarters,
            "",
            f"What it was sent, by subject and result: {messages}.",
            "",
        ]
    )


def _quarter(number: int, quarter: Mapping[str, Any]) -> str:
    return (
        f"| {number} | {quarter['rss_mib']:.1f}, {quarter['rss_max_mib']:.1f} "
        f"| {quarter['pss_mib']:.1f} "
        f"| {quarter['fds']:g}, {quarter['fds_least']}–{quarter['fds_most']} "
        f"| {quarter['threads']:g} |"
    )


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draw resident memory and descriptors over time, a tick for each fault.

    Raises
    ------
    ContractError
        If there are no readings.
    """
    readings = document["readings"]
    require(readings["rows"], "readings")
    columns = dict(zip(readings["columns"], zip(*readings["rows"], strict=True), strict=True))
    minutes = [at_s / 60 for at_s in columns["at_s"]]
    with sheet(path, TITLE, (8.3, 3.6)) as figure:
        memory, descriptors = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        memory.plot(minutes, columns["rss_mib"], color=SERIES[0][0], linewidth=1)
        memory.set(ylabel="RSS, MiB", ylim=(0, max(columns["rss_mib"]) * 1.15))
        for fault in document["fault_times"]:
            memory.axvline(fault["at_s"] / 60, ymax=0.05, color=SOFT, linewidth=0.8)
        memory.set_title(f"{TITLE} (ticks)")
        descriptors.plot(minutes, columns["num_fds"], color=SERIES[1][0], linewidth=1)
        descriptors.set(ylabel="descriptors", xlabel="minutes")
        descriptors.set_ylim(0, max(columns["num_fds"]) * 1.3)
