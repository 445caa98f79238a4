"""What the clinical benchmark says about models over several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Literal, TypedDict

import numpy as np

from common.errors import ContractError
from common.messages import UpdateHeader
from common.metrics.report import beat_report
from common.tasks.task import Parameters
from common.wire import encode

Report = Mapping[str, Any]
"""What `cloud.report.score_test_set` returns, or a release carries."""

UPDATE_DTYPES: dict[int, type[np.signedinteger[Any]]] = {8: np.int8, 16: np.int16}

_PATHS = {
    "accuracy": ("figures", "accuracy"),
    "macro_f1": ("figures", "macro_f1_nsv"),
    "s_f1": ("figures", "classes", "S", "f1"),
    "s_f1_without_232": ("figures", "classes", "S", "f1_without_232"),
    "s_sensitivity": ("figures", "classes", "S", "sensitivity"),
    "s_positive_predictivity": ("figures", "classes", "S", "positive_predictivity"),
    "v_f1": ("figures", "classes", "V", "f1"),
    "v_sensitivity": ("figures", "classes", "V", "sensitivity"),
    "v_positive_predictivity": ("figures", "classes", "V", "positive_predictivity"),
    "accuracy_without_202": ("without_202", "accuracy"),
    "macro_f1_without_202": ("without_202", "macro_f1_nsv"),
}
FIGURES = tuple(_PATHS)


class Spread(TypedDict):
    """One figure over the seeds: mean and sample standard deviation of the known values."""

    mean: float | None
    sd: float | None
    values: list[float | None]


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and sample standard deviation (n - 1), None where nobody can know them."""
    known = [value for value in values if value is not None]
    return {
        "mean": fmean(known) if known else None,
        "sd": stdev(known) if len(known) > 1 else None,
        "values": list(values),
    }


def spreads(reports: Sequence[Report]) -> dict[str, Spread]:
    """Each of `FIGURES` over the reports of several seeds."""
    return {
        name: spread([_at(report, path) for report in reports]) for name, path in _PATHS.items()
    }


def differences(ours: Mapping[str, Spread], peers: Mapping[str, Spread]) -> dict[str, Spread]:
    """Ours minus peer, seed by seed; unknown where either is."""
    return {
        name: spread(
            [
                None if a is None or b is None else a - b
                for a, b in zip(ours[name]["values"], peers[name]["values"], strict=True)
            ]
        )
        for name in FIGURES
    }


def all_n_report(report: Report) -> Report:
    """The report of a model that says N of every beat, on the beats that `report` is about.

    What it would say without record 202 is not in there: unknown.
    """
    num_beats = np.asarray(report["figures"]["confusion"], dtype=np.int64).sum(axis=1)
    said = np.zeros((len(num_beats), len(num_beats)), dtype=np.int64)
    said[:, 0] = num_beats
    return {"figures": beat_report({"all": said}).to_dict()}


def update_bytes(params: Parameters, kind: type[np.generic]) -> int:
    """Size of an update message whose tensors are of the type `kind`, header included."""
    header = UpdateHeader(
        region="county",
        hospital="north",
        device="wb-01",
        round_id=1,
        base_digest="0" * 64,
        num_examples=1000,
        num_saturated=0,
    )
    return len(encode(header, {name: value.astype(kind) for name, value in params.items()}))


def bytes_against_float32(
    params: Parameters, traffic: Sequence[Mapping[str, Any]], bits: Literal[8, 16]
) -> dict[str, Any]:
    """Bytes per wristband and round, measured, against float32 FedAvg of the same model, computed.

    Parameters
    ----------
    params : dict
        Of the model.
    traffic : sequence of mapping
        The demo's summary of traffic, one a seed.
    bits : {8, 16}
        Of an update's integers.

    Raises
    ------
    ContractError
        If a demo counted no bytes.
    """
    if not all(traffic):
        raise ContractError("a demo counted no bytes")
    ours = {
        way: fmean(counted[f"{way}_per_device_round"] for counted in traffic)
        for way in ("up", "down")
    }
    own, float32 = update_bytes(params, UPDATE_DTYPES[bits]), update_bytes(params, np.float32)
    peer = {"up": ours["up"] - own + float32, "down": ours["down"]}
    return {
        "counted": traffic[0]["counted"],
        "peer": (
            "float32 FedAvg, computed: the same messages, the update's integers replaced by "
            "float32 under the same header"
        ),
        "update_bits": bits,
        "update": _versus(own, float32),
        "up": _versus(ours["up"], peer["up"]),
        "down": _versus(ours["down"], peer["down"]),
        "both": _versus(sum(ours.values()), sum(peer.values())),
    }


def _versus(ours: float, float32: float) -> dict[str, float]:
    return {
        "ours": round(ours, 1),
        "float32_fedavg": round(float32, 1),
        "ratio": round(float32 / ours, 3),
    }


def _at(report: Report, path: Sequence[str]) -> float | None:
    value: Any = report
    for key in path:
        value = value.get(key) if value is not None else None
    return None if value is None else float(value)
