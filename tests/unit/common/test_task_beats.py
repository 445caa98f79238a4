from __future__ import annotations

import numpy as np
import pytest
import torch

from common.ecg.beats import INPUT_SHAPES
from common.tasks.beats import BATCH_SHARE, MAX_REPEAT, BeatTask
from common.tasks.calibration import FORM_BIAS, FORM_SCALE, RHYTHM_BIAS, RHYTHM_SCALE
from common.tasks.task import Examples, load_parameters, score

TASK = BeatTask()
N, S, V, F, Q = range(5)


def make_beats(labels: list[int], seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    inputs = {
        name: rng.standard_normal((len(labels), *shape), dtype=np.float32)
        for name, shape in INPUT_SHAPES.items()
    }
    return Examples(inputs, np.array(labels, dtype=np.int64))


class Fixed(torch.nn.Module):
    """A net whose answers are given."""

    def __init__(self, form: list[float], rhythm: list[float]) -> None:
        super().__init__()
        self.form, self.rhythm = torch.tensor(form), torch.tensor(rhythm)

    def form_logits(self, beat_mv: torch.Tensor, rr: torch.Tensor) -> torch.Tensor:
        return self.form.expand(len(beat_mv), -1)

    def rhythm_logit(self, rr: torch.Tensor, rhythm: torch.Tensor) -> torch.Tensor:
        return self.rhythm[: len(rr)]


def loss_of(
    labels: list[int], form: list[float], rhythm: list[float], *, has_ecg: bool = True
) -> float:
    beats = make_beats(labels)
    inputs = {name: torch.from_numpy(rows) for name, rows in beats.inputs.items()}
    if not has_ecg:
        inputs["beat_mv"] = torch.zeros_like(inputs["beat_mv"])
    torch.manual_seed(0)
    return float(TASK.loss(Fixed(form, rhythm), inputs, torch.tensor(labels)))


def test_the_gain_of_the_electrode_does_not_change_the_scores() -> None:
    beats = make_beats([N] * 8)
    louder = {**beats.inputs, "beat_mv": 3 * beats.inputs["beat_mv"]}
    params = TASK.initial(0)
    np.testing.assert_allclose(
        score(TASK, params, louder), score(TASK, params, beats.inputs), atol=1e-5
    )


def test_the_form_of_the_beat_says_nothing_about_s_against_n() -> None:
    beats = make_beats([N] * 8)
    other = {**beats.inputs, "beat_mv": make_beats([N] * 8, seed=1).inputs["beat_mv"]}
    ours, theirs = (score(TASK, TASK.initial(0), i) for i in (beats.inputs, other))
    np.testing.assert_allclose(ours[:, S] / ours[:, N], theirs[:, S] / theirs[:, N], rtol=1e-4)
    assert np.abs(ours[:, V] - theirs[:, V]).max() > 1e-4


def test_scores_are_the_product_of_both_calibrated_branches() -> None:
    module = TASK.build()
    load_parameters(module, TASK.initial(1))
    beats = make_beats([N] * 4)
    form, rhythm = module(*(torch.from_numpy(beats.inputs[name]) for name in INPUT_SHAPES))
    share = (FORM_SCALE * form + torch.tensor(FORM_BIAS)).softmax(dim=1).detach().numpy()
    s = (RHYTHM_SCALE * rhythm + RHYTHM_BIAS).sigmoid().detach().numpy()
    scores = score(TASK, TASK.initial(1), beats.inputs)
    np.testing.assert_allclose(scores[:, N], share[:, 0] * (1 - s), atol=1e-6)
    np.testing.assert_allclose(scores[:, S], share[:, 0] * s, atol=1e-6)
    np.testing.assert_allclose(scores[:, V:], share[:, 1:], atol=1e-6)


def test_the_rhythm_branch_learns_from_n_and_s_only() -> None:
    form = [0.0] * 4
    ventricular = [loss_of([V, F], form, [r, r]) for r in (-3.0, 3.0)]
    assert ventricular[0] == pytest.approx(ventricular[1])
    conducted = [loss_of([N, S], form, [r, -r]) for r in (-3.0, 3.0)]
    assert conducted[0] < conducted[1]


def test_a_simulated_rhythm_teaches_the_rhythm_branch_only() -> None:
    for form in ([5.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]):
        assert loss_of([N, S], form, [-2.0, 2.0], has_ecg=False) == pytest.approx(0.1269, abs=1e-3)


def test_augmentation_leaves_windows_without_ecg_empty() -> None:
    silent = make_beats([N, S] * 10)
    zeros = np.zeros_like(silent.inputs["beat_mv"])
    drawn = TASK.draw(
        Examples({**silent.inputs, "beat_mv": zeros}, silent.labels), 32, np.random.default_rng(0)
    )
    assert not drawn.inputs["beat_mv"].any()


def test_rare_classes_are_drawn_more_often_than_they_occur() -> None:
    beats = make_beats([N] * 1900 + [S] * 50 + [V] * 50)
    labels = TASK.draw(beats, 4000, np.random.default_rng(0)).labels
    assert np.mean(labels == S) == pytest.approx(BATCH_SHARE["S"], abs=0.02)
    assert np.mean(labels == V) == pytest.approx(BATCH_SHARE["V"], abs=0.02)


def test_two_beats_of_a_class_are_not_drawn_all_the_time() -> None:
    beats = make_beats([N] * 1998 + [S] * 2)
    labels = TASK.draw(beats, 4000, np.random.default_rng(0)).labels
    assert np.mean(labels == S) == pytest.approx(MAX_REPEAT * 2 / 2000, abs=0.01)


@pytest.mark.parametrize("labels", [[N] * 5, [V] * 5, [S, Q], [N]])
def test_a_wearer_may_lack_classes(labels: list[int]) -> None:
    drawn = TASK.draw(make_beats(labels), 16, np.random.default_rng(0))
    assert set(drawn.labels.tolist()) <= set(labels)
    assert np.isfinite(drawn.inputs["beat_mv"]).all()


def test_augmentation_leaves_the_rhythm_alone() -> None:
    beats = make_beats([N] * 5)
    drawn = TASK.draw(beats, 50, np.random.default_rng(0))
    known = {row.tobytes() for row in beats.inputs["rr"]}
    assert {row.tobytes() for row in drawn.inputs["rr"]} <= known
