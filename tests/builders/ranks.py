"""Rank processes and their keepers, driven as an edge node drives them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from edge.rank_process import Died, RankProcess, Said
from edge.rank_protocol import Computed

WAIT_S = 60.0


@dataclass
class Member:
    """One rank process with what it said, as its edge node would keep it."""

    name: str
    folder: Path
    news: SimpleQueue[Said | Died] = field(default_factory=SimpleQueue)
    said: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.rank = RankProcess(sys.executable, self.news.put)

    def follow(self) -> None:
        self.rank.tick(time.monotonic())
        try:
            while True:
                news = self.news.get_nowait()
                if self.rank.heard(news, time.monotonic()):
                    self.said.append(news.event if isinstance(news, Said) else news)
        except Empty:
            return

    def last(self, kind: type[Any]) -> Any:
        return next((one for one in reversed(self.said) if isinstance(one, kind)), None)


def wait_until(
    members: list[Member], happened: Callable[[], bool], what: str, within_s: float = WAIT_S
) -> None:
    """Follow `members` until something has happened; fail when it takes too long."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, f"{what}: {[m.said for m in members]}"
        for member in members:
            member.follow()
        time.sleep(0.005)


def results(members: list[Member], round_id: int) -> list[Computed]:
    """What every member computed in that round, once all have."""

    def done() -> bool:
        latest = [m.last(Computed) for m in members]
        return all(r is not None and r.round_id == round_id for r in latest)

    wait_until(members, done, f"results of round {round_id}")
    return [m.last(Computed) for m in members]
