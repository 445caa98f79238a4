"""What a model says about the patients that no wristband wore, under each condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.export import export_onnx, onnx_scores
from cloud.quantize import quantize_weights
from common.ecg.beats import PreparedBeats, prepare
from common.ecg.labels import BXB_SYMBOLS, aami
from common.ecg.noise import NoiseRecord, mix, noise_power
from common.ecg.records import Record
from common.metrics.beat_by_beat import compare_beats
from common.metrics.counts import count_scores
from common.metrics.figures import Confusion
from common.metrics.matching import match_beats
from common.tasks.calibration import is_inconclusive
from common.tasks.registry import get_task
from common.tasks.task import Parameters, score

NOISE_SNR_DB = 12.0
NOISE_SEED = 12

Inputs = Mapping[str, NDArray[np.float32]]
Scorer = Callable[[Inputs], NDArray[np.float32]]


@dataclass(frozen=True)
class Asked:
    """A record as one condition shows it to a model.

    Attributes
    ----------
    labels : ndarray
        (R,) int64 of the reference beats.
    prepared : PreparedBeats
        At the reference R peaks, or at detected ones.
    """

    record: Record
    labels: NDArray[np.int64]
    prepared: PreparedBeats


@dataclass(frozen=True)
class Answered:
    """Scores (B, 5) of a record's prepared beats."""

    asked: Asked
    scores: NDArray[np.float32]

    @property
    def confusion(self) -> Confusion:
        """(5, 5) [true, said]; only at reference peaks."""
        return count_scores(self.scores, self.asked.labels)["confusion"]

    @property
    def by_bxb_map(self) -> Confusion:
        """As `confusion`, the escapes e and j counted as S."""
        labels = aami(self.asked.record.symbols, BXB_SYMBOLS)
        return count_scores(self.scores, labels)["confusion"]

    @property
    def is_answered(self) -> NDArray[np.bool_]:
        """(B,) whether the beat can be read and its class is not inconclusive."""
        return self.asked.prepared.readable & ~is_inconclusive(self.scores)

    def confusion_of(self, chosen: NDArray[np.bool_]) -> Confusion:
        """As `confusion`, of some of the beats."""
        return count_scores(self.scores[chosen], self.asked.labels[chosen])["confusion"]

    def end_to_end(self) -> Confusion:
        """(6, 6) [true, said] by `bxb`'s rules, from 5:00 on."""
        record = self.asked.record
        match = match_beats(
            record.r_idx, self.asked.prepared.r_idx, record.fs_hz, flutter_idx=record.flutter_idx
        )
        said = self.scores.argmax(axis=1).astype(np.int64)
        return compare_beats(match, self.asked.labels, said).counts


def at_reference_peaks(record: Record) -> Asked:
    """The annotators' R peaks."""
    prepared = prepare(record.ecg_mv, record.fs_hz, record.r_idx)
    return Asked(record, aami(record.symbols), prepared)


def at_detected_peaks(record: Record) -> Asked:
    """The product's own R peaks."""
    return Asked(record, aami(record.symbols), prepare(record.ecg_mv, record.fs_hz))


def in_noise(record: Record, noises: Sequence[NoiseRecord]) -> Asked:
    """The annotators' R peaks in `NOISE_SNR_DB` of all `noises` together, in equal power."""
    rng = np.random.default_rng([NOISE_SEED, *record.name.encode()])
    channels = [noise.noise_mv[0] for noise in noises]
    together = np.sum([c / np.sqrt(noise_power(c, noises[0].fs_hz)) for c in channels], axis=0)
    ecg_mv = mix(
        record.ecg_mv, record.fs_hz, record.r_idx, together, noises[0].fs_hz, NOISE_SNR_DB, rng
    )
    prepared = prepare(ecg_mv, record.fs_hz, record.r_idx)
    return Asked(record, aami(record.symbols), prepared)


def float_scorer(params: Parameters) -> Scorer:
    """The model in torch, 32 bits: what the released ONNX file gives within 1e-5."""
    task = get_task("beats")
    return lambda inputs: score(task, params, inputs)


def int8_scorer(params: Parameters) -> tuple[Scorer, int]:
    """The model as an int8 ONNX file, and its size in bytes."""
    task = get_task("beats")
    onnx_bytes = quantize_weights(export_onnx(task, params), task)
    return lambda inputs: onnx_scores(onnx_bytes, inputs), len(onnx_bytes)


def answers(scorer: Scorer, asked: Mapping[str, Asked]) -> dict[str, Answered]:
    """Ask a model about each record."""
    return {name: Answered(a, scorer(a.prepared.inputs)) for name, a in asked.items()}
