"""Good wristbands beside attackers: an edge node behind a broker, their rate of receipts in turns.

``make bench-flood`` publishes valid updates at a steady rate, alone and beside generated malformed
messages (`tests.faults.malformed`).  The peer of each figure is the same traffic, alone, in the same
run.  It ends with a fault when a good update is not stored once or a malformed one is not counted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.floodbed.trial import SEED, Case, run
from common import logs
from tests.faults.hostile import KINDS

NAME = "flood"
CASES = (  # nobody is muted, so that every message is read
    Case("mosquitto", 3_500, 500, mute_after=0, good_per_s=100, seconds=7, pairs=3),
    Case("mosquitto", 10_000, 0, mute_after=0, good_per_s=100, seconds=7, pairs=1),
)
QUICK = (Case("mosquitto", 1_000, 500, mute_after=0, good_per_s=50, seconds=3, pairs=1),)
console = Console()
progress = Console(stderr=True)


def flood(
    quick: Annotated[bool, typer.Option("--quick", help="One small case; writes no file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what good wristbands lose while others send malformed messages.

    Example: `make bench-flood`, about three minutes; `ARGS=--quick` takes half a minute
    """
    logs.set_up("error", "console")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    cases = [_run(case) for case in (QUICK if quick else CASES)]
    document = {"seed": SEED, "kinds": len(KINDS), "cases": cases} | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(cases))
    if not quick:
        path = results_file.write(NAME, document)
        progress.print(f"written to {results_file.shown(path)}", highlight=False)


def _run(case: Case) -> dict[str, Any]:
    progress.print(f"{case.broker}, {_attack(case)}, mute_after {case.mute_after}", style="dim")
    with tempfile.TemporaryDirectory(prefix="pulsering-flood-") as folder:
        return run(case, Path(folder))


def _attack(case: Case) -> str:
    rate = f"{case.attack_per_s:.0f} a second" if case.attack_per_s else "flat out"
    return f"{case.num_malformed} malformed messages {rate}"


def _table(cases: list[dict[str, Any]]) -> Table:
    table = Table(title="Receipts of good wristbands, alone → beside an attack (medians of turns)")
    for column in (
        *("broker", "attack/s", "offered/s", "receipts/s", "ratio"),
        *("slowest second", "p95 ms", "worst ms", "RSS MiB"),
    ):
        table.add_column(column, justify="right")
    for case in cases:
        turns = case["alone"], case["beside"]
        table.add_row(
            case["broker"],
            f"{case['attacked_per_s']:.0f}",
            " → ".join(f"{turn['offered_per_s']:.0f}" for turn in turns),
            " → ".join(f"{turn['rate_per_s']:.0f}" for turn in turns),
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
