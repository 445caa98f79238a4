"""Trends of processes."""

from __future__ import annotations

from benchmarks.faultbed.processes import Measured, Sample, trends


def make_sample(num_rounds: int, rss_mib: float, pid: int = 1) -> Sample:
    measured = Measured(pid, rss_mib, num_fds=10, num_threads=3, num_children=1, num_listening=1)
    return Sample(num_rounds, {"region": measured})


def test_slope_is_that_of_the_longest_life_after_its_first_sample() -> None:
    samples = [make_sample(0, 50.0), make_sample(10, 100.0)]
    samples += [make_sample(10 * n, 100.0 + n, pid=2) for n in range(2, 7)]
    (trend,) = trends(samples)
    assert (trend.num_lives, trend.num_samples, trend.max_rss_mib) == (2, 5, 106.0)
    assert trend.slope_kib_a_round == 102.4


def test_no_slope_of_two_samples() -> None:
    (trend,) = trends([make_sample(0, 50.0), make_sample(10, 60.0), make_sample(20, 60.0)])
    assert trend.slope_kib_a_round is None
