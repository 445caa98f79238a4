from __future__ import annotations

import numpy as np
import pytest

from common.ecg.labels import AAMI, BXB_SYMBOLS, SYMBOLS, aami
from common.ecg.records import BEAT_SYMBOLS, DS1, DS2, read_record
from common.errors import ContractError
from tests.real_data import mitdb_root


def test_maps_each_symbol_by_de_chazals_table() -> None:
    said = {symbol: AAMI[aami([symbol])[0]] for symbol in "NLRejAaJSVEF/fQ"}
    assert "".join(said.values()) == "NNNNNSSSSVVFQQQ"


def test_bxb_moves_escapes_to_s_and_nothing_else() -> None:
    moved = {s for s in BEAT_SYMBOLS if aami([s])[0] != aami([s], BXB_SYMBOLS)[0]}
    assert moved == {"e", "j"}
    assert aami(["e", "j"], BXB_SYMBOLS).tolist() == [1, 1]


def test_knows_every_beat_symbol_that_records_keep() -> None:
    assert frozenset("".join(SYMBOLS.values())) == BEAT_SYMBOLS
    assert frozenset("".join(BXB_SYMBOLS.values())) == BEAT_SYMBOLS


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


def test_bxb_counts_213_beats_of_ds2_as_s_that_de_chazal_counts_as_n() -> None:
    root = mitdb_root()
    symbols = [symbol for name in DS2 for symbol in read_record(root, name).symbols]
    counts = np.bincount(aami(symbols, BXB_SYMBOLS), minlength=5)
    assert counts.tolist() == [44259 - 213, 1837 + 213, 3221, 388, 7]
