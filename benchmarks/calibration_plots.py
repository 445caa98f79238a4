"""Charts of whether scores mean what they say: reliability, and error against coverage.

The figures they show come from `common.metrics.calibration`; nothing is counted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from benchmarks.plot_style import SERIES, SOFT, percent, require, sheet
from common.metrics.calibration import CoverageCurve, ReliabilityBins

FEW_BEATS = 30
_JUMPY = 0.05  # of coverage
_MOST_POINTS = 400  # of a curve: one for each beat would make megabytes of SVG
_GUIDE: Mapping[str, Any] = {"color": SOFT, "linewidth": 1, "linestyle": (0, (2, 2))}


def reliability(bins: Mapping[str, ReliabilityBins], path: Path) -> None:
    """Draw share right against confidence, and below it how many beats each bin holds.

    A bin of fewer than `FEW_BEATS` beats has a hollow mark. Source: Guo et al., ICML 2017.

    Parameters
    ----------
    bins : mapping of str to ReliabilityBins
        By the model's name as the legend shall show it.
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If there are no models, or none has a beat.
    """
    require(bins, "models")
    require([name for name, b in bins.items() if b.num_beats.sum()], "beats")
    with sheet(path, "Reliability: confidence and share right", (6.4, 6.6)) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        low = _lowest(bins)
        above.plot([low, 1], [low, 1], **_GUIDE)
        for number, (name, one) in enumerate(bins.items()):
            colour, marker = SERIES[number % len(SERIES)]
            _reliability_line(above, name, one, colour, marker)
            _count_bars(below, one, colour, number, len(bins))
        above.set(xlim=(low, 1), ylim=(low, 1.005), ylabel="share of decisions that are right")
        _reliability_keys(above)
        below.set(yscale="log", ylabel="beats (log)", xlabel="confidence (the largest score)")
        below.yaxis.set_major_formatter("{x:,.0f}")
        below.minorticks_off()
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def coverage(
    curves: Mapping[str, CoverageCurve], thresholds: Mapping[str, float], path: Path
) -> None:
    """Draw error against coverage and mark where each model starts to say "inconclusive".

    Parameters
    ----------
    curves : mapping of str to CoverageCurve
        By model.
    thresholds : mapping of str to float
        Expected error, in [0, 1], above which a beat is inconclusive. It was chosen on other
        beats; the mark shows what it gives on these. Models that it does not name get no mark.
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If there are no models, or one has no beats.
    """
    require(curves, "models")
    for name, curve in curves.items():
        require(curve.coverage, f"beats of {name}")
    with sheet(path, "Error against coverage", (6.4, 4.6)) as figure:
        axes = figure.subplots()
        for number, (name, curve) in enumerate(curves.items()):
            _coverage_line(axes, name, curve, thresholds.get(name), SERIES[number % len(SERIES)])
        axes.set(xlim=(0, 1.005), xlabel="coverage: share of beats answered")
        axes.set(ylim=(0, _highest(curves)), ylabel="error: share of these that are wrong")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        figure.legend(
            title='Mark: the threshold; less certain beats are "inconclusive"', title_fontsize=9,
            loc="outside upper left", handlelength=3, alignment="left",
        )  # fmt: skip


def _lowest(bins: Mapping[str, ReliabilityBins]) -> float:
    """Where both axes start: a tenth below every filled bin and every share right."""
    found = [
        np.minimum(one.edges[:-1], one.share_right)[one.num_beats > 0].min(initial=1)
        for one in bins.values()
    ]
    return float(np.floor(10 * min(found) + 1e-9) / 10)


def _reliability_line(
    axes: Axes, name: str, bins: ReliabilityBins, colour: str, marker: str
) -> None:
    filled, many = bins.num_beats > 0, bins.num_beats >= FEW_BEATS
    x, y = bins.confidence, bins.share_right
    look: dict[str, Any] = {"color": colour, "marker": marker, "clip_on": False}
    few = filled & ~many
    if few.any():  # the extent of an unclipped line without points ruins the layout
        axes.plot(x[few], y[few], linestyle="none", mfc="white", **look)
    axes.plot(x[many], y[many], label=name, **look)


def _reliability_keys(axes: Axes) -> None:
    models, _ = axes.get_legend_handles_labels()
    ideal = Line2D([], [], **_GUIDE, label="as sure as right")
    few = Line2D([], [], color=SOFT, marker="o", mfc="white", linestyle="none")
    few.set_label(f"hollow: fewer than {FEW_BEATS} beats")
    axes.legend(handles=[*models, ideal, few], loc="upper left")


def _count_bars(axes: Axes, bins: ReliabilityBins, colour: str, number: int, num: int) -> None:
    width = np.diff(bins.edges) * 0.8 / num
    left = bins.edges[:-1] + np.diff(bins.edges) * 0.1 + number * width
    axes.bar(left, bins.num_beats, width, align="edge", color=colour)


def _coverage_line(
    axes: Axes, name: str, curve: CoverageCurve, threshold: float | None, look: tuple[str, str]
) -> None:
    """Draw a curve, and where a threshold is given its mark with what it means in the legend."""
    colour, marker = look
    at = _thinned(curve.coverage)
    axes.plot(curve.coverage[at], curve.error[at], color=colour)
    if threshold is None:
        axes.plot([], [], color=colour, label=name)
        return
    chosen = int(np.searchsorted(curve.threshold, threshold, side="right")) - 1
    if chosen < 0:
        axes.plot([], [], color=colour, label=f"{name}: answers none")
        return
    x, y = float(curve.coverage[chosen]), float(curve.error[chosen])
    axes.plot([x, x], [0, y], **{**_GUIDE, "color": colour})
    label = f"{name}: answers {percent(x)}, {percent(y)} of these wrong"
    axes.plot(x, y, color=colour, marker=marker, mec="white", ms=10, zorder=3, label=label)


def _highest(curves: Mapping[str, CoverageCurve]) -> float:
    """Upper edge of the errors shown: the first `_JUMPY` of coverage, few beats, may pass it."""
    shown = [float(c.error[c.coverage >= _JUMPY].max()) for c in curves.values()]
    return 1.08 * max(*shown, 0.001)


def _thinned(shares: NDArray[np.float64]) -> NDArray[np.intp]:
    wanted = np.searchsorted(shares, np.linspace(0, shares[-1], _MOST_POINTS))
    return np.unique(wanted.clip(0, len(shares) - 1))
