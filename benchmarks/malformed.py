"""A hundred thousand malformed messages at the intake desk: what each costs, and what they leave.

``make bench-malformed`` brings generated messages (`tests.faults.malformed`) to the desk that an edge
node has, with a real ledger.  Their peer is the valid update, brought to the same desk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from common import logs
from edge.inbox import MAX_BATCH
from tests.faults import malformed
from tests.faults.attacked_desk import BEATS, Hospital, Tally, attack, seconds_by_kind
from tests.faults.hostile import KINDS

NAME = "malformed"
SEED = 7
MIB = 1 << 20
SHOWN = 5
console = Console()
progress = Console(stderr=True)


def malformed_messages(
    messages: Annotated[int, typer.Option(help="How many.", min=1000)] = 100_000,
    quick: Annotated[bool, typer.Option("--quick", help="2,000; writes no file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring malformed messages to the intake desk and count what comes of them.

    Example: `make bench-malformed`, about two minutes; `ARGS=--quick` takes a few seconds
    """
    logs.set_up("error", "console")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    num = 2_000 if quick else messages
    with tempfile.TemporaryDirectory(prefix="pulsering-desk-") as folder:
        figures = _measure(Path(folder), num)
    document = {"seed": SEED, "kinds": len(KINDS), **figures} | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(document))
    if not quick:
        path = results_file.write(NAME, document)
        progress.print(f"written to {results_file.shown(path)}", highlight=False)


def _measure(folder: Path, num: int) -> dict[str, Any]:
    hospital = Hospital(folder, BEATS)
    attack(hospital, malformed.messages(hospital.target, SEED - 1, num // 20), hospital.round)
    process = psutil.Process()
    rss, before = process.memory_info().rss, hospital.contents()
    tally, cpu_s = Tally(), 0.0
    stream = malformed.messages(hospital.target, SEED, num)
    while made := list(islice(stream, MAX_BATCH)):
        began = time.process_time()
        tally = tally + attack(hospital, made, hospital.round)
        cpu_s += time.process_time() - began
    grown_mib = (process.memory_info().rss - rss) / MIB
    seconds = seconds_by_kind(hospital, repeats=5)
    unchanged = hospital.contents() == before
    hospital.ledger.close()
    slowest = sorted(seconds, key=lambda name: -seconds[name])[:SHOWN]
    return {
        "num": tally.results.total(),
        "num_wrongly_answered": len(tally.wrong),
        "nothing_stored": unchanged,
        "cpu_ms": round(1000 * cpu_s / num, 3),
        "valid_cpu_ms": round(1000 * _valid_cpu_s(), 3),
        "memory_grown_mib": round(grown_mib, 1),
        "ledger_mib": round(sum(path.stat().st_size for path in folder.iterdir()) / MIB, 2),
        "slowest_ms": {name: round(1000 * seconds[name], 1) for name in slowest},
        "results": dict(sorted(tally.results.items())),
    }


def _valid_cpu_s() -> float:
    """Processor time of one valid update or evaluation, in batches of the desk's size."""
    with tempfile.TemporaryDirectory(prefix="pulsering-desk-") as folder:
        hospital = Hospital(Path(folder), BEATS, deliver=False)
        batch = hospital.own_messages()
        began = time.process_time()
        answers = hospital.take(batch, hospital.round)
        took = time.process_time() - began
        hospital.ledger.close()
    assert all(answer.fresh for answer in answers)
    return took / len(batch)


def _table(document: dict[str, Any]) -> Table:
    table = Table(title=f"{document['num']} malformed messages of {len(KINDS)} kinds at the desk")
    table.add_column("")
    table.add_column("", justify="right")
    slowest, slowest_ms = next(iter(document["slowest_ms"].items()))
    for name, figure in (
        ("answered for a reason that does not fit", f"{document['num_wrongly_answered']}"),
        ("stored anything new", "no" if document["nothing_stored"] else "YES"),
        ("processor time a message", f"{document['cpu_ms']:.2f} ms"),
        ("… of a valid one", f"{document['valid_cpu_ms']:.2f} ms"),
        ("… ratio", f"{document['cpu_ms'] / document['valid_cpu_ms']:.2f}"),
        (f"slowest kind, {slowest}", f"{slowest_ms:.1f} ms"),
        ("memory gained", f"{document['memory_grown_mib']:.1f} MiB"),
        ("ledger's files", f"{document['ledger_mib']:.2f} MiB"),
        *((f"answer {name}", f"{num}") for name, num in document["results"].items()),
    ):
        table.add_row(name, figure)
    return table


if __name__ == "__main__":
    command.run(malformed_messages)
