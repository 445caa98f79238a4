"""A coordinator in a process of its own, with a real broker and fake hospitals around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from common.mailbox import Mailbox, message_path
from common.messages import RoundOutcome
from common.signing import Keyring
from common.wire import decode_json
from simulators.broker import EmbeddedBroker
from tests.builders.fake_hospitals import HOSPITALS, REGION, FakeHospital

ROOT = Path(__file__).resolve().parents[2]
CLIP_NORM = 2.5


def until(what: str, holds: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class Coordinator:
    """``python -m regional run`` in a process of its own."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.config = folder / "region.toml"
        self.mailbox = Mailbox(
            str(folder / "mailbox"),
            None,
            Keyring({"region": folder / "region" / "signing.pub"}),
        )
        keys = "\n".join(
            f'[hospitals.{name}]\nkey = "{folder / name / "signing.pub"}"' for name in HOSPITALS
        )
        self.config.write_text(
            f"""
region = "{REGION}"
broker = "{broker}"
state_dir = "{folder / "region"}"
mailbox = "{folder / "mailbox"}"
cloud_key = "{folder / "cloud" / "signing.pub"}"
task = "dummy"
heartbeat_s = 1
{keys}
[learning]
clip_norm = {CLIP_NORM}
[rounds]
rounds_per_day = [3, 1]
num_days = 2
deadline_s = 30
rejoin_s = 10
ring_timeout_s = 20
quorum = 3
round_pause_s = 0.1
[seal]
wait_for_release_s = 60
"""
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        self.process = subprocess.Popen(
            self.command("run", *more),
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def command(self, name: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "regional", name, "--config", str(self.config), *more]

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=5)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def outcome(self, round_id: int) -> RoundOutcome | None:
        path = message_path(REGION, "ring", round_id, "outcome.json")
        if not self.mailbox.exists(path):
            return None
        return decode_json(self.mailbox.get(path, signer="region"), RoundOutcome)

    def ask(self, command: str) -> Any:
        done = subprocess.run(
            self.command(command, "--json"),
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else []

    def committed(self) -> list[dict[str, Any]]:
        return [report for report in self.ask("rounds") if report["end"] == "committed"]


class Site:
    """Broker, hospitals and coordinator in `folder`; the coordinator is not started yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hospitals: dict[str, FakeHospital] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.broker = self._open.enter_context(EmbeddedBroker())
        self.coordinator = Coordinator(self.folder, self.broker.url)
        self._open.callback(self.coordinator.kill)
        for name in HOSPITALS:
            hospital = FakeHospital(name, self.folder, self.broker.url, self.hospitals)
            self.hospitals[name] = hospital
            self._open.callback(hospital.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def start(self, *more: str) -> None:
        """Start the coordinator, then the hospitals."""
        self.coordinator.start(*more)
        for hospital in self.hospitals.values():
            hospital.start()

    def stands_in_a_ring_without_west(self) -> bool:
        """Whether a ring later than the first waits for west alone."""
        east, west = self.hospitals["east"].status, self.hospitals["west"].status
        if east.result is None or east.result.round_id != west.round_id or west.round_id < 2:
            return False
        return west.result is None or west.result.round_id < west.round_id


def ask(url: str) -> tuple[int, Any]:
    """Status and JSON of an answer; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())
    except OSError:
        return 0, None
