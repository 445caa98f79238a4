"""The table of the rounds benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

MB = 1e6


def said(document: Mapping[str, Any]) -> str:
    """Equal learning in one sentence a mode."""
    return "\n".join(
        f"equal learning, Flower {name}: after each of {equal['num_rounds']} rounds the models differ "
        f"by at most {equal['largest_difference_ours_flower']:.2e} "
        f"({equal['largest_share_of_bound']:.0%} of what fixed point allows, {equal['bound']:.2e}); "
        f"they moved by up to {equal['largest_move']:.2e}"
        for name, equal in document["equal_learning"].items()
    )


def figures_table(document: Mapping[str, Any]) -> Table:
    """Ours beside each mode of Flower."""
    ours, modes = document["ours"], document["flower"]["modes"]
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(f"{document['num_hospitals']} hospitals")
    table.add_column("ours", justify="right")
    for name in modes:
        table.add_column(f"Flower, {name}", justify="right")
    sides = [ours, *modes.values()]
    for title, key in (
        ("last update in, next model out", "overhead_s"),
        ("whole round", "round_s"),
    ):
        table.add_row(title, *(f"{side[key]['median']:.3f} s" for side in sides))
        table.add_row("  least to largest", *(_range(side[key]) for side in sides))
    table.add_row("bytes a round", *(f"{side['bytes_per_round'] / MB:.2f} MB" for side in sides))
    rest = [
        ours["memory_per_hospital"],
        *(m["memory_per_hospital"]["at_rest"] for m in modes.values()),
    ]
    work = [
        ours["memory_per_hospital"],
        *(m["memory_per_hospital"]["at_work"] for m in modes.values()),
    ]
    table.add_row("a hospital's PSS at rest", *(f"{m['pss_mib']:.0f} MiB" for m in rest))
    table.add_row("a hospital's PSS at work", *(f"{m['pss_mib']:.0f} MiB" for m in work))
    table.add_row("ratio", f"{document['ratio']:.1f} ×")
    return table


def stages_table(document: Mapping[str, Any]) -> Table:
    """Where our time goes: the median of each stage."""
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("our stages, median")
    table.add_column("s", justify="right")
    for title, seconds in document["ours"]["stages_s"].items():
        table.add_row(title, f"{seconds:.3f}")
    return table


def _range(figure: Mapping[str, Any]) -> str:
    return f"{figure['least']:.2f}–{figure['largest']:.2f}"
