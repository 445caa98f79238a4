from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks import clinical_figures as figures
from benchmarks.clinical_table import bytes_table, figures_table, shown
from common.ecg.labels import AAMI
from common.errors import ContractError
from common.metrics.report import beat_report
from common.tasks.dummy import DummyTask

PARAMS = DummyTask().initial(0)
TRAFFIC = {"counted": "payloads", "up_per_device_round": 900.0, "down_per_device_round": 600.0}


def make_report(hits: int = 90, misses: int = 10) -> figures.Report:
    """Two records; `hits` of each class are right, `misses` are taken for the next class."""
    record = np.eye(5, dtype=np.int64) * hits + np.roll(np.eye(5, dtype=np.int64), 1, 1) * misses
    report = beat_report({"100": record, "232": record}).to_dict()
    return {"figures": report, "without_202": {"accuracy": 0.5, "macro_f1_nsv": 0.25}}


def make_document(reports: list[figures.Report]) -> dict[str, Any]:
    ours = figures.spreads(reports)
    return {
        "federated": ours,
        "centralised": ours,
        "federated_minus_centralised": figures.differences(ours, ours),
        "all_n": figures.spreads([figures.all_n_report(report) for report in reports]),
    }


def test_spread_is_the_mean_and_the_sample_standard_deviation() -> None:
    found = figures.spread([1.0, 2.0, 4.0])
    assert found["mean"] == pytest.approx(7 / 3)
    assert found["sd"] == pytest.approx(float(np.std([1.0, 2.0, 4.0], ddof=1)))
    assert found["values"] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [([], None, None), ([None], None, None), ([0.5], 0.5, None), ([0.5, None], 0.5, None)],
)
def test_spread_does_not_invent_what_nobody_can_know(
    values: list[float | None], mean: float | None, sd: float | None
) -> None:
    assert figures.spread(values) == {"mean": mean, "sd": sd, "values": values}


def test_spreads_take_each_figure_from_its_place_in_the_report() -> None:
    found = figures.spreads([make_report(90, 10), make_report(80, 20)])
    assert tuple(found) == figures.FIGURES
    assert found["accuracy"]["values"] == pytest.approx([0.9, 0.8])
    assert found["s_f1"]["values"] == pytest.approx([0.9, 0.8])
    assert found["v_sensitivity"]["values"] == pytest.approx([0.9, 0.8])
    assert found["macro_f1_without_202"]["values"] == [0.25, 0.25]


def test_differences_are_paired_by_seed() -> None:
    ours = figures.spreads([make_report(90, 10), make_report(80, 20)])
    peer = figures.spreads([make_report(80, 20), make_report(80, 20)])
    found = figures.differences(ours, peer)["accuracy"]
    assert found["values"] == pytest.approx([0.1, 0.0])
    assert found["sd"] == pytest.approx(0.1 / math.sqrt(2))


def test_a_difference_to_an_unknown_figure_is_unknown() -> None:
    ours = figures.spreads([make_report()])
    peer = figures.spreads([figures.all_n_report(make_report())])
    assert figures.differences(ours, peer)["accuracy_without_202"]["values"] == [None]


def test_saying_n_of_every_beat_is_right_as_often_as_a_beat_is_n() -> None:
    found = figures.spreads([figures.all_n_report(make_report(90, 10))])
    assert found["accuracy"]["mean"] == pytest.approx(1 / len(AAMI))
    assert found["s_f1"]["mean"] == 0.0
    assert found["s_f1_without_232"]["mean"] == 0.0
    assert found["v_f1"]["mean"] == 0.0
    assert found["macro_f1"]["mean"] == pytest.approx((2 / (1 + len(AAMI))) / 3)
    assert found["s_positive_predictivity"]["mean"] is None


@pytest.mark.parametrize(("bits", "saved"), [(8, 3), (16, 2)])
def test_integers_save_their_share_of_four_bytes_a_parameter(bits: int, saved: int) -> None:
    size = sum(value.size for value in PARAMS.values())
    own = figures.update_bytes(PARAMS, figures.UPDATE_DTYPES[bits])
    # The header is padded to 8 bytes, and "I8" is a letter shorter than "F32".
    assert figures.update_bytes(PARAMS, np.float32) - own == pytest.approx(saved * size, abs=16)


def test_only_the_update_is_larger_with_float32() -> None:
    found = figures.bytes_against_float32(PARAMS, [TRAFFIC, TRAFFIC], 16)
    more = found["update"]["float32_fedavg"] - found["update"]["ours"]
    assert more > 0
    assert found["up"] == {
        "ours": 900.0,
        "float32_fedavg": 900.0 + more,
        "ratio": round(1 + more / 900, 3),
    }
    assert found["down"] == {"ours": 600.0, "float32_fedavg": 600.0, "ratio": 1.0}
    assert found["both"]["ratio"] == round((1500 + more) / 1500, 3)


def test_a_demo_that_counted_no_bytes_gives_no_figure() -> None:
    with pytest.raises(ContractError, match="counted no bytes"):
        figures.bytes_against_float32(PARAMS, [TRAFFIC, {}], 16)


def test_the_table_has_a_row_for_every_figure_and_says_what_is_unknown() -> None:
    table = figures_table(make_document([make_report()]))
    assert table.row_count == len(figures.FIGURES)
    assert "n/a" in list(table.columns[-1].cells)
    assert "+0.000" in list(table.columns[3].cells)


def test_one_seed_shows_no_standard_deviation() -> None:
    assert shown(figures.spread([0.5])) == "0.500"
    assert shown(figures.spread([0.5, 0.5])) == "0.500 ± 0.000"
    assert shown(figures.spread([-0.25]), signed=True) == "-0.250"


def test_the_table_of_bytes_shows_ours_beside_float32() -> None:
    table = bytes_table(figures.bytes_against_float32(PARAMS, [TRAFFIC], 16))
    assert list(table.columns[1].cells)[1] == "900"
