"""What the attackers benchmark says: figures of each defence under each threat, beside clean runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.attackers_arms import (
    CLEAN,
    DEFENCES,
    MUTE_AFTER,
    MUTE_ROUNDS,
    NUM_STEPS,
    PLAIN,
    RECOMMENDED,
)
from benchmarks.attackers_run import Ran
from benchmarks.clinical_figures import FIGURES
from regional.config import LearningConfig, ScreeningConfig

SCORES = ("macro_f1", "s_f1", "v_f1")
GOAL = {"macro_f1_lost_at_a_tenth": 0.03, "macro_f1_lost_when_clean": 0.01}

METHOD = {
    "training": f"the product's rounds in one process: 22 DS1 patients in hospitals of 8, 7 and 7, "
    f"{NUM_STEPS} local steps a round (a third of the clinical recipe's, for time), FedAvg, 16 bits",
    "attackers": "drawn by seed, dealt to the hospitals in turn: at 10 % one in each of two "
    "hospitals, at 30 % three, two and two; what their wearers would have taught is missing too, "
    "which the rows 'absent' show alone",
    "flipped": "the honest update, sign turned",
    "flipped_loud": "100 times that, clipped to the round's norm",
    "scaled": "100 times the update, not clipped: what the norm check refuses at the door",
    "scaled_clipped": "100 times the update, clipped to the round's norm",
    "noise": "Gaussian noise of the round's norm",
    "against": "the hospital's honest mean turned round, as loud as an honest update (colluding, "
    "omniscient; inner product manipulation)",
    "little": "the honest mean less one standard deviation (colluding, omniscient; a little is "
    "enough)",
    "screened": f"hospitals screen by the defaults of [screening] and mute after {MUTE_AFTER} net "
    f"quarantines for {MUTE_ROUNDS} rounds",
    "macro_f1": "N, S, V at reference peaks, all scored patients pooled; mean and sd over seeds",
    "to_clean": "to the plain sum without attackers, seed by seed; mean and values",
}


def summarise(runs: Sequence[Ran]) -> dict[str, Any]:
    """All figures, by threat and defence."""
    peers = {ran.seed: _figures(ran) for ran in runs if _is(ran, CLEAN.name, PLAIN.name)}
    threats = list(dict.fromkeys(ran.threat for ran in runs))
    cells = {
        threat: {
            defence.name: _cell(of, peers)
            for defence in DEFENCES
            if (of := [ran for ran in runs if _is(ran, threat, defence.name)])
        }
        for threat in sorted(threats, key=_order)
    }
    return {
        "cells": cells,
        "recommended": RECOMMENDED.name,
        "goal": GOAL,
        "reached": reached(cells),
        "screening": ScreeningConfig(enabled=True).model_dump(),
        "trim": LearningConfig().trim,
        "method": METHOD,
    }


def reached(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """Each goal against the recommended defence's means; only what was run."""
    ours = {threat: by[RECOMMENDED.name] for threat, by in cells.items() if RECOMMENDED.name in by}
    lost = {threat: -cell["to_clean"]["mean"] for threat, cell in ours.items()}
    tenth = {f"{t}_within_3_points": v <= 0.03 for t, v in lost.items() if t.endswith("_10%")}
    return tenth | {"clean_cost_within_1_point": lost[CLEAN.name] <= 0.01}


def _is(ran: Ran, threat: str, defence: str) -> bool:
    return (ran.threat, ran.defence) == (threat, defence)


def _order(threat: str) -> tuple[bool, str, str]:
    name, _, share = threat.rpartition("_")
    return threat != CLEAN.name, share, name


def _figures(ran: Ran) -> dict[str, float]:
    total = np.sum(list(ran.counts().values()), axis=0)
    return {name: FIGURES[name](total) or 0.0 for name in SCORES}


def _cell(runs: Sequence[Ran], peers: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    in_order = sorted(runs, key=lambda ran: ran.seed)
    figures = [_figures(ran) for ran in in_order]
    told: dict[str, Any] = {name: _spread([f[name] for f in figures]) for name in SCORES}
    told["to_clean"] = _spread(
        [
            f["macro_f1"] - peers[ran.seed]["macro_f1"]
            for ran, f in zip(in_order, figures, strict=True)
            if ran.seed in peers
        ]
    )
    return told | {
        "seeds": [ran.seed for ran in in_order],
        "updates_taken": sum(ran.taken for ran in in_order),
        "honest_set_aside": sum(ran.set_aside.get("honest", 0) for ran in in_order),
        "hostile_set_aside": sum(ran.set_aside.get("hostile", 0) for ran in in_order),
        "hostile_refused": sum(ran.refused for ran in in_order),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": fmean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }
