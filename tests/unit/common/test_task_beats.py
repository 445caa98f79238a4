from __future__ import annotations

import numpy as np
import pytest
import torch

from common.ecg.beats import INPUT_SHAPES
from common.tasks.beats import BeatTask
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


def loss_of(logits: dict[str, list[float]], labels: list[int]) -> float:
    class Fixed(torch.nn.Module):
        def forward(self, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor([logits["form"]] * len(labels)), torch.tensor(logits["rhythm"])

    inputs = {name: torch.empty(0) for name in INPUT_SHAPES}
    return float(TASK.loss(Fixed(), inputs, torch.tensor(labels)))


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


def test_scores_are_the_product_of_both_branches() -> None:
    module = TASK.build()
    load_parameters(module, TASK.initial(1))
    beats = make_beats([N] * 4)
    form, rhythm = module(*(torch.from_numpy(beats.inputs[name]) for name in INPUT_SHAPES))
    share = form.softmax(dim=1).detach().numpy()
    s = rhythm.sigmoid().detach().numpy()
    scores = score(TASK, TASK.initial(1), beats.inputs)
    np.testing.assert_allclose(scores[:, N], share[:, 0] * (1 - s), atol=1e-6)
    np.testing.assert_allclose(scores[:, S], share[:, 0] * s, atol=1e-6)
    np.testing.assert_allclose(scores[:, V:], share[:, 1:], atol=1e-6)


def test_the_rhythm_branch_learns_from_n_and_s_only() -> None:
    form = [0.0] * 4
    ventricular = [loss_of({"form": form, "rhythm": [r, r]}, [V, F]) for r in (-3.0, 3.0)]
    assert ventricular[0] == pytest.approx(ventricular[1])
    conducted = [loss_of({"form": form, "rhythm": [r, -r]}, [N, S]) for r in (-3.0, 3.0)]
    assert conducted[0] < conducted[1]


def test_rare_classes_are_drawn_more_often_than_they_occur() -> None:
    beats = make_beats([N] * 1900 + [S] * 50 + [V] * 50)
    labels = TASK.draw(beats, 4000, np.random.default_rng(0)).labels
    assert np.mean(labels == S) == pytest.approx(0.10, abs=0.02)
    assert np.mean(labels == V) == pytest.approx(0.15, abs=0.02)


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
