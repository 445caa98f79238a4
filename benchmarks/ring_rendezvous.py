"""The region's rendezvous in a namespace: ``python -m benchmarks.ring_rendezvous HOST MEMBER…``.

Prints its port and serves until stdin ends.
"""

from __future__ import annotations

import sys

from regional.rendezvous import Rendezvous

if __name__ == "__main__":
    served = Rendezvous(sys.argv[1])
    print(served.start(tuple(sys.argv[2:])), flush=True)
    sys.stdin.read()
    served.stop()
