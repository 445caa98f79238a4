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
    "accuracy_without_202": "accuracy without 202",
    "macro_f1_without_202": "macro-F1 without 202",
}
MODELS = {
    "federated": "federated (ours)",
    "centralised": "centralised",
    "federated_minus_centralised": "difference",
    "all_n": "all N",
}
WAYS = {"update": "the update alone", "up": "up", "down": "down", "both": "both"}


def figures_table(document: Mapping[str, Any]) -> Table:
    """Mean and standard deviation of each figure, ours beside its peers."""
    table = _table("", *MODELS.values())
    for name, title in ROWS.items():
        cells = (
            shown(document[model][name], signed=model == "federated_minus_centralised")
            for model in MODELS
        )
        table.add_row(title, *cells)
    return table


def bytes_table(document: Mapping[str, Any]) -> Table:
    """Bytes per wristband and round, ours beside float32 FedAvg."""
    bits = document["update_bits"]
    table = _table("bytes a round", f"{bits}-bit (ours)", "float32 FedAvg", "ratio")
    for way, title in WAYS.items():
        counts = document[way]
        table.add_row(
            title,
            f"{counts['ours']:,.0f}",
            f"{counts['float32_fedavg']:,.0f}",
            f"{counts['ratio']:.2f}",
        )
    return table


def shown(figure: Spread, *, signed: bool = False) -> str:
    """A figure such as ``0.945 ± 0.002``; without the sd where there is one seed.

    >>> shown({"mean": 0.9451, "sd": 0.002, "values": [0.9431, 0.9471]})
    '0.945 ± 0.002'
    """
    if figure["mean"] is None:
        return "n/a"
    mean = f"{figure['mean']:{'+' if signed else ''}.3f}"
    return mean if figure["sd"] is None else f"{mean} ± {figure['sd']:.3f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
