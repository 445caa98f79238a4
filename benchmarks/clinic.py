"""A small clinic: edge node and rank on one core, in 1 GB of memory, behind 1 Mbit/s.

``make bench-clinic`` (root) runs a region of the product's own processes, of which one hospital is
a clinic with 50 wristbands: its core, its memory (a control group's limit on the sum) and its link
(network namespace, tbf both ways) are what it has, while its wristbands are on its own network.
The peer is the same clinic with two cores, all memory and an unlimited link.  Measured: rounds,
memory, processor time, and what crosses the link by what it is for, at work and idle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.clinicbed import cgroup
from benchmarks.clinicbed.figures import ROUNDS_A_DAY, figures, medians, total
from benchmarks.clinicbed.link import send_as_packets
from benchmarks.clinicbed.region import NUM_WRISTBANDS, OTHERS, Order
from benchmarks.netns import lan, require_root
from common.errors import ConfigError, PulseRingError

NAME = "clinic"
LINK_KBIT = 1000
BURST_BYTES = 16 << 10
MEMORY_BYTES = 1_000_000_000
NUM_ROUNDS, IDLE_S = 10, 60.0
QUICK_ROUNDS, QUICK_IDLE_S = 4, 15.0
SLOW_HEARTBEAT_S = 60.0
NEVER_S = 7 * 24 * 3600.0
KEPT = results_file.REPOSITORY / "var" / "bench" / NAME
METHOD = {
    "round_s": "from a round's opening to its commit, wristbands' training in it; median of the "
    "settled rounds, then over repeats",
    "memory": "a control group's limit on edge node, keeper and rank together, page cache included "
    "(memory_charged_mib is its peak); memory_mib.together counts what they share once and what "
    "other processes of this machine have mapped too as theirs",
    "mb": "IP bytes both ways, headers and resent packets included, counted at the clinic's own "
    "interface; a round's are those over idle time",
    "day": f"{ROUNDS_A_DAY} rounds and an idle day",
    "clinic_heartbeat_60s": "heartbeat_s = 60 at coordinator and edge nodes, in place of 5",
    "clinic_ring_kept": "rounds.ring_idle_s longer than any pause: the ring of the last round stays",
    "mailbox": "an object store over HTTP at the coordinator",
}
console = Console()
progress = Console(stderr=True)


@dataclass(frozen=True)
class Arm:
    """A clinic: `kbit` and `memory_bytes` are None where nothing limits it.

    With `ring_idle_s` below the pause between rounds each round forms its ring, as rounds an hour
    apart do.
    """

    cores: int
    memory_bytes: int | None
    kbit: int | None
    heartbeat_s: float = 5.0
    ring_idle_s: float = 1.0


ARMS: Mapping[str, Arm] = {
    "clinic": Arm(1, MEMORY_BYTES, LINK_KBIT),
    "clinic_heartbeat_60s": Arm(1, MEMORY_BYTES, LINK_KBIT, SLOW_HEARTBEAT_S),
    "clinic_ring_kept": Arm(1, MEMORY_BYTES, LINK_KBIT, ring_idle_s=NEVER_S),
    "unlimited": Arm(2, None, None),
}


def clinic(
    repeats: Annotated[int, typer.Option(help="Runs of each arm, in turn.", min=1)] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="Each arm once, few rounds; writes no file.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Arms to run and keep for a later whole run; writes no file."),
    ] = None,
    beside: Annotated[str, typer.Option(help="What else the machine did.")] = "",
    as_json: command.JsonOption = False,
) -> None:
    """Measure what a small clinic needs: seconds a round, memory, processor time, MB a day.

    Example: `sudo make bench-clinic`, about half an hour
    """
    require_root()
    if len(os.sched_getaffinity(0)) < 2:
        raise ConfigError("the clinic benchmark needs two cores: one is the clinic's own")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    if unknown := set(only or ()) - set(ARMS):
        raise ConfigError(f"--only: no arm {', '.join(sorted(unknown))}; known: {', '.join(ARMS)}")
    runs = _runs(1 if quick else repeats, only or list(ARMS), quick=quick)
    if only:
        progress.print(f"kept in {results_file.shown(KEPT)}; no file was written")
        return
    document = {
        "arms": {name: {**asdict(ARMS[name]), **medians(each)} for name, each in runs.items()},
        "repeats": {name: [run["round_s"] for run in each] for name, each in runs.items()},
        "wristbands": NUM_WRISTBANDS,
        "other_hospitals": len(OTHERS),
        "rounds_a_day": ROUNDS_A_DAY,
        "method": METHOD,
        "beside": beside,
    } | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(table(document))
    if quick:
        progress.print("not the whole benchmark: no file was written")
        return
    progress.print(f"written: {results_file.shown(results_file.write(NAME, document))}")


def table(document: Mapping[str, Any]) -> Table:
    """Each figure of each arm, and the clinic's over the unlimited one's."""
    arms = document["arms"]
    shown = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("figure", no_wrap=True)
    for heading in (*arms, "ratio"):
        name = heading.removeprefix("clinic_").replace("_", " ")
        shown.add_column(name, justify="right", no_wrap=True)
    cells = {name: _cells(figures_of) for name, figures_of in arms.items()}
    for what in cells["clinic"]:
        values = [cells[name][what] for name in arms]
        peer = cells["unlimited"][what]
        ratio = f"{cells['clinic'][what] / peer:.2f}" if peer else "–"
        shown.add_row(what, *(f"{value:.4g}" for value in values), ratio)
    return shown


def _cells(arm: Mapping[str, Any]) -> dict[str, float]:
    memory, mb = arm["memory_mib"], arm["mb"]
    return {
        "rounds committed": arm["rounds_committed"],
        "seconds a round": arm["round_s"],
        "of which ring": arm["ring_s"],
        **{f"{role}, MiB at most": memory[role] for role in memory},
        "charged to the group, MiB": arm["memory_charged_mib"],
        "CPU seconds a round": arm["cpu_s"]["a_round"],
        "CPU seconds a day": arm["cpu_s"]["day"],
        **{f"MB a day, {name.replace('_', ' ')}": mb[name]["day"] for name in mb},
        "MB a round, all": total(mb, "a_round"),
        "MB of an idle day, all": total(mb, "idle_day"),
        "MB a day, all": total(mb, "day"),
        "region state, bytes": arm["idle_said"]["region_state_bytes"],
        "status, bytes": arm["idle_said"]["status_bytes"],
    }


def _runs(repeats: int, names: Sequence[str], *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names:
            progress.print(f"{repeat + 1}/{repeats}: {name}", style="dim")
            runs[name].append(figures(_kept_or_run(name, ARMS[name], repeat, quick=quick)))
    return runs


def _kept_or_run(name: str, arm: Arm, repeat: int, *, quick: bool) -> dict[str, Any]:
    """A run of this very commit is not done again."""
    commit = results_file.commit()["commit"]
    path = KEPT / f"{name}-{repeat}-{'quick' if quick else 'whole'}-{commit}.json"
    if not quick and path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    measured = _measured(arm, quick=quick)
    KEPT.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(measured))
    return measured


def _measured(arm: Arm, *, quick: bool) -> dict[str, Any]:
    """Run a region with such a clinic in it; all but the clinic has the second core."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    with (
        lan(1 + len(OTHERS)) as made,
        cgroup.group(f"pulsering-{os.getpid()}") as group,
        tempfile.TemporaryDirectory(prefix="pulsering-clinic-") as folder,
    ):
        send_as_packets(made)
        if arm.kbit is not None:
            made.shape_site(0, arm.kbit, BURST_BYTES)
        if arm.memory_bytes is not None:
            group.limit(arm.memory_bytes)
        order = Order(
            folder=folder,
            hub=made.hub.address,
            sites=tuple(site.namespace for site in made.sites),
            address=made.sites[0].address,
            group=str(group.folder),
            group_version=group.version,
            cores=str(first) if arm.cores == 1 else f"{first},{second}",
            heartbeat_s=arm.heartbeat_s,
            ring_idle_s=arm.ring_idle_s,
            num_rounds=QUICK_ROUNDS if quick else NUM_ROUNDS,
            idle_s=(QUICK_IDLE_S if quick else IDLE_S) * max(1.0, arm.heartbeat_s / 30.0),
        )
        return _run(order, made.hub.namespace, second)


def _run(order: Order, namespace: str, core: int) -> dict[str, Any]:
    """The region's program, in the switch's network but with this machine's files."""
    program = ["nsenter", f"--net=/run/netns/{namespace}", "taskset", "--cpu-list", str(core)]
    program += [sys.executable, "-m", "benchmarks.clinicbed.region"]
    done = subprocess.run(
        program, input=order.encoded(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PulseRingError(f"the clinic's region: {done.stderr.strip()[-1500:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    command.run(clinic, "stopped; finished runs are kept and will not be done again")
