"""The same figures for parts of the patients, so that no part hides behind the sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from common.ecg.demographics import SAME_PERSON, Demographics
from common.metrics.figures import Confusion
from common.metrics.report import DOMINANT_S_RECORD, BeatReport, beat_report

AGE_BANDS: Mapping[str, tuple[int, int]] = {
    "age_below_50": (0, 50),
    "age_50_to_69": (50, 70),
    "age_from_70": (70, 1000),
}
"""Years, the upper bound excluded."""


def by_patient(confusion_by_record: Mapping[str, Confusion]) -> dict[str, Confusion]:
    """Add up the records of each person under the first one's name: 202 is the person of 201."""
    patients: dict[str, Confusion] = {}
    for record, confusion in confusion_by_record.items():
        first = SAME_PERSON.get(record, record)
        person = first if first in confusion_by_record else record
        patients[person] = patients.get(person, 0) + np.asarray(confusion)
    return patients


def subgroups(
    records: Iterable[str], people: Mapping[str, Demographics]
) -> dict[str, tuple[str, ...]]:
    """Return the records of each subgroup, empty ones left out.

    ``all``; ``without_202``, the person of training record 201; ``without_232``, which holds most S
    beats of DS2; ``female``, ``male``, ``sex_unknown``; the `AGE_BANDS` and ``age_unknown``.

    Parameters
    ----------
    records : iterable of str
        Record names; each must be in `people`.
    people : mapping
        Age and sex by record name.
    """
    names = tuple(records)
    members = {
        group: tuple(name for name in names if belongs(name, people[name]))
        for group, belongs in _RULES.items()
    }
    return {group: chosen for group, chosen in members.items() if chosen}


def subgroup_reports(
    confusion_by_record: Mapping[str, Confusion], people: Mapping[str, Demographics]
) -> dict[str, BeatReport]:
    """Return the report of each of `subgroups`; confusion counts are (5, 5) [true, said].

    Raises
    ------
    ContractError
        If a matrix is not (5, 5) counts.
    """
    return {
        group: beat_report({name: confusion_by_record[name] for name in names})
        for group, names in subgroups(confusion_by_record, people).items()
    }


def patient_reports(confusion_by_record: Mapping[str, Confusion]) -> dict[str, BeatReport]:
    """Return a report of each patient alone; raises as `subgroup_reports`."""
    return {
        name: beat_report({name: confusion})
        for name, confusion in by_patient(confusion_by_record).items()
    }


_Rule = Callable[[str, Demographics], bool]


def _age_between(low: int, high: int) -> _Rule:
    return lambda _, person: person.age_years is not None and low <= person.age_years < high


_RULES: Mapping[str, _Rule] = {
    "all": lambda *_: True,
    "without_202": lambda name, _: name not in SAME_PERSON,
    "without_232": lambda name, _: name != DOMINANT_S_RECORD,
    "female": lambda _, person: person.sex == "F",
    "male": lambda _, person: person.sex == "M",
    "sex_unknown": lambda _, person: person.sex is None,
    **{group: _age_between(*bounds) for group, bounds in AGE_BANDS.items()},
    "age_unknown": lambda _, person: person.age_years is None,
}
