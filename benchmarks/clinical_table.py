"""Tables of the clinical benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from benchmarks.clinical_figures import Spread

ROWS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1 (N, S, V)",
    "s_f1": "S F1",
    "s_f1_without_232": "S F1 without 232",
    "s_sensitivity": "S Se",
    "s_positive_predictivity": "S +P",
    "v_f1": "V F1",
    "v_sensitivity": "V Se",
    "v_positive_predictivity": "V +P",
}
SHOWN = {
    "federated": "federated (ours)",
    "centralised": "centralised",
    "federated_minus_centralised": "difference",
    "federated_no_simulator": "fed., no simulator",
    "centralised_no_simulator": "centr., no simulator",
    "federated_int8": "fed., int8",
    "federated_own_labels": "fed., own labels",
}


def figures_table(document: Mapping[str, Any]) -> Table:
    """Mean and standard deviation over seeds of each figure, ours beside its peers."""
    shown = {name: title for name, title in SHOWN.items() if name in document}
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for title in shown.values():
        table.add_column(title, justify="right")
    for row, title in ROWS.items():
        cells = (cell(document[name][row], signed="_minus_" in name) for name in shown)
        table.add_row(title, *cells)
    return table


def cell(figure: Spread, *, signed: bool = False) -> str:
    """A figure such as ``0.945 ± 0.002``; without the sd where there is one seed.

    >>> cell({"mean": 0.9451, "sd": 0.002, "ci95": (None, None), "values": [0.9431, 0.9471]})
    '0.945 ± 0.002'
    """
    if figure["mean"] is None:
        return "n/a"
    mean = f"{figure['mean']:{'+' if signed else ''}.3f}"
    return mean if figure["sd"] is None else f"{mean} ± {figure['sd']:.3f}"
