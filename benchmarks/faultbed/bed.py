"""A bed: one region, its network and its ear, up and down together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.faultbed.ear import Ear
from benchmarks.faultbed.network import Network
from benchmarks.faultbed.region import BedRegion
from benchmarks.faultbed.trial import Bench
from common.errors import ConfigError

ROSTER = {
    "north": [("wb-01", "1"), ("wb-02", "2"), ("wb-03", "3")],
    "harbour": [("wb-04", "4"), ("wb-05", "5")],
    "valley": [("wb-06", "6"), ("wb-07", "7")],
}
RingTimeoutOption = Annotated[
    float | None, typer.Option(help="The coordinator's.", show_default="the product's")
]
RootOption = Annotated[
    Path | None, typer.Option(help="Where the region's files stay.", show_default="temporary")
]
VICTIM, OTHER = "harbour", "north"


def can_cut() -> bool:
    """Whether namespaces can be made here."""
    if os.geteuid():
        return False
    try:
        Network(["probe"]).close()
    except (ConfigError, OSError):
        return False
    return True


@contextmanager
def bench(
    rounds: Mapping[str, Any], *, cut: bool = False, root: Path | None = None
) -> Iterator[Bench]:
    """A bench of three hospitals; everything of it is gone afterwards."""
    with ExitStack() as stack:
        root = root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faultbed-")))
        network = Network(["region", *ROSTER]) if cut else None
        if network:
            stack.callback(network.close)
        region = BedRegion(root, ROSTER, rounds, network=network)
        stack.callback(region.stop)
        region.start()
        ear = stack.enter_context(Ear(region.broker_url, region.plan.region))
        yield Bench(region, ear, VICTIM, OTHER)
