"""Who attacks, what hospitals do about it, and which of their pairs are run, with how many seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.clinical_arms import TASK
from common.messages import HospitalRule
from regional.config import LearningConfig, ScreeningConfig
from simulators.attackers import Attack
from simulators.study import Roster, Study

NUM_ROUNDS = 40
NUM_STEPS = 5
MUTE_AFTER = 5
MUTE_ROUNDS = 40
"""What an edge node's hour of muting is at a round every minute and a half."""
PLACING_SEED = 77


@dataclass(frozen=True)
class Defence:
    """What a region is told to do.

    Attributes
    ----------
    rule : HospitalRule
        As ``learning.hospital_rule``.
    screened : bool
        Whether hospitals screen, by the defaults of `ScreeningConfig`, and mute.
    """

    name: str
    rule: HospitalRule = "sum"
    screened: bool = False


PLAIN = Defence("plain_sum")
RECOMMENDED = Defence("screen_trimmed_mean", "trimmed_mean", screened=True)
DEFENCES: tuple[Defence, ...] = (
    PLAIN,
    Defence("trimmed_mean", "trimmed_mean"),
    Defence("geometric_median", "geometric_median"),
    Defence("screen_sum", screened=True),
    RECOMMENDED,
)


@dataclass(frozen=True)
class Threat:
    """Which share of the wristbands does what; no attack at all is the clean run.

    With `absent` they are not there, so that what their wearers would have taught is missing too.
    """

    share: float = 0.0
    attack: Attack | None = None
    absent: bool = False

    @property
    def name(self) -> str:
        """For tables and files."""
        if not self.share:
            return "clean"
        return f"{'absent' if self.attack is None else self.attack.value}_{self.share:.0%}"


CLEAN = Threat()
THIRD = (Attack.FLIPPED, Attack.FLIPPED_LOUD, Attack.NOISE, Attack.AGAINST, Attack.LITTLE)


@dataclass(frozen=True)
class Cell:
    """One place of the table, and one seed of it."""

    defence: Defence
    threat: Threat
    seed: int


def placed(roster: Roster, share: float, seed: int) -> frozenset[str]:
    """Devices that attack: drawn by seed, dealt to the hospitals in turn.

    Of 22 wristbands in hospitals of 8, 7 and 7 a tenth is one in each of two hospitals, three
    tenths are three, two and two: never half of a hospital.
    """
    rng = np.random.default_rng([seed, PLACING_SEED])
    left = {name: list(rng.permutation([device for device, _ in roster[name]])) for name in roster}
    names = list(roster)
    num = round(share * sum(len(pairs) for pairs in roster.values()))
    return frozenset(str(left[names[i % len(names)]].pop()) for i in range(num))


def study_of(cell: Cell, roster: Roster, num_rounds: int = NUM_ROUNDS) -> Study:
    """What a run trains."""
    hostile = placed(roster, cell.threat.share, cell.seed)
    if cell.threat.absent:
        roster = {
            name: [pair for pair in pairs if pair[0] not in hostile]
            for name, pairs in roster.items()
        }
    attack = cell.threat.attack
    return Study(
        roster,
        LearningConfig(
            num_steps=NUM_STEPS,
            lr_rounds=num_rounds,
            hospital_rule=cell.defence.rule,
            seed=cell.seed,
        ),
        num_rounds,
        TASK,
        screening=ScreeningConfig(enabled=cell.defence.screened),
        attackers=dict.fromkeys(sorted(hostile), attack) if attack else {},
        mute_after=MUTE_AFTER if cell.defence.screened else 0,
        mute_rounds=MUTE_ROUNDS,
    )


def cells(seeds: int, others: int) -> list[Cell]:
    """What the benchmark runs, the most telling first.

    Parameters
    ----------
    seeds : int
        Of the clean runs and a tenth of attackers, for plain sum and recommended defence.
    others : int
        Of everything else.
    """
    both = (PLAIN, RECOMMENDED)
    tenth = (Attack.FLIPPED, Attack.FLIPPED_LOUD, Attack.SCALED_CLIPPED, Attack.NOISE)
    main = [(d, CLEAN) for d in both]
    main += [(d, Threat(0.1, attack)) for attack in tenth for d in both]
    rest = [(PLAIN, Threat(share, absent=True)) for share in (0.1, 0.3)]
    rest += [(d, Threat(0.3, attack)) for attack in THIRD for d in both]
    rest += [(d, CLEAN) for d in DEFENCES]
    rest += [(d, Threat(0.1, Attack.FLIPPED_LOUD)) for d in DEFENCES]
    rest += [(d, Threat(0.1, Attack.LITTLE)) for d in both]
    rest += [(PLAIN, Threat(0.1, Attack.SCALED))]
    first = [Cell(d, t, seed) for seed in range(seeds) for d, t in main]
    last = [Cell(d, t, seed) for seed in range(others) for d, t in rest]
    return list(dict.fromkeys((*first, *last)))
