from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.demographics import Demographics
from common.errors import ContractError
from common.metrics.subgroups import by_patient, patient_reports, subgroup_reports, subgroups

PEOPLE = {
    "100": Demographics(69, "M"),
    "103": Demographics(None, "M"),
    "111": Demographics(49, "F"),
    "113": Demographics(50, "F"),
    "202": Demographics(70, "M"),
    "232": Demographics(76, "F"),
}


def s_beats(right: int, missed: int) -> NDArray[np.int64]:
    confusion = np.zeros((5, 5), dtype=np.int64)
    confusion[0, 0], confusion[1, 1], confusion[1, 0] = 100, right, missed
    return confusion


def test_each_record_is_in_the_groups_of_its_person() -> None:
    assert subgroups(PEOPLE, PEOPLE) == {
        "all": ("100", "103", "111", "113", "202", "232"),
        "without_202": ("100", "103", "111", "113", "232"),
        "without_232": ("100", "103", "111", "113", "202"),
        "female": ("111", "113", "232"),
        "male": ("100", "103", "202"),
        "age_below_50": ("111",),
        "age_50_to_69": ("100", "113"),
        "age_from_70": ("202", "232"),
        "age_unknown": ("103",),
    }


def test_a_group_that_nobody_is_in_is_left_out() -> None:
    assert set(subgroups(["202"], {"202": Demographics(80, None)})) == {
        "all", "without_232", "sex_unknown", "age_from_70",
    }  # fmt: skip


def test_a_report_counts_its_own_records_only() -> None:
    reports = subgroup_reports(
        {"100": s_beats(1, 1), "202": s_beats(4, 0), "232": s_beats(90, 10)}, PEOPLE
    )
    sensitivity = {group: report.sveb.sensitivity for group, report in reports.items()}
    assert sensitivity["all"] == pytest.approx(95 / 106)
    assert sensitivity["without_202"] == pytest.approx(91 / 102)
    assert sensitivity["without_232"] == pytest.approx(5 / 6)
    assert sensitivity["male"] == sensitivity["without_232"]
    assert reports["female"].records == ("232",)


def test_two_records_of_one_person_are_one_patient() -> None:
    patients = by_patient({"201": s_beats(1, 2), "202": s_beats(3, 4), "100": s_beats(0, 0)})
    assert list(patients) == ["201", "100"]
    np.testing.assert_array_equal(patients["201"], s_beats(1, 2) + s_beats(3, 4))


def test_the_second_record_alone_keeps_its_name() -> None:
    assert list(by_patient({"202": s_beats(3, 4)})) == ["202"]


def test_adding_up_leaves_the_counts_given_as_they_were() -> None:
    given = {"201": s_beats(1, 2), "202": s_beats(3, 4)}
    by_patient(given)
    np.testing.assert_array_equal(given["201"], s_beats(1, 2))


def test_each_patient_has_a_report() -> None:
    reports = patient_reports({"100": s_beats(1, 3), "232": s_beats(0, 2)})
    assert reports["100"].sveb.sensitivity == pytest.approx(1 / 4)
    assert reports["232"].records == ("232",)


def test_nobody_scored_has_no_groups() -> None:
    assert subgroup_reports({}, PEOPLE) == {}
    assert patient_reports({}) == {}


def test_refuses_what_are_not_counts() -> None:
    with pytest.raises(ContractError):
        subgroup_reports({"100": np.zeros((4, 4), dtype=np.int64)}, PEOPLE)
