"""Figures of the bytes benchmark from made-up runs, and its float32 peer against the product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.bytes import table
from benchmarks.bytes_codecs import CODECS, PEER, Codec, learn
from benchmarks.bytes_figures import summarise
from benchmarks.bytes_plots import frontier
from benchmarks.bytes_run import Ran
from common.fixedpoint import first_exponents
from regional.config import LearningConfig
from simulators.workers import ExampleSource


def make_ran(codec: str, seed: int, sent: float, wrong: int) -> Ran:
    """Two patients with `wrong` of 100 S beats called N."""
    rows = [[0] * 5 for _ in range(5)]
    rows[0][0], rows[1][1], rows[1][0], rows[2][2] = 900, 100 - wrong, wrong, 50
    return Ran(codec, seed, [2 * sent, sent, sent], 95_000.0, {"100": rows, "103": rows})


def make_runs() -> list[Ran]:
    return [
        make_ran(codec, seed, sent, wrong + seed)
        for codec, sent, wrong in ((PEER, 90_000.0, 10), ("int8", 3_000.0, 11), ("int16", 45_000.0, 60))
        for seed in (0, 1, 2)
    ]  # fmt: skip


def summary() -> dict[str, Any]:
    return summarise(make_runs())


def test_saving_is_against_float32_with_the_first_round_in_it() -> None:
    figures = summary()["codecs"]["int8"]
    assert figures["bytes"] == pytest.approx(4000)
    assert (figures["bytes_first_round"], figures["bytes_later_rounds"]) == (6000, 3000)
    assert figures["saving"] == pytest.approx(1 - 4 / 120)
    assert figures["ratio"] == pytest.approx(30)


def test_a_difference_that_seeds_alone_make_is_called_so() -> None:
    codecs = summary()["codecs"]
    assert codecs["int8"]["difference"]["mean"] < 0
    assert codecs["int8"]["difference"]["within_seeds"]
    assert not codecs["int16"]["difference"]["within_seeds"]


def test_goal_and_floor_need_both_the_bytes_and_the_figure() -> None:
    codecs = summary()["codecs"]
    assert codecs["int8"]["reaches"] == "goal"
    assert codecs["int16"]["reaches"] == "neither"
    assert codecs[PEER]["reaches"] is None


def test_table_and_chart_name_every_codec(tmp_path: Path) -> None:
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    console.print(table(summary()))
    told = console.export_text()
    frontier(summary(), tmp_path / "frontier.svg")
    drawn = (tmp_path / "frontier.svg").read_text()
    for name in (PEER, "int8", "int16"):
        assert name in told
        assert name in drawn
    assert "less than seeds differ" in told


def test_float32_learns_what_the_product_learns_but_for_rounding(tmp_path: Path) -> None:
    wearers = {"syn01": ExampleSource("beats", tmp_path).split("syn01")[0].take(slice(0, 80))}
    plain = learn(Codec(PEER, None), 0, 1, wearers)
    ours = learn(Codec("int16", {"clip_norm": 20.0}), 0, 1, wearers)  # which clips nothing
    step = max(2.0**e for e in first_exponents(ours.model, 20.0, 16).values())
    differences = [np.abs(ours.model[name] - plain.model[name]).max() for name in ours.model]
    assert 0 < max(differences) <= step / 2 + 1e-6
    assert plain.bytes_up[0] > 1.9 * ours.bytes_up[0]


def test_codecs_differ_from_the_recipe_in_bits_and_parts_only() -> None:
    recipe = CODECS[1].rule(1, 40).model_dump()
    assert recipe == LearningConfig(lr_rounds=40, num_steps=15, seed=1).model_dump()
    for codec in CODECS:
        changed = {k for k, v in codec.rule(1, 40).model_dump().items() if v != recipe[k]}
        assert changed <= {"bits", "parts"}
