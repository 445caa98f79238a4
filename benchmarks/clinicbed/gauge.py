"""Reads a clinic every second while it runs: link, memory, processor; and what the region says."""

from __future__ import annotations

import time
from dataclasses import asdict
from threading import Event, Lock, Thread
from typing import Any, Self

from paho.mqtt.client import MQTTMessage

from benchmarks.clinicbed import link
from benchmarks.clinicbed.body import body_of
from benchmarks.clinicbed.cgroup import Group
from benchmarks.netns import Place
from common import topics
from common.link import Link

EVERY_S = 1.0


class Gauge:
    """A thread that notes `EVERY_S` what the clinic's processes and its link have come to."""

    def __init__(self, edge_pid: int, group: Group, site: Place) -> None:
        self._edge_pid, self._group, self._site = edge_pid, group, site
        self._course: list[dict[str, Any]] = []
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="gauge", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def course(self) -> list[dict[str, Any]]:
        """All readings so far: `at`, the link's `bytes` and the processes' `body`."""
        return list(self._course)

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._course.append(
                {
                    "at": time.time(),
                    "bytes": link.read(self._site),
                    "body": asdict(body_of(self._edge_pid, self._group.pids())),
                }
            )


class Spoken:
    """Counts what is said on the region broker to and by one hospital, as payload bytes."""

    def __init__(self, broker_url: str, region: str, hospital: str) -> None:
        self._lock = Lock()
        self._said = dict.fromkeys(("states", "state_bytes", "statuses", "status_bytes"), 0)
        self._link = Link(
            broker_url,
            "clinic-spoken",
            on_connect=lambda: None,
            on_message=self._hear,
            subscriptions=[topics.round_state(region), topics.hospital_status(region, hospital)],
        )

    def __enter__(self) -> Self:
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def so_far(self) -> dict[str, int]:
        """Numbers and bytes of `RegionState` and of the hospital's `HospitalStatus`."""
        with self._lock:
            return dict(self._said)

    def _hear(self, topic: str, payload: bytes, _message: MQTTMessage) -> None:
        many, size = ("statuses", "status_bytes")
        if not topic.endswith("/status"):
            many, size = ("states", "state_bytes")
        with self._lock:
            self._said[many] += 1
            self._said[size] += len(payload)
