"""``python -m benchmarks.faultbed MODULE …``: run a process of the product with points in it.

The product has no hooks: its methods are wrapped here, in the process that was started this way,
and in no other.  Modules: ``regional``, ``edge``, ``edge.rank``.
"""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.faultbed import hooks
from benchmarks.faultbed.points import points_of_this_process

HOOKS = {
    "regional": ("regional.__main__", "app", hooks.into_coordinator),
    "edge": ("edge.__main__", "app", hooks.into_edge_node),
    "edge.rank": ("edge.rank", "main", hooks.into_rank),
}


def main() -> None:
    """Wrap the module's methods, then run it as ``python -m`` would."""
    module, entry, put_into = HOOKS[sys.argv.pop(1)]
    put_into(points_of_this_process())
    getattr(import_module(module), entry)()


main()
