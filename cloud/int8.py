"""The int8 file of a release: made, compared with the float32 file, and kept or refused.

A refusal leaves the release as it is, without an int8 file. The decision needs no recorded ECG:
it stands on the probes, which no ECG resembles, and on beats of synthetic patients.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cloud.export import Rows, onnx_scores, probes
from cloud.quantize import quantize_weights
from cloud.release import Difference, Int8
from common.digest import bytes_digest
from common.ecg.beats import prepare
from common.ecg.sources import SYNTHETIC_TRAIN
from common.ecg.synthetic import synthesize
from common.errors import ContractError, PulseRingError
from common.tasks.task import Task

MAX_CHANGED = 0.01
"""Share of decisions that may change, on each set of inputs."""

MAX_SCORE_DIFFERENCE = 0.1
"""What a score of a synthetic beat may differ by; on probes only decisions are bounded."""

SYNTHETIC_PATIENTS = SYNTHETIC_TRAIN[:11]  # one of each kind
SYNTHETIC_S = 120.0
_SEED = 1  # not the one that wristbands on synthetic ECG learn from by default


def build_int8(task: Task, onnx_bytes: bytes) -> tuple[Int8, bytes | None]:
    """Quantize a release's weights and compare the result with the float32 file.

    Parameters
    ----------
    task : Task
        Whose inputs and labels the file has.
    onnx_bytes : bytes
        From `cloud.export.export_onnx`.

    Returns
    -------
    Int8
        Digest, size and differences, or the reason of a refusal.
    bytes or None
        The int8 file, unless it is refused.
    """
    differences: dict[str, Difference] = {}
    try:
        int8_bytes = quantize_weights(onnx_bytes, task)
        for name, (rows, score_bound) in _inputs(task).items():
            differences[name] = compare(onnx_bytes, int8_bytes, rows, score_bound)
    except PulseRingError as fault:
        return Int8(refusal=fault.message, differences=differences), None
    refusal = refusal_of(differences)
    if refusal:
        return Int8(refusal=refusal, differences=differences), None
    kept = Int8(
        sha256=bytes_digest(int8_bytes), size_bytes=len(int8_bytes), differences=differences
    )
    return kept, int8_bytes


def compare(
    onnx_bytes: bytes, int8_bytes: bytes, rows: Rows, score_bound: float | None
) -> Difference:
    """Score `rows` (B, ...), by input name, with both files; B is at least 1.

    Raises
    ------
    ContractError
        When a score of the int8 file is not finite.
    """
    expected, scores = onnx_scores(onnx_bytes, rows), onnx_scores(int8_bytes, rows)
    if not np.isfinite(scores).all():
        raise ContractError("the int8 ONNX file gives scores that are not finite")
    return Difference(
        num_examples=len(scores),
        score=float(np.abs(scores - expected).max()),
        score_bound=score_bound,
        changed=float((scores.argmax(axis=1) != expected.argmax(axis=1)).mean()),
        changed_bound=MAX_CHANGED,
    )


def refusal_of(differences: Mapping[str, Difference]) -> str:
    """Name each bound that is passed; empty when none is."""
    passed = []
    for name, found in differences.items():
        if found.changed > found.changed_bound:
            passed.append(
                f"{found.changed:.2%} of decisions change on {name}, at most "
                f"{found.changed_bound:.2%} may"
            )
        if found.score_bound is not None and found.score > found.score_bound:
            passed.append(
                f"scores differ by {found.score:.3f} on {name}, at most {found.score_bound:g} "
                "is allowed"
            )
    return "; ".join(passed)


def synthetic_beats() -> dict[str, np.ndarray]:
    """Beats of eleven synthetic patients, two minutes of each, as the beat model's inputs."""
    records = [synthesize(name, _SEED, SYNTHETIC_S) for name in SYNTHETIC_PATIENTS]
    parts = [prepare(record.ecg_mv, record.fs_hz, record.r_idx).inputs for record in records]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _inputs(task: Task) -> dict[str, tuple[Rows, float | None]]:
    """What both files score, and how far a score may differ there."""
    sets: dict[str, tuple[Rows, float | None]] = {
        "probes": (probes(task, np.random.default_rng(_SEED)), None)
    }
    if task.name == "beats":
        sets["synthetic_beats"] = (synthetic_beats(), MAX_SCORE_DIFFERENCE)
    return sets
