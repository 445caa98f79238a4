"""Hospitals add up their updates: the ring against a parameter server and against other rings.

``make bench-ring`` (root) puts ten sites into a network namespace each, joined by a switch at
1 Gbit/s and then at 100 Mbit/s, and measures from a common start to the last site's result:
parameter-server FedAvg over TCP, torch.distributed's Gloo, Horovod as a user calls it, and real
ranks of ours.  It writes ``benchmarks/results/ring.json`` and ``docs/ring-scaling.svg``.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import command, results_file
from benchmarks.goodput import goodput_mbit
from benchmarks.netns import Lan, lan, require_root
from benchmarks.ring_arms import Measured, Ours, Peers
from benchmarks.ring_table import crossover_bytes, limit_s, payload_name, tables

NAME = "ring"
NUM_SITES = 10
SPEEDS_MBIT = (1000, 100)
PAYLOADS = (40_000, 1_000_000, 25_000_000)  # bytes of float32 parameters
MORE_SIZES = (100_000, 200_000, 400_000)  # between them, for the crossover
SCALING_SITES = (2, 4, 8, 16, 32)
SCALING_PAYLOAD, SCALING_MBIT = 1_000_000, 100
CHUNK_BYTES = 256 << 10  # of the star that sends back while it receives
GOODPUT_S = 1.0
WARM_UPS = 2  # turns that do not count: the first have cold pages and small TCP windows
EXTRA_ARMS = ("parameter_server_pipelined", "ours_8bit")  # that `--quick` leaves out
RAM = Path("/dev/shm")  # noqa: S108 -- rounds' files, so that no disk is measured
WIDTH = None if sys.stdout.isatty() else 150  # the tables have eleven columns
console, progress = Console(width=WIDTH), Console(stderr=True)
Runs = dict[str, list[Measured]]
Arm = Callable[[int], Measured]


def ring(
    repeats: Annotated[int, typer.Option(help="Of every figure; medians are shown.", min=1)] = 7,
    quick: Annotated[
        bool, typer.Option("--quick", help="1 Gbit/s, once, no scaling; writes no file.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON instead of tables.")
    ] = False,
) -> None:
    """Measure how long ten hospitals take to add up their updates.

    Example: `sudo make bench-ring`, about fifty minutes on two cores; `ARGS=--quick` a minute
    """
    require_root()
    signal.signal(signal.SIGTERM, _stop)
    document: dict[str, Any] = {"num_sites": NUM_SITES, "repeats": 1 if quick else repeats}
    provenance = results_file.provenance(NAME, sys.argv[1:])
    with _folder() as folder:
        for mbit in SPEEDS_MBIT[:1] if quick else SPEEDS_MBIT:
            sizes = PAYLOADS if quick else sorted({*PAYLOADS, *MORE_SIZES})
            document |= _speed(mbit, sizes, document["repeats"], folder / str(mbit), quick=quick)
        if not quick:
            document["scaling"] = _scaling(repeats, folder)
    document |= provenance | {"congestion_control": _congestion_control()}
    if as_json:
        results_file.print_json(document)
    else:
        for table in tables(document):
            console.print(table)
    if quick:
        progress.print("not the whole benchmark: no file was written")
        return
    _keep(document)


def _speed(
    mbit: int, sizes: Iterable[int], repeats: int, folder: Path, *, quick: bool
) -> dict[str, Any]:
    """Figures of one speed, and what they were measured at."""
    runs: dict[int, Runs] = {}
    streams: list[float] = []
    with _all_arms(mbit, NUM_SITES, folder) as (sites, every):
        arms = {name: arm for name, arm in every.items() if not (quick and name in EXTRA_ARMS)}
        for payload in sizes:
            runs[payload] = _interleaved(arms, payload, repeats, 1 if quick else WARM_UPS)
            streams.append(goodput_mbit(sites.sites[0], sites.sites[1], GOODPUT_S, mbit))
            _tell(f"{mbit} Mbit/s, {payload_name(payload)}: {len(arms)} arms, {repeats} times")
    goodput = median(streams)
    figures = {
        payload_name(payload): _figures(runs[payload])
        | {
            "limit_s": limit_s(payload, NUM_SITES, goodput),
            "limit_nominal_s": limit_s(payload, NUM_SITES, mbit),
        }
        for payload in runs
    }
    key = "figures" if mbit == SPEEDS_MBIT[0] else f"figures_{mbit}mbit"
    return {
        key: figures,
        f"goodput_{mbit}mbit": goodput,
        f"crossover_bytes_{mbit}mbit": crossover_bytes(
            {p: median(m.seconds for m in r["parameter_server"]) for p, r in runs.items()},
            {p: median(m.seconds for m in r["ours"]) for p, r in runs.items()},
        ),
    }


@contextmanager
def _all_arms(mbit: int, num_sites: int, folder: Path) -> Iterator[tuple[Lan, Mapping[str, Arm]]]:
    with (
        lan(num_sites, mbit) as sites,
        Peers(sites, "star") as star,
        Peers(sites, "gloo") as gloo,
        Peers(sites, "horovod") as horovod,
        Ours(sites, folder) as ours,
    ):
        yield (
            sites,
            {
                "parameter_server": lambda size: star.run(size),
                "parameter_server_pipelined": lambda size: star.run(size, CHUNK_BYTES),
                "gloo": lambda size: gloo.run(size),
                "horovod_bare": lambda size: horovod.run(size),
                "ours": lambda size: ours.run(size),
                "ours_8bit": lambda size: ours.run(size, 8),
            },
        )


def _interleaved(
    arms: Mapping[str, Arm], payload: int, repeats: int, warm_ups: int = WARM_UPS
) -> Runs:
    """Every arm in turn, `repeats` times, after some turns that do not count."""
    runs: Runs = {name: [] for name in arms}
    for turn in range(warm_ups + repeats):
        for name, arm in arms.items():
            measured = arm(payload // 4)
            if turn >= warm_ups:
                runs[name].append(measured)
    return runs


def _figures(runs: Runs) -> dict[str, Any]:
    """Medians, with lowest and highest beside them, and the parts of ours."""
    medians = {f"{name}_s": _median(m.seconds for m in many) for name, many in runs.items()}
    ranges = {
        f"{name}_s": [round(pick(m.seconds for m in many), 5) for pick in (min, max)]
        for name, many in runs.items()
    }
    parts = {
        name: {part: _median(m.parts[part] for m in many) for part in many[0].parts}
        for name, many in runs.items()
        if many[0].parts
    }
    return {**medians, "ranges": ranges, "parts": parts}


def _scaling(repeats: int, folder: Path) -> dict[str, Any]:
    """The 1 MB payload from 2 to 32 sites."""
    points = []
    for num_sites in SCALING_SITES:
        with (
            lan(num_sites, SCALING_MBIT) as sites,
            Peers(sites, "star") as star,
            Ours(sites, folder / f"scaling-{num_sites}") as ours,
        ):
            arms: dict[str, Arm] = {"parameter_server": star.run, "ours": ours.run}
            runs = _interleaved(arms, SCALING_PAYLOAD, repeats)
            stream = goodput_mbit(sites.sites[0], sites.sites[1], GOODPUT_S, SCALING_MBIT)
        limit = limit_s(SCALING_PAYLOAD, num_sites, stream)
        points.append({"num_sites": num_sites, **_figures(runs), "limit_s": limit})
        _tell(f"{num_sites} sites at {SCALING_MBIT} Mbit/s")
    return {"payload": payload_name(SCALING_PAYLOAD), "mbit": SCALING_MBIT, "points": points}


def _keep(document: dict[str, Any]) -> None:
    from benchmarks.ring_plots import scaling  # matplotlib is slow to load

    path = results_file.write(NAME, document)
    drawing = results_file.REPOSITORY / "docs" / "ring-scaling.svg"
    scaling(document["scaling"], drawing)
    for written in (path, drawing):
        progress.print(f"written: {results_file.shown(written)}", highlight=False)


@contextmanager
def _folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pulsering-ring-", dir=RAM if RAM.is_dir() else None))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _stop(number: int, frame: object) -> None:
    """Leave through all `with` blocks, so that neither processes nor namespaces stay behind."""
    del frame
    sys.exit(128 + number)


def _median(values: Iterable[float]) -> float:
    return round(median(values), 5)


def _congestion_control() -> str:
    return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


if __name__ == "__main__":
    command.run(ring)
