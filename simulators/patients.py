"""Patients of a data set as wearers of wristbands: labelled beats, the last fifth kept back."""

from __future__ import annotations

from common.ecg.beats import prepare
from common.ecg.labels import aami
from common.ecg.records import Record
from common.tasks.task import Examples

HELD_OUT_SHARE = 5  # one beat in five, the last ones


def wearer(record: Record) -> Examples:
    """Return one patient's beats with expert labels, cut at the reference R peaks.

    Raises
    ------
    SignalError
        If the ECG of the record cannot be analysed.
    ContractError
        If an annotation is not a beat.
    """
    prepared = prepare(record.ecg_mv, record.fs_hz, record.r_idx)
    return Examples(prepared.inputs, aami(record.symbols))


def split_last_fifth(examples: Examples) -> tuple[Examples, Examples]:
    """Split beats in time: those to train on, and the last fifth, which no training sees."""
    num_train = len(examples) - len(examples) // HELD_OUT_SHARE
    return examples.take(slice(0, num_train)), examples.take(slice(num_train, None))
