"""AAMI classes of WFDB beat symbols.

N means "not ectopic", never "normal": it holds bundle branch block and the conducted beats of
atrial fibrillation. Q is unclassifiable, never a finding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import ContractError

AAMI = ("N", "S", "V", "F", "Q")

# De Chazal et al., IEEE TBME 51(7), 2004: nodal and atrial escapes (j, e) count as N.
# WFDB's `bxb` puts them into S instead.
SYMBOLS = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
_CLASS_OF = {symbol: AAMI.index(name) for name, symbols in SYMBOLS.items() for symbol in symbols}


def aami(symbols: Sequence[str]) -> NDArray[np.int64]:
    """Map WFDB beat symbols to AAMI classes by de Chazal's table.

    Returns
    -------
    ndarray
        (B,) int64, index into `AAMI`.

    Raises
    ------
    ContractError
        If a symbol is not a beat.
    """
    try:
        return np.array([_CLASS_OF[symbol] for symbol in symbols], dtype=np.int64)
    except KeyError as error:
        raise ContractError(f"{error.args[0]!r} is not a WFDB beat symbol") from error
