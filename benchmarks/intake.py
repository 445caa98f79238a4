"""Durable intake against a subscriber that only counts, over the same broker.

``make bench-intake`` publishes valid updates from 1, 100 and 2000 sessions at once, once to an edge
node (`python -m edge run`: all checks, ledger with full sync, receipts) and once to a paho
subscriber that counts, and writes ``benchmarks/results/intake.json``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.intakebed import arms
from benchmarks.intakebed.updates import Publisher
from common import logs
from simulators.broker import EmbeddedBroker
from simulators.broker_process import Kind

NAME = "intake"
GOAL = 0.6
NUM_UPDATES = {20_000: 6000, 64_000: 3000}
NUM_DEVICES = (1, 100, 2000)
METHOD = (
    "Each run has a fresh broker and ledger and an open round whose roster holds a name for each "
    "update. One process publishes all updates at once over so many MQTT 5 sessions (paho, one "
    "selectors loop, QoS 1), session k those of the names k, k + devices, ...: with fewer sessions "
    "than updates a session speaks for many names, since a name may deliver once a round. The edge "
    "node's time is from the first publish to the last receipt at its publisher, the counter's to "
    "the last message counted. Nothing is sent again; every update must arrive. Publishers, broker "
    "and subscriber share the machine's cores in both. Runs alternate; figures are medians."
)
console = Console()
progress = Console(stderr=True)


@dataclass(frozen=True)
class Case:
    """What is published, through which broker."""

    broker: Kind
    update_bytes: int
    num_devices: int

    @property
    def num_updates(self) -> int:
        """How many in a run."""
        return NUM_UPDATES[self.update_bytes]


CASES = [
    Case(broker, size, devices)
    for broker in get_args(Kind)
    for size in NUM_UPDATES
    for devices in NUM_DEVICES
]
QUICK = [Case(broker, 20_000, 100) for broker in get_args(Kind)]


def intake(
    repeats: Annotated[int, typer.Option(help="Runs of each side in each case.", min=1)] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="One case a broker, one run; writes no file.")
    ] = False,
    only: Annotated[
        str, typer.Option(help="Cases whose name holds this, such as mosquitto; writes no file.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure updates a second into the ledger, and what the broker gives a mere counter.

    Example: `make bench-intake`, about a quarter of an hour; `ARGS=--quick` takes a minute
    """
    logs.set_up("error")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    load = os.getloadavg()[0]
    cases = [case for case in (QUICK if quick else CASES) if only in _name(case)]
    measured = [_measure(case, 1 if quick else repeats) for case in cases]
    document = {
        "cases": measured,
        "goal": GOAL,
        "method": METHOD,
        "load_before": load,
        **provenance,
    }
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(measured))
        console.print(_sentence(measured), highlight=False)
    if quick or only:
        progress.print("not the whole benchmark: no file was written")
        return
    path = results_file.write(NAME, document)
    progress.print(f"written to {results_file.shown(path)}", highlight=False)


def _measure(case: Case, repeats: int) -> dict[str, Any]:
    counted, stored = [], []
    for number in range(repeats):
        counted.append(_run(case, durable=False))
        stored.append(_run(case, durable=True))
        _tell(f"{_name(case)}, run {number + 1}: {stored[-1]['per_s']} of {counted[-1]['per_s']}")
    ours, counter = _medians(stored), _medians(counted)
    return {
        **asdict(case),
        "num_updates": case.num_updates,
        "ours_per_s": ours["per_s"],
        "counter_per_s": counter["per_s"],
        "ratio": round(ours["per_s"] / counter["per_s"], 3),
        "ours": ours,
        "counter": counter,
        "ours_runs_per_s": [run["per_s"] for run in stored],
        "counter_runs_per_s": [run["per_s"] for run in counted],
    }


def _run(case: Case, *, durable: bool) -> arms.Figures:
    with (
        tempfile.TemporaryDirectory(prefix="pulsering-intake-") as folder,
        EmbeddedBroker(kind=case.broker) as broker,
    ):
        plan = Publisher(
            broker.port, case.num_updates, case.num_devices, case.update_bytes, receipts=durable
        )
        return arms.ours(plan, broker, Path(folder)) if durable else arms.counter(plan, broker)


def _medians(runs: Sequence[arms.Figures]) -> arms.Figures:
    return {name: round(median(run[name] for run in runs), 3) for name in runs[0]}


def _name(case: Case) -> str:
    return f"{case.broker}, {case.update_bytes // 1000} kB, {case.num_devices} devices"


def _table(cases: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("broker")
    titles = ("update", "devices", "ours/s", "counter/s", "ratio")
    for title in (*titles, "edge CPU", "counter CPU", "broker CPU", "publisher CPU"):
        table.add_column(title, justify="right")
    for case in cases:
        ours, counter = case["ours"], case["counter"]
        table.add_row(
            case["broker"],
            f"{case['update_bytes'] // 1000} kB",
            str(case["num_devices"]),
            f"{case['ours_per_s']:.0f}",
            f"{case['counter_per_s']:.0f}",
            f"{case['ratio']:.2f}",
            f"{ours['subscriber_cpu_ms']:.2f} ms",
            f"{counter['subscriber_cpu_ms']:.2f} ms",
            f"{ours['broker_cpu_ms']:.2f} | {counter['broker_cpu_ms']:.2f} ms",
            f"{ours['publishers_cpu_ms']:.2f} | {counter['publishers_cpu_ms']:.2f} ms",
        )
    return table


def _sentence(cases: Sequence[dict[str, Any]]) -> str:
    reached = sum(case["ratio"] >= GOAL for case in cases)
    return (
        f"Ratio {min(case['ratio'] for case in cases):.2f} to "
        f"{max(case['ratio'] for case in cases):.2f}; {reached} of {len(cases)} cases reach {GOAL}. "
        "CPU is processor time an update, of broker and publishers with ours and with the counter."
    )


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


if __name__ == "__main__":
    command.run(intake)
