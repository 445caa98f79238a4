"""The learning that both sides repeat: updates made beforehand, by the product's own training.

Each hospital has one wristband.  The updates of round r come from training on the float64 mean of
all before it, so they are the updates of real federated averaging; what a system adds to them, such
as rounding, shows as a difference between its models and this average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common import fixedpoint
from common.digest import Tensors
from common.ecg.sources import EcgSource
from common.messages import RoundSpec
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters
from simulators.patients import split_last_fifth, wearer
from simulators.trainer import LocalTraining, device_seed, pin_to_one_thread, train

TASK = "beats"
NUM_STEPS, BATCH_SIZE, LEARNING_RATE = 5, 32, 1e-3
Flat = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lesson:
    """What both sides start from and add.

    Attributes
    ----------
    initial : dict
        Parameters of the first round's model.
    updates : ndarray
        (R, K, P) float32: difference by round, hospital and parameter, tensors in name order.
    averages : ndarray
        (R + 1, P) float64: the model before each round and after the last.
    """

    initial: Parameters
    updates: npt.NDArray[np.float32]
    averages: Flat

    def update(self, round_id: int, hospital: int) -> Parameters:
        """One hospital's update of one round, counted from 1, as named tensors."""
        return named(self.updates[round_id - 1, hospital], self.initial)


def teach(source: EcgSource, num_hospitals: int, num_rounds: int, seed: int = 0) -> Lesson:
    """Train every hospital's wristband in every round, each on one patient of the training set."""
    pin_to_one_thread()
    names = source.train_names[:num_hospitals]
    patients = [split_last_fifth(wearer(source.read(name)))[0] for name in names]
    initial = get_task(TASK).initial(seed)
    averages = [flat(initial).astype(np.float64)]
    updates = []
    for round_id in range(1, num_rounds + 1):
        base = named(averages[-1].astype(np.float32), initial)
        updates.append([_update(base, p, k, round_id) for k, p in enumerate(patients)])
        averages.append(averages[-1] + np.mean(np.asarray(updates[-1], np.float64), axis=0))
    return Lesson(initial, np.asarray(updates, np.float32), np.asarray(averages))


def _update(
    base: Parameters, patient: Examples, hospital: int, round_id: int
) -> npt.NDArray[np.float32]:
    seed = device_seed(0, f"wb-{hospital:02d}", round_id)
    plan = LocalTraining(LEARNING_RATE, NUM_STEPS, BATCH_SIZE, 0.0, seed)
    trained = train(get_task(TASK), base, patient, plan)
    return np.asarray(flat(trained) - flat(base), dtype=np.float32)


def flat(tensors: Tensors) -> npt.NDArray[np.float32]:
    """All tensors in name order as one vector."""
    return np.concatenate([np.asarray(tensors[name]).ravel() for name in sorted(tensors)])


def named(vector: npt.NDArray[np.float32], like: Parameters) -> Parameters:
    """The inverse of `flat`."""
    ends = np.cumsum([like[name].size for name in sorted(like)])
    parts = np.split(vector, ends[:-1])
    return {n: p.reshape(like[n].shape) for n, p in zip(sorted(like), parts, strict=True)}


def bound(specs: Sequence[RoundSpec], lesson: Lesson) -> Flat:
    """Largest difference that fixed point and float32 may make, by parameter.

    Each round: half a step of ``2**exponent``; what the hospitals' mean loses to saturation; and two
    roundings to float32 (a client's model or update, and the average) of half a unit in the last
    place, taken twice, since an average in float32 adds in K steps.
    """
    largest = np.abs(lesson.averages).max(axis=0) + np.abs(lesson.updates).max(axis=(0, 1))
    last_place = np.spacing(largest.astype(np.float32)).astype(np.float64)
    total: Flat = len(specs) * 4 * last_place
    for spec in specs:
        total = total + _step(spec, lesson) / 2 + excess(spec, lesson).mean(axis=0)
    return total


def excess(spec: RoundSpec, lesson: Lesson) -> Flat:
    """How far each update of a round lies beyond what its integers can carry, (K, P)."""
    top = fixedpoint.largest(spec.fixed_point.bits) * _step(spec, lesson)
    beyond = np.abs(lesson.updates[spec.round_id - 1].astype(np.float64)) - top
    return np.asarray(np.maximum(beyond, 0.0), dtype=np.float64)


def _step(spec: RoundSpec, lesson: Lesson) -> Flat:
    exponents = spec.fixed_point.exponents
    steps = {n: np.full(v.shape, 2.0 ** exponents[n]) for n, v in lesson.initial.items()}
    return flat(steps).astype(np.float64)


def compare(
    ours: Mapping[int, Tensors],
    flower: Mapping[int, Flat],
    specs: Sequence[RoundSpec],
    lesson: Lesson,
) -> dict[str, float | int | bool]:
    """Largest differences of the models after each round, and whether all are within `bound`."""
    last = len(specs)
    gaps = {"ours_flower": 0.0, "ours_average": 0.0, "flower_average": 0.0}
    within, share = True, 0.0
    for done in range(1, last + 1):
        a, b = flat(ours[done + 1]).astype(np.float64), np.asarray(flower[done + 1], np.float64)
        limit = bound(specs[:done], lesson)
        gap = np.abs(a - b)
        within = within and bool((gap <= limit).all())
        share = max(share, float((gap / limit).max()))
        _widen(gaps, a, b, lesson.averages[done])
    return {
        "num_rounds": last,
        "num_saturated": sum(int(np.count_nonzero(excess(spec, lesson))) for spec in specs),
        "within_bound": within,
        "largest_share_of_bound": round(share, 4),
        "bound": float(bound(specs, lesson).max()),
        "largest_move": float(np.abs(lesson.averages[last] - lesson.averages[0]).max()),
        **{f"largest_difference_{name}": gap for name, gap in gaps.items()},
    }


def _widen(gaps: dict[str, float], ours: Flat, flower: Flat, average: Flat) -> None:
    pairs = {"ours_flower": (ours, flower), "ours_average": (ours, average)}
    for name, (one, other) in {**pairs, "flower_average": (flower, average)}.items():
        gaps[name] = max(gaps[name], float(np.abs(one - other).max()))
