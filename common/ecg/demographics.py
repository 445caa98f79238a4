"""Age and sex of the person behind a record, from the record's header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from common.ecg.records import DATABASE, REMEDY
from common.errors import ContractError, SignalError

SAME_PERSON: Mapping[str, str] = {"202": "201"}
"""Records of one person by the first of them (MIT-BIH Arrhythmia Database Directory)."""

Sex = Literal["F", "M"]

# MIT-BIH's first comment: age, sex, tape number, recorder, and the speed of the copy.
_PERSON = re.compile(r"\s*(-1|\d{1,3})\s+([FM?])(?:\s|$)")


@dataclass(frozen=True)
class Demographics:
    """Age in whole years and sex as recorded; None where the header does not know.

    Attributes
    ----------
    age_years : int or None
    sex : {"F", "M"} or None
    """

    age_years: int | None
    sex: Sex | None


def read_demographics(data_root: Path, name: str) -> Demographics:
    """Read who wore the recorder of one MIT-BIH record.

    Parameters
    ----------
    data_root : Path
        Directory that holds ``mitdb/``.
    name : str
        Record name, such as ``"100"``.

    Raises
    ------
    SignalError
        If the header is missing or is none.
    ContractError
        If no comment of the header gives age and sex.
    """
    if not name.isalnum():
        raise SignalError(f"{name!r} is not a record name of {DATABASE}", record=name)
    path = data_root / DATABASE / f"{name}.hea"
    for comment in _comments(path):
        if found := _PERSON.match(comment):
            age_years, sex = int(found[1]), found[2]
            return Demographics(
                age_years=None if age_years < 0 else age_years,
                sex=None if sex == "?" else cast(Sex, sex),
            )
    raise ContractError(f"{path} does not give age and sex in a comment", record=name)


def _comments(path: Path) -> list[str]:
    import wfdb  # pandas comes with it: 0.7 s that only readers of real records pay

    if not path.is_file():
        raise SignalError(f"{path} is missing: {REMEDY}", path=str(path))
    try:
        return list(wfdb.rdheader(str(path.with_suffix(""))).comments)
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as fault:
        raise SignalError(f"{path} is not a WFDB header: {REMEDY}") from fault
