from __future__ import annotations

import numpy as np
import pytest

from common.ecg.labels import AAMI, SYMBOLS, aami
from common.ecg.records import BEAT_SYMBOLS, DS1, DS2, read_record
from common.errors import ContractError
from tests.real_data import mitdb_root


def test_maps_each_symbol_by_de_chazals_table() -> None:
    said = {symbol: AAMI[aami([symbol])[0]] for symbol in "NLRejAaJSVEF/fQ"}
    assert "".join(said.values()) == "NNNNNSSSSVVFQQQ"


def test_knows_every_beat_symbol_that_records_keep() -> None:
    assert frozenset("".join(SYMBOLS.values())) == BEAT_SYMBOLS


def test_no_beats_give_no_labels() -> None:
    assert aami([]).shape == (0,)
    assert aami([]).dtype == np.int64


def test_refuses_a_symbol_that_is_no_beat() -> None:
    with pytest.raises(ContractError, match="'~'"):
        aami(["N", "~"])


@pytest.mark.parametrize(
    ("names", "counts"),
    [(DS1, [45866, 944, 3788, 415, 8]), (DS2, [44259, 1837, 3221, 388, 7])],
    ids=["DS1", "DS2"],
)
def test_class_counts_are_those_published(names: tuple[str, ...], counts: list[int]) -> None:
    root = mitdb_root()
    labels = np.concatenate([aami(read_record(root, name).symbols) for name in names])
    assert np.bincount(labels, minlength=5).tolist() == counts
