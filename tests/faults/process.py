"""``python -m tests.faults.process MODULE …``: run a process of the product that can be harmed.

As ``python -m MODULE`` would, with the numbered points of its kind in it and with a wall clock that
can be set from outside.  Modules: ``regional``, ``edge``, ``edge.rank``.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from benchmarks.faultbed.points import PROCESS_VARIABLE, points_of_this_process
from tests.faults import clock
from tests.faults.table import Process

KINDS: dict[str, tuple[Process, str, str]] = {
    "regional": ("coordinator", "regional.__main__", "app"),
    "edge": ("edge", "edge.__main__", "app"),
    "edge.rank": ("rank", "edge.rank", "main"),
}


def main() -> None:
    """Set the clock up, put the points in, run the module."""
    kind, module, entry = KINDS[sys.argv.pop(1)]
    points, name = points_of_this_process(), os.environ[PROCESS_VARIABLE]
    clock.set_up(points.folder, name)  # before the product is imported, which takes time.time
    from tests.faults.hooks import Hooks, points_of

    if kind == "rank":
        name = name.replace("edge-", "rank-", 1)
    Hooks(points_of(kind), lambda point: points.come_by(f"{name}.{point}")).install()
    getattr(import_module(module), entry)()


if __name__ == "__main__":
    main()
