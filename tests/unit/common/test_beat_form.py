"""Form features: columns of `against` are correlation, energy ratio and difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.ecg.beats import BEFORE, INPUT_SHAPES, WINDOW
from common.tasks.beat_form import (
    MAX_FEATURE,
    NEIGHBOUR_REGIONS,
    NUM_CHANNELS,
    NUM_FORM,
    NUM_SHAPE,
    NUM_SPREAD,
    QRS,
    REGIONS,
    channels,
    form_features,
    in_amplitudes,
    unusual,
)

NUM_AGAINST = NUM_FORM - 3 * NUM_SHAPE - NUM_SPREAD
NUM_WINDOWS = INPUT_SHAPES["beat_mv"][0]
OTHERS = 3  # regular, previous and next beat
WIDTH, SLOPE, POLARITY = range(NUM_SHAPE)


def bump(sd: float, height_mv: float = 1.0) -> Tensor:
    """A window (128,) with one wave at the R peak; `sd` in samples."""
    at = torch.arange(WINDOW) - BEFORE
    return height_mv * torch.exp(-0.5 * (at / sd).square())


def wave() -> Tensor:
    """A window (128,) with as much energy in every region as its QRS has."""
    return torch.sin(torch.arange(WINDOW) * 0.7)


def beside(beat: Tensor, others: Tensor | None = None, spread: float = 0.0) -> Tensor:
    """A beat in amplitudes (1, 5, 128) beside `others`, itself when not given."""
    usual = beat if others is None else others
    rows = [beat, usual, usual, usual, torch.full((WINDOW,), spread)]
    return in_amplitudes(torch.stack(rows)[None])


def described(beat: Tensor, others: Tensor | None = None, spread: float = 0.0) -> Tensor:
    """Features (51,) of a beat beside `others`, itself when not given."""
    return form_features(beside(beat, others, spread))[0]


def against(features: Tensor) -> Tensor:
    """(11, 3) the beat against others: correlation, energy ratio, difference."""
    return features[:NUM_AGAINST].reshape(-1, 3)


def shapes(features: Tensor) -> Tensor:
    """(3, 3) width, slope and polarity: of the beat, of the regular beat, their difference."""
    return features[NUM_AGAINST:-NUM_SPREAD].reshape(3, NUM_SHAPE)


def make_windows(seed: int = 0) -> Tensor:
    return torch.randn(6, NUM_WINDOWS, WINDOW, generator=torch.Generator().manual_seed(seed))


def test_there_are_as_many_features_as_announced() -> None:
    assert form_features(in_amplitudes(make_windows())).shape == (6, NUM_FORM)
    far = len(REGIONS) - len(NEIGHBOUR_REGIONS)
    assert against(described(wave())).shape == (OTHERS * len(NEIGHBOUR_REGIONS) + far, 3)


@pytest.mark.parametrize("gain", [0.5, 3.0, 40.0])
def test_the_gain_of_the_electrode_changes_nothing(gain: float) -> None:
    plain, louder = (form_features(in_amplitudes(k * make_windows())) for k in (1.0, gain))
    torch.testing.assert_close(plain, louder, atol=1e-4, rtol=1e-4)


def test_amplitudes_are_multiples_of_the_regular_beats_qrs() -> None:
    beats = in_amplitudes(make_windows())
    torch.testing.assert_close(
        beats[:, 1, QRS].amax(dim=1) - beats[:, 1, QRS].amin(dim=1), torch.ones(6)
    )


def test_a_beat_like_all_others_correlates_fully_and_differs_in_nothing() -> None:
    features = described(wave())
    correlation, ratio, difference = against(features).T
    torch.testing.assert_close(correlation, torch.ones(len(correlation)), atol=0.01, rtol=0)
    assert not ratio.any()
    assert not difference.any()
    assert not shapes(features)[2].any()


def test_an_inverted_beat_correlates_negatively_and_differs() -> None:
    correlation, _, difference = against(described(-wave(), wave())).T
    assert (correlation < -0.9).all()
    assert (difference > 0).all()


def test_a_larger_beat_has_more_energy_than_its_regular_one() -> None:
    _, ratio, _ = against(described(2 * wave(), wave())).T
    assert (ratio > 0.5).all()


def test_a_wider_qrs_has_a_greater_width_and_a_gentler_slope() -> None:
    narrow, wide = shapes(described(bump(2.5)))[0], shapes(described(bump(6.0)))[0]
    assert wide[WIDTH] > 1.5 * narrow[WIDTH]
    assert wide[SLOPE] < narrow[SLOPE]


def test_a_wide_beat_is_told_from_a_narrow_regular_one() -> None:
    own, usual, difference = shapes(described(bump(6.0), bump(2.5)))
    torch.testing.assert_close(difference, own - usual)
    assert difference[WIDTH] > 0


def test_polarity_is_the_sign_of_the_qrs() -> None:
    assert shapes(described(bump(3.0)))[0, POLARITY] > 0
    assert shapes(described(bump(3.0, height_mv=-1.0)))[0, POLARITY] < 0


def test_a_flat_region_correlates_with_nothing() -> None:
    correlation, _, _ = against(described(torch.zeros(WINDOW))).T
    assert not correlation.any()


@pytest.mark.parametrize("mv", [0.0, 1e6, -1e6])
def test_any_voltage_gives_bounded_features_and_finite_gradients(mv: float) -> None:
    flat = torch.full((2, NUM_WINDOWS, WINDOW), mv, requires_grad=True)
    features = form_features(in_amplitudes(flat))
    assert (features.abs() <= MAX_FEATURE).all()
    torch.autograd.backward(features.sum())
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("mv", [1e6, -1e6])
def test_a_beat_out_of_all_proportion_gives_bounded_features(mv: float) -> None:
    features = described(torch.full((WINDOW,), mv), bump(3.0))
    assert torch.isfinite(features).all()
    assert (features.abs() <= MAX_FEATURE).all()


def test_the_same_difference_is_less_unusual_in_a_restless_ecg() -> None:
    still, restless = (unusual(beside(1.2 * wave(), wave(), s)).abs().amax() for s in (0.01, 0.3))
    assert still > 3 * restless
    features = [described(1.2 * wave(), wave(), s)[-1] for s in (0.01, 0.3)]
    assert features[0] > features[1] + 1


def test_convolutions_see_beat_difference_and_how_unusual_it_is() -> None:
    seen = channels(beside(wave(), 2 * wave(), 0.1))
    assert seen.shape == (1, NUM_CHANNELS, WINDOW)
    torch.testing.assert_close(seen[0, 1], -seen[0, 0])
    assert (seen[0, 2].sign() == seen[0, 1].sign()).all()


def test_a_spread_below_zero_counts_as_none() -> None:
    torch.testing.assert_close(
        described(wave(), 2 * wave(), -5.0), described(wave(), 2 * wave(), 0.0)
    )
