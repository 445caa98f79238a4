"""How every figure looks and is written: one palette, one font, and the same bytes each time.

Figures are drawn without ``pyplot``, so no window system and no state outlives a figure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common.errors import ConfigError, ContractError

INK, SOFT, LINE = "#17202a", "#55606c", "#d5dae0"
CLASS_COLOURS: Mapping[str, str] = {"S": "#a34700", "V": "#0b4fa0"}
"""As on the clinician's page (``cloud/web/labels.js``)."""

GAIN, HARM = "#0072b2", "#d55e00"
SERIES: tuple[tuple[str, str], ...] = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "D"),
    ("#e69f00", "v"),
    ("#56b4e9", "P"),
    ("#000000", "X"),
)
"""Colour and marker of each line. Source: Okabe and Ito, Color Universal Design, 2008."""

ROW_IN, HEAD_IN, BAR = 0.2, 1.5, 0.72
"""Height in inches of a patient's row, and of title and axis; share of a row that a bar fills."""

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same widths on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "svg.hashsalt": "pulsering",
}


@contextmanager
def sheet(
    path: Path, title: str, size_in: tuple[float, float], dpi: float = 100, *, free: bool = False
) -> Iterator[Figure]:
    """Give a figure to draw on, and write it when it has been drawn.

    Parameters
    ----------
    path : Path
        Ends in ``.svg`` or ``.png``; its folder is made where it lacks.
    title : str
        Stored in the file, for readers who do not see the figure.
    size_in : tuple of float
        Width and height in inches; 8.3 inches of an SVG fill a README.
    dpi : float
        Pixels an inch, for PNG.
    free : bool
        Whether the caller places everything; else matplotlib keeps texts apart.

    Raises
    ------
    ContractError
        If the path has another suffix.
    ConfigError
        If the file cannot be written.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in ("svg", "png"):
        raise ContractError(f"{path} is neither .svg nor .png", path=str(path))
    with style.context(["default", dict(STYLE)]):
        figure = Figure(size_in, dpi=dpi, layout=None if free else "constrained")
        yield figure
        drawn = _svg(figure, title) if kind == "svg" else _png(figure, title)
    _write(path, drawn)


def require(values: Collection[object], what: str) -> None:
    """Raise ``ContractError`` where there is nothing to draw."""
    if not len(values):
        raise ContractError(f"there are no {what} to draw", what=what)


def percent(share: float) -> str:
    """A share in [0, 1] as text that never rounds to all or none.

    >>> percent(1.0), percent(0.9996), percent(0.123), percent(0.0004), percent(0.0)
    ('100 %', '> 99.9 %', '12.3 %', '< 0.1 %', '0 %')
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if not 0.0005 <= share < 0.9995:
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    return f"{100 * share:.1f} %"


def bare(axes: Axes) -> None:
    """Take frame, grid and tick marks away; the labels stay."""
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def bare_rows(axes: Axes) -> None:
    """Take grid and tick marks of the rows away; those of the values stay."""
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def name_rows(axes: Axes, records: Sequence[str]) -> None:
    """Name one row a patient, first on top, on axes of horizontal bars at 0, 1, …."""
    axes.set_yticks(range(len(records)), records, fontsize=9)
    axes.set_ylim(len(records) - 0.4, -0.6)
    axes.set_ylabel("record")


def _svg(figure: Figure, title: str) -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
    return drawn.getvalue()


def _png(figure: Figure, title: str) -> bytes:
    """With a palette: a third of the size, and flat colours keep their value."""
    drawn, smaller, about = BytesIO(), BytesIO(), PngInfo()
    figure.savefig(drawn, format="png")
    about.add_text("Title", title)
    with Image.open(drawn) as image:
        reduced = image.convert("RGB").quantize(256)
    reduced.save(smaller, "png", optimize=True, pnginfo=about)
    return smaller.getvalue()


def _write(path: Path, data: bytes) -> None:
    scratch = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(data)
        scratch.replace(path)
    except OSError as fault:
        raise ConfigError(f"{path} cannot be written: {fault.strerror}") from fault
