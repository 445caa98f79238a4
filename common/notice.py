"""The one notice that README, page, reports, API answers and model cards carry."""

from __future__ import annotations

NOTICE = (
    "PulseRing is research software, not a medical device. Not for diagnosis, alarms or monitoring. "
    "It does not detect ventricular fibrillation, asystole or ischaemia, nor atrial fibrillation "
    "unless a rhythm model is named. Not for paced rhythms or children. Every finding needs "
    "over-reading by a clinician."
)

MEANING_OF_N = (
    'N means "not ectopic" (AAMI): it includes bundle branch block and the conducted beats of '
    "atrial fibrillation. Q means unclassifiable and is never a finding."
)

SYNTHETIC_NOTICE = (
    "Synthetic ECG (a dynamical model, no patients): every figure from it only shows that the "
    "software runs. None of them is clinical."
)
