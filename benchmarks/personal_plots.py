"""Chart of what personalisation does to each patient: who gains, and who is harmed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.plot_style import (
    BAR,
    GAIN,
    HARM,
    HEAD_IN,
    INK,
    ROW_IN,
    SOFT,
    bare,
    bare_rows,
    name_rows,
    require,
    sheet,
)
from common.errors import ContractError

_STEP = 0.0005  # changes below it read as no change


class Change(TypedDict):
    """Macro-F1 (N, S, V) of one patient with the regional model and with the personal one."""

    record: str
    before: float
    after: float


def gain_and_harm(patients: Sequence[Change], path: Path) -> None:
    """Draw how each patient's macro-F1 changes by personalisation, best first.

    Parameters
    ----------
    patients : sequence of Change
        Macro-F1 in [0, 1].
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If there are no patients, or a macro-F1 is not in [0, 1].
    """
    require(patients, "patients")
    for one in patients:
        if not (0 <= one["before"] <= 1 and 0 <= one["after"] <= 1):
            raise ContractError(f"macro-F1 of {one['record']} is not in [0, 1]")
    ranked = sorted(patients, key=lambda one: (one["before"] - one["after"], one["record"]))
    change = np.array([one["after"] - one["before"] for one in ranked])
    with sheet(path, "Change by personalisation", (6.8, HEAD_IN + ROW_IN * len(ranked))) as figure:
        axes = figure.subplots()
        axes.barh(range(len(ranked)), change, BAR, color=[GAIN if c > 0 else HARM for c in change])
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_title(_tally(change))
        axes.set_xlabel("change of macro-F1 (N, S, V) by personalisation")
        axes.margins(x=0.08)
        bare_rows(axes)
        name_rows(axes, [one["record"] for one in ranked])
        _before_and_after(axes, ranked)


def _tally(change: NDArray[np.float64]) -> str:
    gains, harms = int((change >= _STEP).sum()), int((change <= -_STEP).sum())
    unchanged = len(change) - gains - harms
    return f"Of {len(change)} patients {gains} gain, {harms} lose, {unchanged} unchanged"


def _before_and_after(axes: Axes, ranked: Sequence[Change]) -> None:
    beside = axes.twinx()
    beside.set_ylim(axes.get_ylim())
    texts = [f"{one['before']:.3f} → {one['after']:.3f}" for one in ranked]
    beside.set_yticks(range(len(ranked)), texts, fontsize=9)
    place = beside.transAxes
    beside.text(1.013, 1.012, "before → after", transform=place, fontsize=9, color=SOFT)
    bare(beside)
