from __future__ import annotations

import signal
import subprocess
import sys

LOST = """
import os, signal
from simulators.interrupts import Interrupts

interrupts = Interrupts()

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

dropped = Dropped()
del dropped
print("lost by Python")
try:
    interrupts.look()
except KeyboardInterrupt:
    print("seen")
"""


def test_interrupt_that_python_drops_is_seen_at_the_next_look() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.split("\n")[:2] == ["lost by Python", "seen"]
    assert done.returncode != -signal.SIGINT
