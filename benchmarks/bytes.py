"""Bytes that a wristband sends, against what they cost on patients that no wristband wore.

``make bench-bytes`` trains the clinical recipe with each codec and seed, beside plain float32
FedAvg, counts the update messages as encoded, scores the models on DS2, and writes
``benchmarks/results/bytes.json`` and ``docs/bytes-frontier.svg``.  Finished runs are kept under
``var/bench/bytes``, so an interrupted benchmark goes on where it was.  What the codecs do was
chosen on held-out DS1 records (`ARCHITECTURE.md`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.bytes_codecs import CODECS, PEER, Codec
from benchmarks.bytes_figures import summarise
from benchmarks.bytes_run import Ran, run
from benchmarks.clinical_arms import NUM_ROUNDS
from common.ecg.sources import EcgSource, data_root, open_source
from common.errors import ConfigError

NAME = "bytes"
QUICK_ROUNDS = 3
QUICK = (PEER, "int8_parts8")
console = Console()
progress = Console(stderr=True)


def bytes_sent(
    seeds: Annotated[int, typer.Option(help="Seeds 0, 1, … of each codec.", min=1, max=100)] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two codecs, one seed, few rounds; writes no file.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that train.", min=1, max=64)] = 2,
    as_json: command.JsonOption = False,
) -> None:
    """Compare codecs of the uplink: bytes a wristband sends a round, macro-F1 on unseen patients.

    Example: `make bench-bytes`, about an hour on two cores; `ARGS=--quick` takes a minute
    """
    provenance = results_file.provenance(NAME, sys.argv[1:])
    source = open_source(data_root(None, os.environ))
    if source.kind != "mitdb":
        raise ConfigError("the bytes benchmark needs MIT-BIH: run `make data`")
    codecs = [codec for codec in CODECS if not quick or codec.name in QUICK]
    num_rounds = QUICK_ROUNDS if quick else NUM_ROUNDS
    runs = _run_all(codecs, range(1 if quick else seeds), num_rounds, source, workers)
    document = summarise(runs) | {"protocol": "docs/clinical/protocol.md"} | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(table(document))
    if quick:
        progress.print("not the whole benchmark: no file was written")
        return
    _keep(document)


def table(document: Mapping[str, Any]) -> Table:
    """Each codec beside float32."""
    shown = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    for heading in (
        "codec",
        "bytes up",
        "first",
        "later",
        "less",
        "ratio",
        "macro-F1",
        "to float32",
        "reaches",
    ):
        shown.add_column(heading, justify="left" if heading == "codec" else "right")
    for name, figures in document["codecs"].items():
        shown.add_row(
            name,
            *(f"{figures[k]:,.0f}" for k in ("bytes", "bytes_first_round", "bytes_later_rounds")),
            f"{figures['saving']:.1%}",
            f"{figures['ratio']:.1f} ×",
            _with_sd(figures["macro_f1"]),
            _told(figures["difference"]) if name != PEER else "–",
            figures["reaches"] or "–",
        )
    down = document["codecs"][PEER]["downlink_bytes"]
    shown.caption = f"down, for every codec: {down:,.0f} bytes a round"
    return shown


def _with_sd(figure: Mapping[str, Any]) -> str:
    sd = "" if figure["sd"] is None else f" ± {figure['sd']:.3f}"
    return f"{figure['mean']:.3f}{sd}"


def _told(difference: Mapping[str, Any]) -> str:
    """The difference, and whether the seeds alone differ as much."""
    doubt = " (less than seeds differ)" if difference["within_seeds"] else ""
    return f"{difference['mean']:+.3f}{doubt}"


def _run_all(
    codecs: Sequence[Codec], seeds: Sequence[int], num_rounds: int, source: EcgSource, workers: int
) -> list[Ran]:
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers
    folder = results_file.REPOSITORY / "var" / "bench" / NAME
    done: list[Ran] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(run, codec, seed, num_rounds, source, folder)
            for seed in seeds
            for codec in codecs
        ]
        try:
            for future in as_completed(futures):
                done.append(future.result())
                ran = done[-1]
                progress.print(f"{len(done)}/{len(futures)}: {ran.codec}, seed {ran.seed}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


def _keep(document: Mapping[str, Any]) -> None:
    from benchmarks.bytes_plots import frontier  # matplotlib is slow to load

    path = results_file.write(NAME, document)
    drawing = results_file.REPOSITORY / "docs" / "bytes-frontier.svg"
    frontier(document, drawing)
    for written in (path, drawing):
        progress.print(f"written: {results_file.shown(written)}", highlight=False)


if __name__ == "__main__":
    command.run(bytes_sent, "stopped; finished runs are kept and will not be trained again")
