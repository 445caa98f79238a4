"""``make faults``: random faults in running regions, from a seed; what was lost, doubled, hung.

Each schedule harms a region of the dummy task (coordinator, three edge nodes, Horovod ranks, a
broker, wristbands that speak the real protocol), lets it recover, and holds all ledgers against the
wristbands' own book.  `docs/faults.md` tells what happens and what is checked.
"""

from __future__ import annotations

import shlex
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.faultbed.bed import RootOption
from common import logs
from tests.faults.trials import Tally, run, violations

NAME = "intake-faults"
NUM_SCHEDULES = 300
QUICK = 4
console = Console()
progress = Console(stderr=True)


def faults(
    schedules: Annotated[int, typer.Option(help="How many.", min=1)] = NUM_SCHEDULES,
    seed: Annotated[int, typer.Option(help="Of everything that happens.", min=0)] = 0,
    number: Annotated[
        int | None, typer.Option("--schedule", help="Only the one of this number.", min=0)
    ] = None,
    first: Annotated[int, typer.Option("--from", help="Number of the first.", min=0)] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Four; writes no file.")] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Harm running regions at random and look for what they lost, doubled or forgot.

    Example: `make faults`, about half an hour; `ARGS=--quick` takes about a minute; what failed is
    tried again by `make faults ARGS="--seed 0 --schedule 17"`
    """
    logs.set_up("error", "console")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    provenance["command"] = f"make faults ARGS={shlex.quote(shlex.join(sys.argv[1:]))}"
    began = time.monotonic()
    numbers = range(first, first + (QUICK if quick else schedules))
    tally = run(seed, [number] if number is not None else numbers, _tell, root)
    document = {**summary(tally), "seed": seed, "seconds": round(time.monotonic() - began)}
    document |= provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(document))
    if quick or number is not None or len(numbers) < NUM_SCHEDULES:
        progress.print("not the whole run: no file was written")
    else:
        path = results_file.write(NAME, document)
        progress.print(f"written to {results_file.shown(path)}", highlight=False)
    if tally.odd:
        progress.print(f"seed {seed}: {', '.join(tally.odd)}", style="red", highlight=False)
        raise typer.Exit(1)


def summary(tally: Tally) -> dict[str, Any]:
    """A tally as JSON values, the four figures that must be 0 first."""
    values = dict(vars(tally))
    for name in ("ends", "fates", "refusals", "faults", "brokers"):
        values[name] = dict(values[name].most_common())
    values["seconds_of_schedules"] = round(values.pop("seconds"), 1)
    values["slowest_recovery_s"] = round(values["slowest_recovery_s"], 1)
    return violations(tally) | values


def _table(document: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    rows = {
        "schedules": f"{document['num_schedules']} in {document['num_groups']} regions, "
        f"{document['seconds']} s",
        "receipted updates lost": document["num_lost"],
        "counted twice": document["num_counted_twice"],
        "rounds without a named end": document["num_rounds_without_end"],
        "hangs": document["num_hangs"],
        "anything else odd": document["num_others"],
        "messages sent, receipts": f"{document['num_messages']}, {document['num_receipts']}",
        "updates stored": f"{document['num_updates']}: {_listed(document['fates'])}",
        "counted late": document["num_counted_late"],
        "refused": _listed(document["refusals"]),
        "rounds": _listed(document["ends"]),
        "committed rounds folded again": document["num_rounds_folded"],
        "replayed": document["num_rounds_replayed"],
        "processes started again": document["num_restarts"],
        "slowest recovery": f"{document['slowest_recovery_s']} s",
        "faults": _listed(document["faults"]),
        "brokers": _listed(document["brokers"]),
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{num} {name}" for name, num in counts.items()) or "none"


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


if __name__ == "__main__":
    command.run(faults)
