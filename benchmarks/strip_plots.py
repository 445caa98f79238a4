"""Example strips on ECG paper: what a model said of each beat, beside what annotators said.

Everything is drawn in millimetres of paper, 6 pixels each: 25 mm/s and 10 mm/mV.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.plot_style import INK, SOFT, require, sheet
from common.errors import ContractError
from common.notice import NOTICE

MM_PER_S, MM_PER_MV = 25, 10
MOST_S = 12.0  # a longer strip cannot be read at the width of a page
WRONG = "#c00000"
_PAPER, _FINE, _COARSE = "#fffafa", "#f8dcdc", "#eab0b0"  # as on the clinician's page
_MM_PER_IN, _PIXELS_PER_MM = 25.4, 6
_MARGIN, _GUTTER, _LETTERS, _TITLE, _GAP, _LINE = 3, 10, 10, 7, 4, 4  # mm
_MM_PER_LETTER = 1.68  # of the foot, on average
_LEAST_MV = 2.0
_KEY = (
    "25 mm/s, 10 mm/mV, thin lines 1 mm. Grey letter: said, and right. Red: said/true. "
    "Small figure: confidence in %. N = not ectopic."
)


class Strip(TypedDict):
    """One example.

    ``ecg_mv`` (T,) mV of one lead; ``fs_hz`` its sampling rate; ``start_s`` where it begins in the
    record; ``r_idx`` (B,) R peaks in samples of the strip; ``reference`` and ``said`` (B,) class
    letters by the annotators and by the model; ``confidences`` (B,) in [0, 1].
    """

    record: str
    lead: str
    start_s: float
    ecg_mv: NDArray[np.floating]
    fs_hz: float
    r_idx: NDArray[np.integer]
    reference: Sequence[str]
    said: Sequence[str]
    confidences: Sequence[float]


def strips(examples: Sequence[Strip], path: Path) -> None:
    """Draw example strips below each other, with the notice at the foot.

    Parameters
    ----------
    examples : sequence of Strip
        Each of at most `MOST_S` seconds.
    path : Path
        ``.png`` (or ``.svg``, which is large).

    Raises
    ------
    ContractError
        If there are no examples; or a strip has no samples, is too long, or its letters,
        confidences and R peaks do not fit each other and the strip.
    """
    require(examples, "strips")
    for example in examples:
        _check(example)
    width = 2 * _MARGIN + _GUTTER + _columns(examples)
    heights = [_LETTERS + _trace_mm(example)[1] for example in examples]
    foot = _foot(width)
    height = 2 * _MARGIN + sum(heights) + len(heights) * (_TITLE + _GAP) + len(foot) * _LINE
    size = (width / _MM_PER_IN, height / _MM_PER_IN)
    dpi = _MM_PER_IN * _PIXELS_PER_MM
    with sheet(path, "Example strips", size, dpi, free=True) as figure:
        page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        page.axis("off")
        top = float(_MARGIN)
        for example, tall in zip(examples, heights, strict=True):
            _draw(page, example, top, tall)
            top += _TITLE + tall + _GAP
        for number, line in enumerate(foot):
            page.text(_MARGIN, top + number * _LINE, line, fontsize=8.5, va="top")


def _check(example: Strip) -> None:
    name, num_samples = example["record"], len(example["ecg_mv"])
    require(example["ecg_mv"], f"samples of {name}")
    if num_samples > MOST_S * example["fs_hz"]:
        raise ContractError(f"the strip of {name} is longer than {MOST_S:g} s", record=name)
    r_idx = np.asarray(example["r_idx"])
    beats = {len(example[key]) for key in ("r_idx", "reference", "said", "confidences")}
    if beats != {len(r_idx)} or ((r_idx < 0) | (r_idx >= num_samples)).any():
        raise ContractError(f"the beats of {name} do not fit its strip", record=name)


def _columns(examples: Sequence[Strip]) -> int:
    """Width of the widest trace in mm, whole large squares."""
    seconds = max(len(example["ecg_mv"]) / example["fs_hz"] for example in examples)
    return int(np.ceil(seconds * MM_PER_S / 5 - 1e-9)) * 5


def _trace_mm(example: Strip) -> tuple[float, int]:
    """Voltage at the upper edge in mV, and height in mm: whole large squares around the trace."""
    ecg_mv = np.asarray(example["ecg_mv"], dtype=np.float64)
    low, high = float(ecg_mv.min()), float(ecg_mv.max())
    squares = int(np.ceil(max(high - low, _LEAST_MV) * MM_PER_MV / 5 - 1e-9)) + 1
    return (low + high) / 2 + squares * 5 / 2 / MM_PER_MV, squares * 5


def _draw(page: Axes, example: Strip, top: float, tall: int) -> None:
    """Title, paper, pulse, trace and letters of one strip whose upper left corner is at `top`."""
    left, paper_top = _MARGIN + _GUTTER, top + _TITLE
    minutes, seconds = divmod(int(example["start_s"]), 60)
    title = f"Record {example['record']}, lead {example['lead']}, from {minutes}:{seconds:02d}"
    page.text(_MARGIN, top + 4.6, title, fontsize=11, weight="bold")
    ecg_mv = np.asarray(example["ecg_mv"], dtype=np.float64)
    x = left + np.arange(len(ecg_mv)) / example["fs_hz"] * MM_PER_S
    upper_mv, _ = _trace_mm(example)
    y = paper_top + _LETTERS + (upper_mv - ecg_mv) * MM_PER_MV
    _paper(page, paper_top, tall, int(np.ceil((x[-1] - left) / 5)) * 5 + _GUTTER)
    page.plot(x, y, color=INK, linewidth=0.9, solid_joinstyle="round")
    _pulse(page, float(np.median(y)))
    for at, true, said, sure in zip(
        example["r_idx"], example["reference"], example["said"], example["confidences"], strict=True
    ):
        _letter(page, float(x[at]), paper_top, true, said, sure)


def _paper(page: Axes, top: float, tall: int, wide: int) -> None:
    bounds = (_MARGIN, _MARGIN + wide, top, top + tall)
    page.fill_between(bounds[:2], bounds[2], bounds[3], color=_PAPER, linewidth=0)
    for colour, step, width in ((_FINE, 1, 0.4), (_COARSE, 5, 0.6)):
        page.vlines(np.arange(bounds[0], bounds[1] + 1, step), *bounds[2:], colour, linewidth=width)
        page.hlines(np.arange(bounds[2], bounds[3] + 1, step), *bounds[:2], colour, linewidth=width)


def _pulse(page: Axes, base: float) -> None:
    """The calibration pulse: 1 mV for 0.2 s."""
    x = _MARGIN + np.array([1.5, 2.5, 2.5, 7.5, 7.5, 8.5])
    page.plot(x, base - MM_PER_MV * np.array([0, 0, 1, 1, 0, 0]), color=INK, linewidth=0.9)


def _letter(page: Axes, x: float, top: float, true: str, said: str, sure: float) -> None:
    right = true == said
    colour, weight = (SOFT, "normal") if right else (WRONG, "bold")
    text = said if right else f"{said}/{true}"
    page.text(x, top + 4.6, text, fontsize=10, ha="center", color=colour, weight=weight)
    page.text(x, top + 8.2, f"{100 * sure:.0f}", fontsize=7.5, ha="center", color=colour)


def _foot(width: float) -> list[str]:
    """Key and notice in lines that fit `width` mm."""
    columns = int((width - 2 * _MARGIN) / _MM_PER_LETTER)
    pen = textwrap.TextWrapper(columns, break_on_hyphens=False)
    return [*pen.wrap(_KEY), *pen.wrap(NOTICE)]
