"""The report on the test set, and how the card tells of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cloud.card import card, markdown
from cloud.export import export_onnx
from cloud.release import Difference, Int8, Release
from cloud.report import score_test_set
from common.digest import tensors_digest
from common.ecg.rr import LOOK_AHEAD_BEATS, PAST_BEATS
from common.ecg.sources import EcgSource
from common.ecg.synthetic import synthesize
from common.tasks.beats import BeatTask
from tests.builders.sealed import make_header

TASK = BeatTask()
PARAMS = TASK.initial(seed=3)
FIGURES: dict[str, Any] = {
    "num_examples": 1,
    "accuracy": 1.0,
    "macro_f1": None,
    "scored": [],
    "classes": {},
    "confusion": [[1]],
}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    source = EcgSource(
        kind="synthetic",
        train_names=(),
        test_names=("syn23", "syn24"),
        read=lambda name: synthesize(name, seed=0),
        notice="",
    )
    return score_test_set(PARAMS, export_onnx(TASK, PARAMS), source, 2, lambda names: names)


def make_release(report: dict[str, Any] | None, int8: Int8 | None = None) -> Release:
    return Release(
        name="county-d0001-aaaaaaaa",
        region="county",
        day=1,
        task="beats",
        labels=TASK.labels,
        input_shapes=dict(TASK.input_shapes),
        model_digest=tensors_digest(PARAMS),
        sealed_digest="b" * 64,
        onnx_sha256="c" * 64,
        size_bytes=1,
        parity=0.0,
        int8=int8,
        created_at=0.0,
        metrics={"candidate": FIGURES, "in_service": None, "checks": []},
        report=report,
    )


def told(report: dict[str, Any] | None, int8: Int8 | None = None) -> str:
    return markdown(card(make_release(report, int8), make_header(PARAMS, task="beats")))


def test_every_beat_of_every_record_is_scored(report: dict[str, Any]) -> None:
    num_beats = sum(len(synthesize(name, seed=0).r_idx) for name in ("syn23", "syn24"))
    assert report["figures"]["num_beats"] == np.sum(report["figures"]["confusion"]) == num_beats


def test_released_graph_equals_torch_on_every_beat(report: dict[str, Any]) -> None:
    assert report["parity"] <= 1e-5


def test_report_is_plain_json(report: dict[str, Any]) -> None:
    assert Release.model_validate_json(make_release(report).model_dump_json()).report is not None
    json.dumps(report)


def test_synthetic_figures_claim_nothing_clinical(report: dict[str, Any]) -> None:
    text = told(report)
    assert "None of them is clinical." in text
    assert "MIT-BIH Arrhythmia Database" not in text


def test_card_begins_with_what_it_is_for_and_how_often_it_is_right(report: dict[str, Any]) -> None:
    real = {**report, "source": "mitdb", "notice": "MIT-BIH Arrhythmia Database, DS2."}
    text = told(real)
    assert text.index("## In short") < text.index("## Model")
    assert "of ventricular ectopic beats it found" in text
    assert "S F1 without record 232" in text


def test_card_tells_no_rate_of_synthetic_beats_in_short(report: dict[str, Any]) -> None:
    assert "ectopic beats it found" not in told(report)


def test_card_says_report_only_and_counts_the_looks(report: dict[str, Any]) -> None:
    text = told(report)
    assert "Report only: scored after the decision, which never saw it." in text
    assert "Look number 2 at this test set" in text


def test_card_never_gives_s_without_the_figure_that_leaves_out_232(report: dict[str, Any]) -> None:
    (row,) = [line for line in told(report).splitlines() if line.startswith("| S ")]
    assert row.endswith("without 232) |")


def test_card_never_says_normal(report: dict[str, Any]) -> None:
    assert "sinus" not in told(report).lower()
    assert "normal" not in told(report).lower()


def test_card_without_a_report_says_so() -> None:
    assert "None was made." in told(None)


def test_card_of_a_model_trained_on_synthetic_ecg_says_so_first_even_with_a_real_report(
    report: dict[str, Any],
) -> None:
    real = {**report, "source": "mitdb", "notice": "MIT-BIH Arrhythmia Database, DS2."}
    header = make_header(PARAMS, task="beats", data_source="Synthetic ECG, seed 0")
    for shown in (real, None):
        text = markdown(card(make_release(shown), header))
        assert "None of them is clinical." in text[: text.index("## Model")]


def test_card_says_how_far_inputs_look_ahead_and_what_accuracy_is_of() -> None:
    assert f"{LOOK_AHEAD_BEATS} beats and another 3.3 s after it" in told(None)
    assert f"at most {PAST_BEATS} beats before it" in told(None)
    assert "Accuracy: share of all beats, of every class." in told(None)


def test_card_tells_size_and_distance_of_the_int8_file_and_what_is_served() -> None:
    found = Difference(
        num_examples=70, score=0.0312, score_bound=0.1, changed=0.0025, changed_bound=0.01
    )
    int8 = Int8(sha256="d" * 64, size_bytes=4321, differences={"synthetic_beats": found})
    text = told(None, int8)
    assert f"`{'d' * 64}`, 4321 bytes" in text
    assert "the service and every figure here use the ONNX file above" in text
    assert "70 synthetic beats: scores differ by 0.0312 at most (bound: 0.1)" in text
    assert "0.25 % of decisions change (bound: 1 %)" in text


def test_card_says_why_there_is_no_int8_file() -> None:
    assert "int8 file (SHA-256): none: too far off" in told(None, Int8(refusal="too far off"))


def test_card_of_a_release_from_before_there_were_int8_files_says_nothing_of_them() -> None:
    assert "int8" not in told(None)
