"""More updates at once than mosquitto queues: what a QoS 1 design loses, and what receipts save.

``make bench-overflow`` lets 2000 wristbands publish at once through a mosquitto whose limits are
all its defaults (1000 messages queued for a subscriber), once to a paho subscriber that counts
(QoS 1, nobody sends again) and once to an edge node (receipts, wristbands send again without one),
and writes ``benchmarks/results/overflow.json``.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.intakebed import arms
from benchmarks.intakebed.site import Site
from benchmarks.intakebed.updates import Publisher
from common import logs
from common.errors import ConfigError, PulseRingError
from simulators.broker import accepts_sessions, free_port
from simulators.broker_process import mosquitto_program

NAME = "overflow"
NUM_DEVICES, UPDATE_BYTES = 2000, 64_000
QUICK_DEVICES = 1500
CONFIG = "listener {port} 127.0.0.1\nallow_anonymous true\n"
START_S, QUIET_S, RESEND_WITHIN_S = 15.0, 3.0, 240.0
console = Console()
progress = Console(stderr=True)


def overflow(
    repeats: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="1500 devices, one run; writes no file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Count what is lost when a broker's queue overflows, with receipts and without.

    Example: `make bench-overflow`, about three minutes
    """
    logs.set_up("error")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    num_devices, repeats = (QUICK_DEVICES, 1) if quick else (NUM_DEVICES, repeats)
    runs = [_run(num_devices) for _ in range(repeats)]
    document = {
        "num_devices": num_devices,
        "update_bytes": UPDATE_BYTES,
        "broker": "mosquitto, no limit configured: 1000 messages queued for a subscriber",
        "runs": runs,
        "num_lost_qos1_only": sum(run["qos1_only"]["num_lost"] for run in runs),
        "num_lost_ours": sum(run["ours"]["num_lost"] for run in runs),
        **provenance,
    }
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_sentences(document), highlight=False)
    if quick:
        progress.print("not the whole benchmark: no file was written")
    else:
        path = results_file.write(NAME, document)
        progress.print(f"written to {results_file.shown(path)}", highlight=False)
    if document["num_lost_ours"]:
        raise typer.Exit(1)


def _run(num_devices: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pulsering-overflow-") as folder:
        with mosquitto(Path(folder)) as port:
            counted = _qos1_only(port, num_devices)
        with mosquitto(Path(folder)) as port:
            stored = _ours(port, num_devices, Path(folder) / "site")
    return {"qos1_only": counted, "ours": stored}


def _qos1_only(port: int, num_devices: int) -> dict[str, Any]:
    plan = Publisher(port, num_devices, num_devices, UPDATE_BYTES, receipts=False)
    with ExitStack() as stack:
        publishers = arms.start_publishers(plan, stack)
        counting = arms.Program("counter", port, num_devices)
        stack.callback(counting.end)
        counting.hear()
        published = arms.publish(publishers)
        time.sleep(QUIET_S)
        counted = json.loads(counting.hear_last())
    return {
        "num_published": published.num_sent,
        "num_acknowledged": published.num_acknowledged,
        "num_counted": counted["num"],
        "num_lost": num_devices - counted["num"],
    }


def _ours(port: int, num_devices: int, folder: Path) -> dict[str, Any]:
    plan = Publisher(
        port,
        num_devices,
        num_devices,
        UPDATE_BYTES,
        receipts=True,
        resend=True,
        deadline_s=RESEND_WITHIN_S,
    )
    with ExitStack() as stack:
        publishers = arms.start_publishers(plan, stack)
        url = f"mqtt://127.0.0.1:{port}"
        stack.enter_context(Site(folder, url, num_devices, UPDATE_BYTES))
        published = arms.publish(publishers)
    in_ledger = _num_stored(folder / "edge" / "ledger.sqlite")
    return {
        "num_published": published.num_sent,
        "num_acknowledged": published.num_acknowledged,
        "num_receipted": published.num_receipted,
        "num_receipted_at_first_sending": published.num_receipted_unsent_again,
        "num_in_ledger": in_ledger,
        "num_lost": num_devices - min(published.num_receipted, in_ledger),
        "last_receipt_s": round(published.last_at - published.first_at, 2),
    }


def _num_stored(ledger: Path) -> int:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        (num,) = db.execute("SELECT COUNT(*) FROM payloads").fetchone()
    return int(num)


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """A mosquitto with its default limits on a free loopback port, which is given.

    Raises
    ------
    ConfigError
        When there is none on this machine.
    """
    program = mosquitto_program()
    if program is None:
        raise ConfigError("mosquitto is not installed (apt install mosquitto)")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(CONFIG.format(port=port))
    process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while not accepts_sessions("127.0.0.1", port):
            if time.monotonic() > deadline:
                raise PulseRingError("mosquitto did not come up")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _sentences(document: dict[str, Any]) -> str:
    lines = [f"{document['num_devices']} devices publish {UPDATE_BYTES // 1000} kB at once."]
    for number, run in enumerate(document["runs"], 1):
        counted, ours = run["qos1_only"], run["ours"]
        lines.append(
            f"run {number}: QoS 1 alone: {counted['num_acknowledged']} acknowledged, "
            f"{counted['num_counted']} arrived, {counted['num_lost']} lost; with receipts: "
            f"{ours['num_receipted_at_first_sending']} at the first sending, all "
            f"{ours['num_receipted']} after {ours['last_receipt_s']} s and "
            f"{ours['num_published']} sendings, {ours['num_lost']} lost"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(overflow)
