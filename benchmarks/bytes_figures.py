"""What the bytes benchmark says: bytes and DS2 figures of each codec beside float32's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.bytes_codecs import CODECS, PEER
from benchmarks.bytes_run import Ran
from benchmarks.clinical_figures import FIGURES, spread

SCORES = ("macro_f1", "s_f1", "v_f1")
GOAL = {"saving": 0.95, "macro_f1_lost": 0.005}
FLOOR = {"saving": 0.80, "macro_f1_lost": 0.005}

METHOD = {
    "bytes": "update messages as encoded by the product, of one wristband in one round, mean over "
    "all rounds; the first round carries everything in 16 bits. Receipts, MQTT and TCP headers are "
    "not in it: they are the same for every codec",
    "saving": "1 - bytes / bytes of float32",
    "float32": "plain FedAvg: differences neither clipped nor rounded, averaged in float64, in the "
    "same message; same start, seeds, training and rounds",
    "macro_f1": "N, S, V on the 22 DS2 patients at reference peaks; mean and sd over seeds, 95 % "
    "interval over patients",
    "difference": "to float32, seed by seed; 'within_seeds' when its mean is no larger than the sd "
    "over seeds of either",
    "downlink": "the float32 model that each wristband reads once a round; no codec shortens it",
}


def summarise(runs: Sequence[Ran]) -> dict[str, Any]:
    """All figures, by codec."""
    by_codec = {codec.name: [ran for ran in runs if ran.codec == codec.name] for codec in CODECS}
    told = {name: _codec(of) for name, of in by_codec.items() if of}
    peer = told[PEER]
    for name, figures in told.items():
        figures["saving"] = 1 - figures["bytes"] / peer["bytes"]
        figures["ratio"] = peer["bytes"] / figures["bytes"]
        figures["difference"] = _difference(figures["macro_f1"], peer["macro_f1"])
        figures["reaches"] = _reached(figures) if name != PEER else None
    return {
        "codecs": told,
        "goal": GOAL,
        "floor": FLOOR,
        "num_rounds": len(runs[0].bytes_up),
        "seeds": sorted({ran.seed for ran in runs}),
        "method": METHOD,
    }


def _codec(runs: Sequence[Ran]) -> dict[str, Any]:
    in_order = sorted(runs, key=lambda ran: ran.seed)
    records = list(in_order[0].confusions)
    counts = [ran.counts() for ran in in_order]
    stack = np.array([[of[name] for name in records] for of in counts])
    return {
        "bytes": fmean(fmean(ran.bytes_up) for ran in in_order),
        "bytes_first_round": fmean(ran.bytes_up[0] for ran in in_order),
        "bytes_later_rounds": fmean(fmean(ran.bytes_up[1:]) for ran in in_order),
        "downlink_bytes": fmean(ran.bytes_down for ran in in_order),
        **{name: spread(stack, FIGURES[name]) for name in SCORES},
    }


def _difference(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, Any]:
    values = [a - b for a, b in zip(ours["values"], peer["values"], strict=True)]
    widths = [sd for sd in (ours["sd"], peer["sd"]) if sd is not None]
    mean = fmean(values)
    return {
        "mean": mean,
        "values": values,
        "within_seeds": abs(mean) <= max(widths) if widths else None,
    }


def _reached(figures: Mapping[str, Any]) -> str:
    for name, limits in (("goal", GOAL), ("floor", FLOOR)):
        saves = figures["saving"] >= limits["saving"]
        if saves and figures["difference"]["mean"] >= -limits["macro_f1_lost"]:
            return name
    return "neither"
