"""Macro-F1 against rounds, and against work done: under-training is not loss by non-IID data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from benchmarks.plot_style import SERIES, SOFT, require, sheet
from common.errors import ContractError

_DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_NUM_MARKS = 6  # on a line


class Run(TypedDict):
    """One learning curve.

    ``num_steps`` are the local steps of a round; ``mu`` is FedProx's weight, 0 elsewhere;
    ``sample_fraction`` the share of wristbands invited to a round; ``rounds`` increase from 1 or
    later, and ``macro_f1`` (N, S, V) has one figure in [0, 1] for each.
    """

    algorithm: str
    mu: float
    num_steps: int
    sample_fraction: float
    rounds: Sequence[int]
    macro_f1: Sequence[float]


@dataclass(frozen=True)
class _Trait:
    """What runs differ in, and how a line shows it: a look for each of its values, as text."""

    heading: str
    keyword: str
    text: Callable[[Run], str]
    looks: dict[str, Any]


def learning_curves(runs: Sequence[Run], path: Path) -> None:
    """Draw macro-F1 against rounds and, beside it, against local steps in total.

    Colour tells the local steps of a round, dashes the participation, marks algorithm and mu; what
    all runs share stands below. Where curves lie apart on the left and together on the right, the
    difference is work not done, not data that are not IID.

    Parameters
    ----------
    runs : sequence of Run
        Several seeds of one setting are several runs and look alike.
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If there are no runs, or a run has no rounds, one before 1, or not one figure for each.
    """
    require(runs, "runs")
    for run in runs:
        _check(run)
    traits = _traits(runs)
    with sheet(path, "Macro-F1 against rounds and against local steps", (8.3, 4)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for run in runs:
            _line(left, run, 1, traits)
            _line(right, run, run["num_steps"], traits)
        left.set(xlabel="rounds", ylabel="macro-F1 (N, S, V)", title="By rounds")
        right.set(xlabel="rounds × local steps of a round", title="By work done", xscale="log")
        right.xaxis.set_major_locator(LogLocator(2))  # a range may hold one power of ten only
        right.xaxis.set_major_formatter("{x:,.0f}")
        right.minorticks_off()
        _legend(figure, traits)


def _check(run: Run) -> None:
    require(run["rounds"], "rounds of a run")
    if len(run["rounds"]) != len(run["macro_f1"]):
        raise ContractError("a run has not one macro-F1 for each of its rounds")
    if min(run["rounds"]) < 1 or run["num_steps"] < 1:
        raise ContractError("rounds and local steps are counted from 1")


def _traits(runs: Sequence[Run]) -> tuple[_Trait, ...]:
    steps = _values(_steps, sorted(runs, key=lambda run: run["num_steps"]))
    shares = _values(_share, sorted(runs, key=lambda run: -run["sample_fraction"]))
    rules = _values(_rule, sorted(runs, key=lambda run: (run["algorithm"], run["mu"])))
    shades = [to_hex(c) for c in colormaps["viridis"](np.linspace(0.05, 0.78, len(steps)))]
    dashes = [_DASHES[i % len(_DASHES)] for i in range(len(shares))]
    marks = [SERIES[i % len(SERIES)][1] for i in range(len(rules))] if len(rules) > 1 else [""]
    return (
        _Trait("local steps a round", "color", _steps, dict(zip(steps, shades, strict=True))),
        _Trait("wristbands a round", "linestyle", _share, dict(zip(shares, dashes, strict=True))),
        _Trait("algorithm", "marker", _rule, dict(zip(rules, marks, strict=True))),
    )


def _values(text: Callable[[Run], str], ordered: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(text(run) for run in ordered))


def _steps(run: Run) -> str:
    return str(run["num_steps"])


def _share(run: Run) -> str:
    return f"{100 * run['sample_fraction']:.0f} %"


def _rule(run: Run) -> str:
    return f"{run['algorithm']}, μ = {run['mu']:g}" if run["mu"] else run["algorithm"]


def _line(axes: Axes, run: Run, steps: int, traits: Sequence[_Trait]) -> None:
    work, scores = np.asarray(run["rounds"]) * steps, np.asarray(run["macro_f1"], dtype=float)
    every = max(1, len(work) // _NUM_MARKS)
    look = {trait.keyword: trait.looks[trait.text(run)] for trait in traits}
    axes.plot(work, scores, **look, markevery=every, markersize=5, linewidth=1.6, alpha=0.9)


def _legend(figure: Figure, traits: Sequence[_Trait]) -> None:
    keys: list[Line2D] = []
    for trait in traits:
        if len(trait.looks) > 1:
            keys.append(Line2D([], [], linestyle="none", label=trait.heading))
            keys.extend(_key(trait, text) for text in trait.looks)
    headings = {trait.heading for trait in traits}
    if keys:
        for text in figure.legend(handles=keys, loc="outside right center").get_texts():
            if text.get_text() in headings:
                text.set_fontweight("bold")
    shared = [f"{t.heading}: {next(iter(t.looks))}" for t in traits if len(t.looks) == 1]
    if shared:
        figure.supxlabel("all lines: " + "; ".join(shared), fontsize=8, color=SOFT)


def _key(trait: _Trait, text: str) -> Line2D:
    look = {"color": SOFT, "linestyle": "solid", trait.keyword: trait.looks[text]}
    return Line2D([], [], **look, label=text)
