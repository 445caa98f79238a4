from __future__ import annotations

import json

import numpy as np
import pytest

from common.ecg.labels import aami
from common.ecg.records import read_record
from common.errors import ContractError
from common.metrics.beat_by_beat import NO_BEAT, BeatByBeat, compare_beats, gross
from common.metrics.ec57 import sveb, veb
from common.metrics.matching import match_beats
from tests.real_data import mitdb_root

N, S, V, F, Q = range(5)

# A record made by hand: rows are what the beats are, columns what was said; N S V F Q, then O.
BY_HAND = BeatByBeat(
    np.array(
        [
            [90, 4, 3, 2, 1, 10],
            [2, 6, 2, 0, 0, 3],
            [1, 0, 8, 1, 0, 2],
            [1, 0, 3, 1, 0, 1],
            [0, 1, 1, 0, 0, 1],
            [7, 5, 4, 2, 1, 0],
        ]
    )
)


def compared(reference: str, detected: str) -> BeatByBeat:
    """Compare beats a second apart; a dot is no beat."""
    at = {
        who: [3600 + 360 * i for i, beat in enumerate(beats) if beat != "."]
        for who, beats in (("reference", reference), ("detected", detected))
    }
    match = match_beats(at["reference"], at["detected"], 360.0, start_s=0)
    return compare_beats(match, aami(reference.replace(".", "")), aami(detected.replace(".", "")))


def test_counts_each_pair_each_miss_and_each_made_up_beat() -> None:
    counts = compared("NNAV.VF.", "NNVVVN.Q").counts
    expected = np.zeros((6, 6), dtype=int)
    expected[N, N], expected[S, V], expected[V, V], expected[V, N] = 2, 1, 1, 1
    expected[NO_BEAT, V], expected[F, NO_BEAT], expected[NO_BEAT, Q] = 1, 1, 1
    np.testing.assert_array_equal(counts, expected)


def test_every_beat_found_is_a_beat_whatever_it_was_called() -> None:
    qrs = BY_HAND.qrs
    assert qrs.sensitivity == pytest.approx(127 / (127 + 17))
    assert qrs.positive_predictivity == pytest.approx(127 / (127 + 19))


def test_missed_v_are_false_negatives_and_made_up_v_are_false_positives() -> None:
    figures = BY_HAND.veb
    assert figures.sensitivity == pytest.approx(8 / (1 + 8 + 1 + 2))
    assert figures.positive_predictivity == pytest.approx(8 / (8 + 3 + 2 + 4))  # not F, not Q
    # true negatives: neither V nor called V nor missed
    assert figures.false_positive_rate == pytest.approx(9 / (9 + 97 + 8 + 2 + 1 + 15))


def test_missed_s_are_false_negatives_and_made_up_s_are_false_positives() -> None:
    figures = BY_HAND.sveb
    assert figures.sensitivity == pytest.approx(6 / (2 + 6 + 2 + 3))
    assert figures.positive_predictivity == pytest.approx(6 / (6 + 4 + 0 + 0 + 5))  # not Q


def test_with_perfect_detection_the_figures_are_those_at_reference_beats() -> None:
    beats = BY_HAND.counts[:5, :5]
    detected = BeatByBeat(np.pad(beats, ((0, 1), (0, 1))))
    assert detected.veb == veb(beats)
    assert detected.sveb == sveb(beats)
    assert (detected.qrs.sensitivity, detected.qrs.positive_predictivity) == (1, 1)


def test_nothing_compared_has_no_figures() -> None:
    nothing = compared("", "")
    assert not nothing.counts.any()
    assert nothing.qrs.sensitivity is None
    assert nothing.veb.positive_predictivity is None


def test_comparisons_of_records_add_up() -> None:
    both = gross([compared("NV", "NV"), compared("V.", "NN")])
    assert both.counts.sum() == 4
    assert both.veb.sensitivity == pytest.approx(1 / 2)
    assert not gross([]).counts.any()


def test_is_plain_json() -> None:
    again = json.loads(json.dumps(BY_HAND.to_dict(), allow_nan=False))
    assert again["counts"] == BY_HAND.counts.tolist()
    assert set(again) == {"counts", "qrs", "veb", "sveb"}


@pytest.mark.parametrize(
    "labels",
    [np.array([0]), np.array([0, 5]), np.array([0, -1]), np.array([0.0, 1.0])],
    ids=["too few", "no class", "negative", "not whole"],
)
def test_refuses_labels_that_are_not_those_of_the_beats(labels: np.ndarray) -> None:
    match = match_beats([100, 400], [100, 400], 360.0, start_s=0)
    with pytest.raises(ContractError):
        compare_beats(match, labels, np.array([0, 0]))
    with pytest.raises(ContractError):
        compare_beats(match, np.array([0, 0]), labels)


def test_a_real_record_against_itself_has_only_hits() -> None:
    record = read_record(mitdb_root(), "119")
    match = match_beats(record.r_idx, record.r_idx, record.fs_hz)
    labels = aami(record.symbols)
    after_learning = labels[record.r_idx >= 300 * record.fs_hz]
    expected = np.diag(np.bincount(after_learning, minlength=6))
    np.testing.assert_array_equal(compare_beats(match, labels, labels).counts, expected)
