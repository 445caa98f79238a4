"""What ``/v1/ecg/analyze`` answers."""

from __future__ import annotations

from datetime import datetime

import orjson
from pydantic import BaseModel

from cloud.api.strips import StripFacts
from cloud.inference.analysis import Analysis
from cloud.inference.model import ServedModel
from cloud.inference.provenance import is_synthetic
from common.notice import MEANING_OF_N, NOTICE, SYNTHETIC_NOTICE

VALIDATED_LEADS = ("MLII",)
NO_BEATS = "No beats were found. This does not say that there are none: asystole is not detected."


class Beat(BaseModel):
    """One beat; `probability` is that of `label`.

    A beat in a second that cannot be read has ``readable = false``. A beat that the model may well
    be wrong about has ``inconclusive = true``: its most probable label is no finding. Neither is
    in `counts`.
    """

    time_s: float
    sample: int
    label: str
    probability: float
    probabilities: dict[str, float]
    readable: bool
    inconclusive: bool


class Stretch(BaseModel):
    """A part of the strip, in seconds from its start."""

    from_s: float
    to_s: float


class ReleaseName(BaseModel):
    """Which release answered."""

    name: str
    day: int
    task: str
    model_digest: str
    trained_on: str
    synthetic: bool


class AnalyzeAnswer(BaseModel):
    """Beats of a strip; every finding needs over-reading by a clinician.

    `beats_note` says so when no beats were found. `counts` are readable beats that are conclusive;
    `num_inconclusive_beats` are the other readable ones. `heart_rate_bpm` is from the median
    interval between readable beats, null when it cannot be told.
    """

    notice: str
    meaning_of_n: str
    release: ReleaseName
    lead: str
    lead_validated: bool
    lead_note: str
    start: datetime | None
    fs_hz: float
    analyzed_s: float
    readable_fraction: float
    unreadable: list[Stretch]
    heart_rate_bpm: float | None
    counts: dict[str, int]
    num_unreadable_beats: int
    num_inconclusive_beats: int
    beats_note: str
    beats: list[Beat]


def answer(analysis: Analysis, facts: StripFacts, model: ServedModel) -> bytes:
    """Write an `AnalyzeAnswer` as JSON; a day's beats are too many for one model each."""
    labels = model.release.labels
    stretches = analysis.unreadable_stretches()
    counts = analysis.counts(len(labels)).tolist()
    rate = analysis.heart_rate_bpm
    return orjson.dumps(
        {
            "notice": NOTICE,
            "meaning_of_n": MEANING_OF_N,
            "release": release_name(model),
            "lead": facts.lead,
            "lead_validated": facts.lead in VALIDATED_LEADS,
            "lead_note": lead_note(facts.lead),
            "start": facts.start,
            "fs_hz": facts.fs_hz,
            "analyzed_s": round(analysis.duration_s, 3),
            "readable_fraction": round(analysis.readable_fraction, 4),
            "unreadable": [{"from_s": start, "to_s": end} for start, end in stretches],
            "heart_rate_bpm": None if rate is None else round(rate, 1),
            "counts": dict(zip(labels, counts, strict=True)),
            "num_unreadable_beats": int((~analysis.readable).sum()),
            "num_inconclusive_beats": int((analysis.readable & analysis.inconclusive).sum()),
            "beats_note": "" if len(analysis.r_idx) else NO_BEATS,
            "beats": _beats(analysis, facts.fs_hz, labels),
        }
    )


def release_name(model: ServedModel) -> dict[str, object]:
    """Write a `ReleaseName`."""
    release, stated = model.release, model.release.data_source
    synthetic = is_synthetic(stated)
    return {
        "name": release.name,
        "day": release.day,
        "task": release.task,
        "model_digest": release.model_digest,
        "trained_on": f"{stated}. {SYNTHETIC_NOTICE}" if synthetic else stated,
        "synthetic": synthetic,
    }


def lead_note(lead: str) -> str:
    """What is known about the model on a lead."""
    if lead in VALIDATED_LEADS:
        return f"The model was trained and evaluated on {lead}."
    return (
        f"Not validated on lead {lead}: the model was trained and evaluated on "
        f"{', '.join(VALIDATED_LEADS)}."
    )


def _beats(analysis: Analysis, fs_hz: float, labels: tuple[str, ...]) -> list[dict[str, object]]:
    columns = zip(
        (analysis.r_idx / fs_hz).round(4).tolist(),
        analysis.r_idx.tolist(),
        analysis.label_idx.tolist(),
        analysis.scores.astype(float).round(5).tolist(),
        analysis.readable.tolist(),
        analysis.inconclusive.tolist(),
        strict=True,
    )
    return [
        {
            "time_s": time_s,
            "sample": sample,
            "label": labels[label],
            "probability": scores[label],
            "probabilities": dict(zip(labels, scores, strict=True)),
            "readable": readable,
            "inconclusive": inconclusive,
        }
        for time_s, sample, label, scores, readable, inconclusive in columns
    ]
