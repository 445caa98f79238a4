"""Chart of macro-F1 against the bytes that a wristband sends, one mark a codec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.plot_style import SERIES, SOFT, require, sheet

TITLE = "Macro-F1 on DS2 against bytes that a wristband sends a round"


def frontier(document: Mapping[str, Any], path: Path) -> None:
    """Draw mean and standard deviation over seeds of each codec; each seed is a small dot.

    Parameters
    ----------
    document : mapping
        As `benchmarks.bytes_figures.summarise` gives it.
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If there are no codecs.
    """
    codecs: Mapping[str, Any] = document["codecs"]
    require(codecs, "codecs")
    with sheet(path, TITLE, (7.4, 4.4)) as figure:
        axes = figure.subplots()
        for number, (name, figures) in enumerate(codecs.items()):
            colour, marker = SERIES[number % len(SERIES)]
            x, f1 = figures["bytes"], figures["macro_f1"]
            axes.errorbar(
                x, f1["mean"], f1["sd"] or 0.0, color=colour, marker=marker, markersize=7, capsize=3
            )
            axes.scatter([x] * len(f1["values"]), f1["values"], 9, SOFT, zorder=1)
            axes.annotate(
                _label(name, figures),
                (x, max(f1["mean"] + (f1["sd"] or 0.0), *f1["values"])),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=colour,
            )
        axes.margins(x=0.08, y=0.2)
        axes.set(xscale="log", ylabel="macro-F1 (N, S, V)")
        axes.set_xlabel("bytes of an update message, mean over rounds (per cent of float32)")
        axes.set_title(TITLE)
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g} kB"))
        axes.minorticks_off()


def _label(name: str, figures: Mapping[str, Any]) -> str:
    codec, _, parts = name.partition("_parts")
    lines = (codec, f"{parts} parts" if parts else "", f"{1 - figures['saving']:.1%}")
    return "\n".join(line for line in lines if line)
