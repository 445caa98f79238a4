"""Malformed messages: what they cost the decoder, and good wristbands beside them.

``make bench-flood`` brings 100,000 generated messages to the intake desk in this process, then runs
an edge node behind a broker: good wristbands alone and beside attackers, in turns.  The peer of each
figure is the same traffic, alone, in the same run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.floodbed.trial import Case, run
from common import logs
from tests.faults import malformed
from tests.faults.attacked_desk import BEATS, Hospital, attack, seconds_by_kind, unrefused
from tests.faults.hostile import KINDS

NAME = "flood"
MUTE_AFTER = 5  # an edge node's default
MIB = 1 << 20
SEED = 7
CASES = (
    Case("mosquitto", 5_000, 500, 0, good_per_s=100, seconds=10, pairs=3),
    Case("mosquitto", 10_000, 0, 0, good_per_s=100, seconds=10, pairs=3),
    Case("mosquitto", 10_000, 0, MUTE_AFTER, good_per_s=100, seconds=10, pairs=3),
    Case("iotcore", 5_000, 500, 0, good_per_s=100, seconds=10, pairs=3),
)
QUICK = (Case("mosquitto", 1_000, 500, 0, good_per_s=50, seconds=3, pairs=1),)
console = Console()
progress = Console(stderr=True)


def flood(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer messages, one case; writes no file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what malformed messages cost, at the intake desk and beside good wristbands.

    Example: `make bench-flood`, about seven minutes; `ARGS=--quick` takes half a minute
    """
    logs.set_up("error", "console")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    desk = _at_the_desk(2_000 if quick else 100_000)
    cases = [_run(case) for case in (QUICK if quick else CASES)]
    document = {"seed": SEED, "kinds": len(KINDS), "desk": desk, "cases": cases} | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_said(desk), highlight=False)
        console.print(_table(cases))
    if not quick:
        path = results_file.write(NAME, document)
        progress.print(f"written to {results_file.shown(path)}", highlight=False)


def _run(case: Case) -> dict[str, Any]:
    progress.print(f"{case.broker}, {_attack(case)}, mute_after {case.mute_after}", style="dim")
    with tempfile.TemporaryDirectory(prefix="pulsering-flood-") as folder:
        return run(case, Path(folder))


def _at_the_desk(num: int) -> dict[str, Any]:
    progress.print(f"{num} messages at the intake desk", style="dim")
    with tempfile.TemporaryDirectory(prefix="pulsering-desk-") as folder:
        hospital = Hospital(Path(folder), BEATS)
        attack(hospital, malformed.messages(hospital.target, SEED - 1, num // 20), hospital.round)
        process = psutil.Process()
        rss, before, began = process.memory_info().rss, hospital.contents(), time.process_time()
        tally = attack(hospital, malformed.messages(hospital.target, SEED, num), hospital.round)
        cpu_s = time.process_time() - began
        grown_mib = (process.memory_info().rss - rss) / MIB
        seconds = seconds_by_kind(hospital, repeats=9)
        unchanged = hospital.contents() == before
        hospital.ledger.close()
    slowest = max(seconds, key=lambda name: seconds[name])
    return {
        "num": tally.results.total(),
        "num_wrongly_answered": len(tally.wrong),
        "num_unrefused": unrefused(tally),
        "nothing_stored": unchanged,
        "cpu_ms_a_message": round(1000 * cpu_s / num, 3),
        "memory_grown_mib": round(grown_mib, 1),
        "slowest_kind": slowest,
        "slowest_ms": round(1000 * seconds[slowest], 1),
        "results": dict(sorted(tally.results.items())),
    }


def _attack(case: Case) -> str:
    rate = f"{case.attack_per_s:.0f} a second" if case.attack_per_s else "flat out"
    return f"{case.num_malformed} malformed messages {rate}"


def _said(desk: dict[str, Any]) -> str:
    return (
        f"{desk['num']} messages of {len(KINDS)} kinds at the desk: {desk['num_wrongly_answered']} "
        f"answered wrongly, {desk['cpu_ms_a_message']} ms of processor time each with the making of "
        f"it, {desk['memory_grown_mib']} MiB more memory; slowest kind {desk['slowest_kind']}, "
        f"{desk['slowest_ms']} ms"
    )


def _table(cases: list[dict[str, Any]]) -> Table:
    table = Table(title="Receipts of good wristbands, alone → beside an attack (medians of turns)")
    for column in (
        *("broker", "attack/s", "mute_after", "receipts/s", "ratio"),
        *("slowest second", "p95 ms", "worst ms", "RSS MiB"),
    ):
        table.add_column(column, justify="right")
    for case in cases:
        turns = case["alone"], case["beside"]
        table.add_row(
            case["broker"],
            f"{case['attacked_per_s']:.0f}",
            str(case["mute_after"]),
            " → ".join(f"{turn['rate_per_s']:.1f}" for turn in turns),
            f"{case['ratio']:.3f}",
            *(
                " → ".join(f"{turn[name]:.0f}" for turn in turns)
                for name in ("slowest_second", "p95_ms", "worst_ms")
            ),
            f"{case['rss_before_mib']:.0f} → {case['rss_mib']:.0f}",
        )
    return table


if __name__ == "__main__":
    command.run(flood)
