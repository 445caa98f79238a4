"""An edge node as a process against an open round, its region played by this process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.intakebed import updates
from benchmarks.intakebed.processor_time import of_process
from benchmarks.intakebed.updates import HOSPITAL, REGION
from benchmarks.results_file import REPOSITORY
from common import topics, wire
from common.errors import PulseRingError
from common.link import Link
from common.mailbox import Mailbox
from common.messages import HospitalStatus, RegionState
from common.signing import Keyring, Signer

START_TIMEOUT_S = 90.0
END_TIMEOUT_S = 15.0
POLL_S = 0.05
QUIET_S, QUIET_SHARE = 1.0, 0.1  # it has offered the model and all invites


class Site:
    """``python -m edge run`` with a roster of `num_devices`, and a round that stays open.

    ::

        with Site(folder, url, 2000, 64_000) as site:
            publish(...)
            print(site.cpu_s)

    Parameters
    ----------
    settings
        More keys of its configuration.
    """

    def __init__(
        self, folder: Path, url: str, num_devices: int, update_bytes: int, **settings: object
    ) -> None:
        self._folder = folder
        self._url = url
        self._num_devices = num_devices
        self._update_bytes = update_bytes
        self._settings = settings
        self._status: HospitalStatus | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._process = self._start()
            stack.callback(self._end)
            self._link = self._play_region()
            stack.callback(self._link.stop)
            self._wait(lambda: self._link.connected, "the broker")
            self._wait(self._is_open, "the open round")
            self._wait_until_quiet()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """The edge node's process."""
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time that the edge node, without its rank, has used."""
        return of_process(self._process.pid)

    @property
    def ledger(self) -> Path:
        """The edge node's ledger."""
        return self._folder / "edge" / "ledger.sqlite"

    @property
    def num_stored(self) -> int:
        """Updates stored, as the hospital says."""
        return self._status.num_stored if self._status else 0

    def metric(self, name: str, **labels: str) -> float:
        """A sample of its ``/metrics``; 0 when it is not there."""
        address = (self._folder / "edge" / "health.url").read_text().strip()
        with urllib.request.urlopen(f"{address}/metrics", timeout=5) as answer:  # noqa: S310 (its own)
            families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _start(self) -> subprocess.Popen[bytes]:
        config = self._configure()
        with (self._folder / "edge.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "edge", "run", "--config", str(config)],
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _configure(self) -> Path:
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        mailbox = Mailbox(
            str(folder / "mailbox"),
            Signer.at("region", folder / "region"),
            Keyring({HOSPITAL: folder / "edge" / "signing.pub"}),
        )
        message = updates.model_message(self._update_bytes)
        mailbox.put(updates.model_path(self._update_bytes), message)
        # One more than will publish, so that the round stays open.
        roster = "\n".join(updates.device(number) for number in range(self._num_devices + 1))
        (folder / "roster.txt").write_text(roster)
        values: dict[str, Any] = {
            "region": REGION,
            "hospital": HOSPITAL,
            "region_broker": self._url,
            "hospital_broker": self._url,
            "state_dir": str(folder / "edge"),
            "mailbox": str(folder / "mailbox"),
            "coordinator_key": str(folder / "region" / "signing.pub"),
            "roster_file": str(folder / "roster.txt"),
            **self._settings,
        }
        path = folder / "edge.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        return path

    def _play_region(self) -> Link:
        spec = updates.spec(self._update_bytes)
        state = wire.encode_json(RegionState(region=REGION, revision=1, phase="open", spec=spec))
        link: Link

        def say() -> None:
            link.publish(topics.round_state(REGION), state, retain=True)

        link = Link(
            self._url,
            "played-region",
            on_connect=say,
            on_message=lambda _topic, data, _message: self._hear(data),
            subscriptions=[topics.hospital_status(REGION, HOSPITAL)],
        )
        link.start()
        return link

    def _hear(self, data: bytes) -> None:
        self._status = wire.decode_json(data, HospitalStatus)

    def _is_open(self) -> bool:
        status = self._status
        return bool(status and status.phase == "collecting" and status.rank == "warm")

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not reached():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "edge.log").read_text(errors="replace")
                raise PulseRingError(f"the edge node did not come to {what}: {log[-2000:]}")
            time.sleep(POLL_S)

    def _wait_until_quiet(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        used = self.cpu_s
        while time.monotonic() < deadline:
            time.sleep(QUIET_S)
            before, used = used, self.cpu_s
            if used - before < QUIET_SHARE * QUIET_S:
                return
        raise PulseRingError("the edge node did not come to rest with its round open")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
