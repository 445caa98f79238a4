"""Command that fills a data root with MIT-BIH: ``python -m common.ecg.download --help``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from common.ecg.physionet import FILE_NAMES, Filled, fill
from common.ecg.sources import data_root
from common.errors import PulseRingError

ATTRIBUTION = (
    "Moody GB, Mark RG: The impact of the MIT-BIH Arrhythmia Database, IEEE Eng Med Biol 20(3):45-50, "
    "2001, doi 10.13026/C2F305; Open Data Commons Attribution License v1.0."
)


def _fill_with_progress(root: Path, offline: bool) -> Filled:
    """Run `fill` under a progress bar, or with a line every 24 files where no terminal is."""
    console = Console(stderr=True)
    columns = (TextColumn("MIT-BIH"), BarColumn(), MofNCompleteColumn(), TextColumn("files"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("MIT-BIH", total=len(FILE_NAMES))

        def on_file(name: str, fetched: bool) -> None:
            bar.advance(task)
            done = int(bar.tasks[0].completed)
            if fetched and bar.disable and done % 24 == 0:
                typer.echo(f"MIT-BIH: {done} of {len(FILE_NAMES)} files", err=True)

        return fill(root, on_file=on_file, offline=offline)


app = typer.Typer(add_completion=False)


@app.command(
    epilog="Examples:\n\n"
    "python -m common.ecg.download\n\n"
    "python -m common.ecg.download --data ~/ecg\n\n"
    "python -m common.ecg.download --offline --json",
)
def main(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data root; else PULSERING_DATA, else the user's cache.", file_okay=False
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only check what is there; use no network.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one JSON object.")] = False,
) -> None:
    """Fetch the MIT-BIH Arrhythmia Database (about 100 MB) from PhysioNet and check its sums.

    Running it again fetches only what is missing or damaged.

    Exit codes: 0 done, 1 failed (network, sums, disk), 2 bad usage or configuration.
    """
    root = data_root(data, os.environ)
    try:
        filled = _fill_with_progress(root, offline)
    except PulseRingError as fault:
        if as_json:
            typer.echo(json.dumps({"ok": False, "error": fault.message}))
        else:
            typer.echo(f"error: {fault.message}", err=True)
        raise typer.Exit(fault.exit_code) from fault
    except KeyboardInterrupt:
        typer.echo("stopped; run again to go on from here", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps({"ok": True, **asdict(filled)}))
        return
    typer.echo(
        f"MIT-BIH is complete in {filled.folder}: {filled.num_kept} files kept, "
        f"{filled.num_fetched} fetched ({filled.num_bytes / 1e6:.0f} MB), all SHA-256 right.\n"
        f"{ATTRIBUTION}"
    )


if __name__ == "__main__":
    app()
