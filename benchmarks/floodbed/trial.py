"""One case: good traffic alone and beside an attack, in turns, against one edge node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.floodbed.attacker import Order
from benchmarks.floodbed.traffic import Delivered, GoodTraffic
from benchmarks.floodbed.ward import Ward
from benchmarks.results_file import REPOSITORY
from common.errors import PulseRingError
from simulators.broker_process import Kind
from tests.builders.raw_mqtt import RawPublisher, publish_packet
from tests.faults.attacked_desk import DEVICES

SEED = 7
RECEIPTS_TIMEOUT_S = 120.0
Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """How to attack: `attack_per_s` of 0 is as fast as the broker takes it."""

    broker: Kind
    num_malformed: int
    attack_per_s: float
    mute_after: int
    good_per_s: float
    seconds: float
    pairs: int

    @property
    def num_good(self) -> int:
        """Updates in one turn."""
        return round(self.good_per_s * self.seconds)


def run(case: Case, folder: Path) -> Figures:
    """Go through the pairs of turns.

    Raises
    ------
    PulseRingError
        When an update is not receipted as stored, is not once in the ledger, or a malformed message
        was not counted.
    """
    names = [f"good-{number:05d}" for number in range(2 * case.pairs * case.num_good)]
    alone, beside, attacks = [], [], []
    with ExitStack() as stack:
        ward = stack.enter_context(Ward(folder, case.broker, names, case.mute_after))
        _deliver_own(ward)
        attackers = Attackers(ward, case)
        stack.callback(attackers.stop)
        traffic, rss_before = GoodTraffic(ward), ward.rss_mib
        for start in range(0, len(names), 2 * case.num_good):
            middle = start + case.num_good
            alone.append(_deliver(traffic, names[start:middle], case))
            attackers.begin()
            beside.append(_deliver(traffic, names[middle : middle + case.num_good], case))
            attacks.append(attackers.end())
            results = _settled(ward, case, alone + beside, len(attacks))
        _check_ledger(ward, names)
        figures = _summary(alone, beside) | {"rss_before_mib": rss_before, "rss_mib": ward.rss_mib}
    return asdict(case) | figures | _of_attacks(attacks) | {"results": results}


def _deliver(traffic: GoodTraffic, names: Sequence[str], case: Case) -> Delivered:
    delivered = traffic.deliver(names, case.good_per_s, RECEIPTS_TIMEOUT_S)
    if delivered.num_stored != len(names):
        raise PulseRingError(f"{len(names) - delivered.num_stored} good updates were refused")
    return delivered


def _deliver_own(ward: Ward) -> None:
    """Let the hostile devices deliver what is theirs, after which nothing of theirs is new."""
    target = ward.target
    with RawPublisher(ward.broker.host, ward.broker.port, "hostile") as session:
        for name in DEVICES:
            for leaf in ("update", "evaluation"):
                session.post(publish_packet(target.topic(name, leaf), target.valid(name, leaf)), 1)
        session.settle()
    ward.wait_for_results(2 * len(DEVICES), RECEIPTS_TIMEOUT_S)


class Attackers:
    """The attackers' process: `begin` an attack, do something else, `end` it."""

    def __init__(self, ward: Ward, case: Case) -> None:
        order = Order(
            ward.broker.host,
            ward.broker.port,
            ward.spec.model_dump(mode="json"),
            SEED,
            case.num_malformed,
            case.attack_per_s,
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.floodbed.attacker"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(order.encoded())
        if self._hear() != "ready":
            raise PulseRingError("the attackers did not start")

    def begin(self) -> None:
        """Start sending the messages, the same each time."""
        self._say("go")

    def end(self) -> Figures:
        """Wait until the broker has taken all of them."""
        figures: Figures = json.loads(self._hear())
        return figures

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)

    def _hear(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise PulseRingError(f"the attackers ended with code {self._process.wait()}")
        return line.strip()


def _settled(ward: Ward, case: Case, good: Sequence[Delivered], num_attacks: int) -> dict[str, int]:
    """Results of all that was sent until now, with what the hostile devices delivered themselves.

    An update that was sent again may have come once or twice.
    """
    num_good, own = sum(turn.num for turn in good), 2 * len(DEVICES)
    least = num_good + num_attacks * case.num_malformed + own
    results = ward.wait_for_results(least, RECEIPTS_TIMEOUT_S)
    most = least + sum(turn.num_resent for turn in good)
    if not least <= sum(results.values()) <= most or results["stored"] != num_good + own:
        raise PulseRingError(f"{least} to {most} messages were sent; judged: {results}")
    return results


def _check_ledger(ward: Ward, names: Sequence[str]) -> None:
    stored = Counter(ward.stored_updates())
    if stored != Counter([*names, *DEVICES]):
        raise PulseRingError("the ledger does not hold each good update once")


def _summary(alone: Sequence[Delivered], beside: Sequence[Delivered]) -> Figures:
    figures = {
        name: {field: round(median(getattr(d, field) for d in turns), 2) for field in _FIELDS}
        for name, turns in (("alone", alone), ("beside", beside))
    }
    ratios = [b.rate_per_s / a.rate_per_s for a, b in zip(alone, beside, strict=True)]
    num_resent = sum(turn.num_resent for turn in beside)
    return {
        **figures,
        "num_resent": num_resent,
        "ratio": round(median(ratios), 3),
        "worst_ratio": round(min(ratios), 3),
    }


_FIELDS = ("offered_per_s", "rate_per_s", "slowest_second", "median_ms", "p95_ms", "worst_ms")


def _of_attacks(attacks: Sequence[Figures]) -> Figures:
    return {
        "attacked_per_s": round(median(a["num"] / a["seconds"] for a in attacks), 1),
        "attacked_mb_per_s": round(median(a["num_bytes"] / a["seconds"] / 1e6 for a in attacks), 1),
        "num_attacked": sum(a["num"] for a in attacks),
        "num_ended": sum(a["num_ended"] for a in attacks),
    }
