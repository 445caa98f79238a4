"""AAMI classes of WFDB beat symbols.

N means "not ectopic", never "normal": it holds bundle branch block and the conducted beats of
atrial fibrillation. Q is unclassifiable, never a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import ContractError

AAMI = ("N", "S", "V", "F", "Q")

# De Chazal et al., IEEE TBME 51(7), 2004: nodal and atrial escapes (j, e) count as N. Primary.
SYMBOLS: Mapping[str, str] = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}

# WFDB's `bxb`, when it counts S apart: escapes are S. Secondary, to compare with its figures.
BXB_SYMBOLS: Mapping[str, str] = {**SYMBOLS, "N": "NLR", "S": "AaJSej"}


def aami(symbols: Sequence[str], table: Mapping[str, str] = SYMBOLS) -> NDArray[np.int64]:
    """Map WFDB beat symbols to AAMI classes.

    Parameters
    ----------
    symbols : sequence of str
        (B,) beat symbols.
    table : mapping
        Symbols of each class: de Chazal's `SYMBOLS`, or `BXB_SYMBOLS`.

    Returns
    -------
    ndarray
        (B,) int64, index into `AAMI`.

    Raises
    ------
    ContractError
        If a symbol is not a beat.
    """
    class_of = {code: AAMI.index(name) for name, codes in table.items() for code in codes}
    try:
        return np.array([class_of[symbol] for symbol in symbols], dtype=np.int64)
    except KeyError as error:
        raise ContractError(f"{error.args[0]!r} is not a WFDB beat symbol") from error
