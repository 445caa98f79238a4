from __future__ import annotations

import subprocess
import sys
from threading import Event

from common.watchdog import Watchdog

LONG_S = 20.0
HANGS = """
from common.watchdog import Watchdog
from threading import Event
Watchdog("loop", 0.05, period_s=0.01).start()
Event().wait()
"""


def test_loop_that_stands_still_is_ended() -> None:
    ended = Event()
    Watchdog("loop", limit_s=0.03, end=ended.set, period_s=0.01).start()
    assert ended.wait(LONG_S)


def test_loop_that_goes_round_is_left_alone_until_it_stops() -> None:
    ended = Event()
    dog = Watchdog("loop", limit_s=5.0, end=ended.set, period_s=0.01)
    dog.start()
    for _ in range(50):
        dog.beat()
        assert not ended.wait(0.005)
    dog.stop()
    assert not ended.is_set()


def test_process_of_a_hanging_loop_ends_with_code_1_and_says_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "loop_hangs" in done.stdout + done.stderr
