"""Charts of what a model says of beats: class by class, and patient by patient.

The figures they show come from `common.metrics`; nothing is counted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from benchmarks.plot_style import (
    BAR,
    CLASS_COLOURS,
    HEAD_IN,
    INK,
    ROW_IN,
    SOFT,
    bare,
    bare_rows,
    name_rows,
    percent,
    require,
    sheet,
)
from common.errors import ContractError
from common.metrics.figures import Confusion

MEANINGS: Mapping[str, str] = {
    "N": "not ectopic",
    "S": "supraventricular",
    "V": "ventricular",
    "F": "fusion",
    "Q": "unclassifiable",
}
FEW_BEATS = 10
_HEAVY = 1 / 3  # of all beats of a class: told in words
_DARK = 0.55  # share whose shade needs white text
_NOTE = (
    f"pale: fewer than {FEW_BEATS} beats · 0: beats or claims, none right · "
    "–: no such beat, none claimed"
)


class PatientF1(TypedDict):
    """F1 of S and V in one patient, None where nobody can know, and the number of such beats."""

    S: float | None
    V: float | None
    num_s: int
    num_v: int


def confusion(counts: Confusion, labels: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix: counts, and the share of the true class that each is.

    Parameters
    ----------
    counts : ndarray
        (C, C) integers [true, said].
    labels : sequence of str
        (C,) class letters; N is written "N (not ectopic)".
    title : str
        What was scored, on which patients.
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If `counts` are not (C, C) counts, or hold no beat.
    """
    counts = np.asarray(counts)
    side = len(labels)
    if counts.shape != (side, side) or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ContractError(f"the confusion to draw is not {side} x {side} counts")
    require(np.flatnonzero(counts), "beats")
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    with sheet(path, title, (6.8, 4.9)) as figure:
        axes = figure.subplots()
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1.15, edgecolors="white", linewidth=1.5)
        for (true, said), share in np.ndenumerate(shares):
            _cell(axes, true, said, int(counts[true, said]), share)
        _name_classes(axes, labels, total[:, 0])
        figure.suptitle("\n".join(wrap(title, 72)), x=0.01, ha="left", fontsize=11, weight="bold")


def per_patient(f1: Mapping[str, PatientF1], path: Path) -> None:
    """Draw F1 of S and V for each patient beside the number of beats it stands on.

    Patients with most S beats come first. F1 on fewer than `FEW_BEATS` beats is pale.

    Parameters
    ----------
    f1 : mapping of str to PatientF1
        By record name; F1 in [0, 1].
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If there are no patients.
    """
    require(f1, "patients")
    records = sorted(f1, key=lambda name: (-f1[name]["num_s"], -f1[name]["num_v"], name))
    size = (8.3, HEAD_IN + ROW_IN * len(records))
    with sheet(path, "F1 of S and V in each patient", size) as figure:
        columns = figure.subplots(1, 4, sharey=True, width_ratios=(3, 2, 3, 2))
        s_num = [f1[name]["num_s"] for name in records]
        v_num = [f1[name]["num_v"] for name in records]
        _score_bars(columns[0], "S", [f1[name]["S"] for name in records], s_num)
        _weight_bars(columns[1], "S", s_num)
        _score_bars(columns[2], "V", [f1[name]["V"] for name in records], v_num)
        _weight_bars(columns[3], "V", v_num)
        for column in columns:
            bare_rows(column)
        name_rows(columns[0], records)
        figure.supxlabel(_NOTE, fontsize=8, color=SOFT)


def _cell(axes: Axes, true: int, said: int, count: int, share: float) -> None:
    colour = "white" if share > _DARK else INK if count else SOFT
    weight = "bold" if true == said else "normal"
    x, y = said + 0.5, true + 0.5
    if not count:
        axes.text(x, y, "0", ha="center", va="center", color=colour)
        return
    axes.text(x, y - 0.13, f"{count:,}", ha="center", va="center", color=colour, weight=weight)
    axes.text(x, y + 0.19, percent(share), ha="center", va="center", color=colour, fontsize=8)


def _name_classes(axes: Axes, labels: Sequence[str], totals: NDArray[np.integer]) -> None:
    middles = np.arange(len(labels)) + 0.5
    names = [f"{label} ({MEANINGS[label]})" if label in MEANINGS else label for label in labels]
    rows = [f"{name}\n{total:,} beats" for name, total in zip(names, totals, strict=True)]
    columns = [f"{label}\n(not ectopic)" if label == "N" else label for label in labels]
    axes.set_xticks(middles, columns, fontsize=9)
    axes.set_yticks(middles, rows, fontsize=9)
    axes.set_xlabel("said by the model")
    axes.set_ylabel("true, by the annotators", labelpad=9)
    axes.invert_yaxis()
    axes.tick_params(labelcolor=INK)
    bare(axes)


def _score_bars(
    axes: Axes, label: str, scores: Sequence[float | None], nums: Sequence[int]
) -> None:
    rows = zip(scores, nums, strict=True)
    for row, (score, num) in enumerate(rows):
        if score:
            colour = CLASS_COLOURS[label]
            axes.barh(row, score, BAR, color=colour if num >= FEW_BEATS else _pale(colour))
        else:
            text = "–" if score is None else "0"
            axes.text(0.02, row, text, va="center", fontsize=8, color=SOFT)
    axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xlabel=f"F1 of {label}")


def _pale(colour: str) -> tuple[float, ...]:
    return tuple(0.35 * channel + 0.65 for channel in to_rgb(colour))


def _weight_bars(axes: Axes, label: str, nums: Sequence[int]) -> None:
    whole, most = max(sum(nums), 1), max(*nums, 1)
    axes.barh(range(len(nums)), nums, BAR, color=SOFT)
    for row, num in enumerate(nums):
        heavy = num / whole > _HEAVY
        text = f"{num:,} ({percent(num / whole)})" if heavy else f"{num:,}"
        inside = num > 0.6 * most
        axes.text(
            num - 0.03 * most if inside else num + 0.03 * most, row, text, fontsize=8, va="center",
            ha="right" if inside else "left", color="white" if inside else SOFT,
        )  # fmt: skip
    axes.set(xlim=(0, 1.05 * most), xlabel=f"{label} beats")
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
