"""A region that loses and regains members all the time: does it end every round and stay small?

``make bench-churn`` runs 200 rounds of eight hospitals.  Every few rounds a member that a seeded generator
chooses loses its rank or its edge node (SIGKILL), or leaves the region and comes back later.  At
the end every round has a named end, no update is lost or counted twice, and no process has grown:
memory, descriptors and children are sampled on the way, ports and processes are counted after the
end.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.faultbed.bed import RingTimeoutOption, RootOption
from benchmarks.faultbed.churning import Churn, Soak, soak
from benchmarks.faultbed.ear import Ear
from benchmarks.faultbed.processes import Trend, left_behind, trends
from benchmarks.faultbed.region import BedRegion
from common import logs

NAME = "churn"
NUM_HOSPITALS = 8
DEVICES_EACH = 2
QUICK_ROUNDS = 12
QUICK_HOSPITALS = 4
console = Console()
progress = Console(stderr=True)


def churn(
    rounds: Annotated[int, typer.Option(help="Rounds.", min=1, max=9000)] = 200,
    hospitals: Annotated[int, typer.Option(help="Hospitals.", min=3, max=40)] = NUM_HOSPITALS,
    seed: Annotated[int, typer.Option(help="Of what happens to whom.", min=0)] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A dozen rounds of four hospitals; writes no file.")
    ] = False,
    ring_timeout_s: RingTimeoutOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a region whose members come, go and die, and look for what it lost or leaked.

    Example: `make bench-churn`, about ten minutes; `ARGS=--quick` takes about a minute
    """
    logs.set_up("error", "console")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    if quick:
        rounds, hospitals = QUICK_ROUNDS, QUICK_HOSPITALS
    limits = {"ring_timeout_s": ring_timeout_s} if ring_timeout_s else {}
    found, left = _run(rounds, hospitals, seed, limits, root)
    document = {**_summary(found, left), "seed": seed, "num_hospitals": hospitals, **provenance}
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(document["trends"]))
        console.print(_sentence(document), highlight=False)
    if quick or (rounds, hospitals) != (200, NUM_HOSPITALS) or ring_timeout_s:
        progress.print("not the whole benchmark: no file was written")
    else:
        path = results_file.write(NAME, document)
        progress.print(f"written to {results_file.shown(path)}", highlight=False)
    if document["num_lost"] or document["num_doubled"] or left:
        raise typer.Exit(1)


def roster_of(num_hospitals: int) -> dict[str, list[tuple[str, str]]]:
    """Hospitals ``h-01``, ``h-02``, … with their wristbands."""
    return {
        f"h-{h:02d}": [(f"wb-{h:02d}-{d}", f"{h}-{d}") for d in range(DEVICES_EACH)]
        for h in range(1, num_hospitals + 1)
    }


def _run(
    num_rounds: int, num_hospitals: int, seed: int, limits: dict[str, float], root: Path | None
) -> tuple[Soak, list[str]]:
    with ExitStack() as stack:
        home = root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="churn-")))
        region = BedRegion(home, roster_of(num_hospitals), limits, seed=seed)
        stack.callback(region.stop)
        region.start()
        ear = stack.enter_context(Ear(region.broker_url, region.plan.region))
        churned = Churn(region, np.random.default_rng(seed))
        found = soak(churned, ear, num_rounds, lambda line: progress.print(line, style="dim"))
        region.stop()
        return found, left_behind(found.seen, region)


def _summary(found: Soak, left: Sequence[str]) -> dict[str, Any]:
    return {
        "num_rounds": sum(found.ends.values()),
        "ends": found.ends,
        "reasons_of_the_uncommitted": found.reasons,
        "events": found.events,
        "num_generations": found.num_generations,
        "seconds": found.seconds,
        "slowest_round_s": found.slowest_round_s,
        "fates": found.account.fates,
        "num_lost": found.account.num_lost,
        "num_doubled": found.account.num_doubled,
        "left_behind": list(left),
        "trends": [trend.as_json() for trend in trends(found.samples)],
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("process")
    for title in Trend.TITLES:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def _sentence(document: dict[str, Any]) -> str:
    ends = ", ".join(f"{num} {end}" for end, num in sorted(document["ends"].items()))
    events = ", ".join(f"{num} × {what}" for what, num in sorted(document["events"].items()))
    left = "; ".join(document["left_behind"]) or "nothing"
    return (
        f"{document['num_rounds']} rounds in {document['seconds']:.0f} s: {ends}; "
        f"{document['num_generations']} rings. What happened: {events or 'nothing'}.\n"
        f"{document['num_lost']} updates lost, {document['num_doubled']} counted twice; "
        f"left behind: {left}."
    )


if __name__ == "__main__":
    command.run(churn)
