from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import plot_style
from benchmarks.calibration_plots import coverage, reliability
from benchmarks.clinical_plots import confusion, per_patient
from benchmarks.learning_plots import Run, learning_curves
from benchmarks.personal_plots import Change, gain_and_harm
from benchmarks.strip_plots import Strip, strips
from common.ecg.labels import AAMI
from common.errors import ConfigError, ContractError
from common.metrics.calibration import coverage_curve, reliability_bins
from common.notice import NOTICE

SCORES = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]] * 10)
LABELS = np.array([0, 0, 1, 0] * 10)
BINS = reliability_bins(SCORES, LABELS)
CURVE = coverage_curve(SCORES, LABELS)
NO_CURVE = coverage_curve(SCORES[:0], LABELS[:0])
COUNTS = np.diag([2999, 50, 300, 0, 0]) + np.eye(5, k=1, dtype=np.int64)
COUNTS[3:] = 0


def make_run(num_steps: int = 5, sample_fraction: float = 1.0, mu: float = 0.0) -> Run:
    return {
        "algorithm": "FedProx" if mu else "FedAvg",
        "mu": mu,
        "num_steps": num_steps,
        "sample_fraction": sample_fraction,
        "rounds": [1, 2, 3],
        "macro_f1": [0.3, 0.5, 0.6],
    }


def make_strip(num_s: int = 6, said: str = "NVS", reference: str = "NVN") -> Strip:
    return {
        "record": "114",
        "lead": "MLII",
        "start_s": 312.4,
        "ecg_mv": np.sin(np.arange(num_s * 100) / 20),
        "fs_hz": 100.0,
        "r_idx": np.array([50, 200, 350]),
        "reference": tuple(reference),
        "said": tuple(said),
        "confidences": [0.97, 0.42, 0.58],
    }


def make_change(record: str = "101", before: float = 0.5, after: float = 0.75) -> Change:
    return {"record": record, "before": before, "after": after}


DRAW: Mapping[str, Callable[[Path], None]] = {
    "reliability": lambda path: reliability({"ours": BINS, "peer": BINS}, path),
    "coverage": lambda path: coverage({"ours": CURVE, "peer": CURVE}, {"ours": 0.25}, path),
    "confusion": lambda path: confusion(COUNTS, AAMI, "Ours on DS1", path),
    "learning_curves": lambda path: learning_curves([make_run(1), make_run(20)], path),
    "strips": lambda path: strips([make_strip()], path),
    "per_patient": lambda path: per_patient(
        {
            "101": {"S": 0.5, "V": None, "num_s": 3, "num_v": 0},
            "232": {"S": 0.9, "V": 0.0, "num_s": 1382, "num_v": 1},
        },
        path,
    ),
    "gain_and_harm": lambda path: gain_and_harm(
        [make_change(), make_change("102", 0.8, 0.7), make_change("103", 0.6, 0.6)], path
    ),
}

NOTHING: Mapping[str, Callable[[Path], None]] = {
    "reliability": lambda path: reliability({}, path),
    "reliability without beats": lambda path: reliability(
        {"ours": reliability_bins(SCORES[:0], LABELS[:0])}, path
    ),
    "coverage": lambda path: coverage({}, {}, path),
    "coverage without beats": lambda path: coverage({"ours": NO_CURVE}, {}, path),
    "confusion": lambda path: confusion(np.zeros((5, 5), dtype=np.int64), AAMI, "", path),
    "learning_curves": lambda path: learning_curves([], path),
    "learning_curves without rounds": lambda path: learning_curves(
        [{**make_run(), "rounds": [], "macro_f1": []}], path
    ),
    "strips": lambda path: strips([], path),
    "strips without samples": lambda path: strips([make_strip(num_s=0)], path),
    "per_patient": lambda path: per_patient({}, path),
    "gain_and_harm": lambda path: gain_and_harm([], path),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every figure of `DRAW` as an SVG; the folder is made by the first."""
    folder = tmp_path_factory.mktemp("figures") / "new"
    paths = {name: folder / f"{name}.svg" for name in DRAW}
    for name, draw in DRAW.items():
        draw(paths[name])
    return paths


def texts(path: Path) -> list[str]:
    """The texts that a reader of the SVG sees, in the order of drawing."""
    shown = re.findall(r">([^<]+)</(?:text|tspan)>", path.read_text())
    return [unescape(text) for text in shown]


def test_each_figure_is_one_small_file_with_a_title(drawn: Mapping[str, Path]) -> None:
    folder = drawn["coverage"].parent
    assert sorted(path.stem for path in folder.iterdir()) == sorted(DRAW)
    for path in drawn.values():
        assert path.stat().st_size < 200_000
        assert "<title>" in path.read_text()


@pytest.mark.parametrize("name", DRAW)
def test_same_data_gives_the_same_bytes(
    name: str, drawn: Mapping[str, Path], tmp_path: Path
) -> None:
    DRAW[name](tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == drawn[name].read_bytes()


def test_same_strips_give_the_same_pixels_and_bytes(tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        DRAW["strips"](tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.mark.parametrize("name", NOTHING)
def test_refuses_to_draw_nothing_and_leaves_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"there are no .* to draw"):
        NOTHING[name](tmp_path / "figure.svg")
    assert not list(tmp_path.iterdir())


def test_no_figure_calls_n_normal(drawn: Mapping[str, Path]) -> None:
    for path in drawn.values():
        assert not re.search("normal|sinus", " ".join(texts(path)), re.IGNORECASE)


def test_reliability_names_models_and_tells_bins_of_few_beats_apart(
    drawn: Mapping[str, Path],
) -> None:
    shown = texts(drawn["reliability"])
    assert {"ours", "peer", "as sure as right", "hollow: fewer than 30 beats"} <= set(shown)


def test_coverage_says_what_the_threshold_gives_on_these_beats(drawn: Mapping[str, Path]) -> None:
    shown = texts(drawn["coverage"])
    assert {"ours: answers 50.0 %, 0 % of these wrong", "peer"} <= set(shown)


def test_coverage_says_so_where_a_threshold_answers_none(tmp_path: Path) -> None:
    coverage({"ours": CURVE}, {"ours": 0.01}, tmp_path / "figure.svg")
    assert "ours: answers none" in texts(tmp_path / "figure.svg")


def test_confusion_shows_counts_row_shares_and_what_n_means(drawn: Mapping[str, Path]) -> None:
    shown = texts(drawn["confusion"])
    assert {"N (not ectopic)", "3,000 beats", "2,999", "> 99.9 %", "< 0.1 %"} <= set(shown)


@pytest.mark.parametrize("counts", [np.eye(4, dtype=np.int64), np.eye(5), -np.eye(5, dtype=int)])
def test_confusion_refuses_what_is_no_count(counts: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="5 x 5 counts"):
        confusion(counts, AAMI, "", tmp_path / "figure.svg")


def test_learning_curves_tell_what_runs_differ_in_and_what_they_share(
    drawn: Mapping[str, Path],
) -> None:
    shown = texts(drawn["learning_curves"])
    assert {"local steps a round", "1", "20", "By rounds", "By work done"} <= set(shown)
    assert "all lines: wristbands a round: 100 %; algorithm: FedAvg" in shown


def test_learning_curves_tell_participation_and_mu_apart(tmp_path: Path) -> None:
    runs = [make_run(), make_run(mu=0.01), make_run(sample_fraction=0.25)]
    learning_curves(runs, tmp_path / "figure.svg")
    shown = texts(tmp_path / "figure.svg")
    assert {"algorithm", "FedAvg", "FedProx, μ = 0.01", "100 %", "25 %"} <= set(shown)


def test_learning_curves_need_one_figure_a_round_and_rounds_from_one(tmp_path: Path) -> None:
    short: Run = {**make_run(), "macro_f1": [0.1]}
    early: Run = {**make_run(), "rounds": [0, 1, 2]}
    for run in (short, early):
        with pytest.raises(ContractError):
            learning_curves([run], tmp_path / "figure.svg")


def test_strip_marks_wrong_beats_in_red_and_right_ones_in_grey(drawn: Mapping[str, Path]) -> None:
    shown = texts(drawn["strips"])
    assert {"Record 114, lead MLII, from 5:12", "N", "V", "S/N", "97", "42", "58"} <= set(shown)
    svg = drawn["strips"].read_text()
    assert re.search(r"fill: #c00000[^>]*>S/N<", svg)
    assert re.search(r"fill: #55606c[^>]*>V<", svg)


def test_strip_carries_notice_and_meaning_of_n(drawn: Mapping[str, Path]) -> None:
    foot = " ".join(texts(drawn["strips"]))
    assert NOTICE in foot
    assert "N = not ectopic" in foot


def test_strip_is_on_paper_of_25_mm_a_second_at_6_pixels_a_mm(tmp_path: Path) -> None:
    widths = []
    for num_s in (6, 10):
        strips([make_strip(num_s)], tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as image:
            widths.append(image.width)
    assert widths[1] - widths[0] == 4 * 25 * 6


@pytest.mark.parametrize(
    "strip",
    [
        make_strip(num_s=13),
        make_strip(num_s=3),
        make_strip(said="NV"),
        {**make_strip(), "confidences": [0.5]},
    ],
)
def test_strip_refuses_beats_that_do_not_fit_and_strips_too_long(
    strip: Strip, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match="114"):
        strips([strip], tmp_path / "figure.png")


def test_per_patient_shows_the_weight_of_record_232(drawn: Mapping[str, Path]) -> None:
    shown = texts(drawn["per_patient"])
    assert {"1,382 (99.8 %)", "F1 of S", "F1 of V", "–", "0"} <= set(shown)
    assert shown.index("232") < shown.index("101")


def test_gain_and_harm_counts_those_who_lose_and_sorts_by_change(drawn: Mapping[str, Path]) -> None:
    shown = texts(drawn["gain_and_harm"])
    assert "Of 3 patients 1 gain, 1 lose, 1 unchanged" in shown
    assert [text for text in shown if text in ("101", "102", "103")] == ["101", "103", "102"]
    svg = drawn["gain_and_harm"].read_text()
    assert plot_style.GAIN in svg
    assert plot_style.HARM in svg


def test_gain_and_harm_refuses_a_score_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="101"):
        gain_and_harm([make_change(after=float("nan"))], tmp_path / "figure.svg")


def test_percent_never_rounds_to_all_or_none() -> None:
    shares = (1.0, 0.9996, 0.9994, 0.123, 0.0006, 0.0004, 0.0)
    shown = ["100 %", "> 99.9 %", "99.9 %", "12.3 %", "0.1 %", "< 0.1 %", "0 %"]
    assert [plot_style.percent(share) for share in shares] == shown


def test_a_figure_is_svg_or_png_and_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="neither"):
        DRAW["confusion"](tmp_path / "figure.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        DRAW["confusion"](tmp_path / "file" / "figure.svg")
