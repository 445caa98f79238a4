"""Sites that are far apart on one machine: a network namespace each, on a switch of given speed.

Needs root.  Each site has one interface, `INTERFACE`, whose link is shaped both ways by ``tbf``;
the switch is a bridge in a further namespace, which has an address for what serves all sites.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from common.errors import ConfigError

INTERFACE = "ring0"
BURST_BYTES = 128 << 10  # two segments as large as the kernel hands them over
QUEUE_BYTES = 4 << 20  # of a port, as switches have; what finds no room is lost
_HOSTS = Path("/etc/netns")  # `ip netns exec` lays these files over /etc


@dataclass(frozen=True)
class Place:
    """A namespace and its address."""

    namespace: str
    address: str

    def command(self, arguments: Sequence[str]) -> list[str]:
        """`arguments` as a command that runs there, under the process id of its starter's child."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def start(self, arguments: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        """Run a program there with pipes on stdin and stdout."""
        return subprocess.Popen(
            self.command(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,
        )


@dataclass(frozen=True)
class Lan:
    """Sites and the switch between them."""

    hub: Place
    sites: tuple[Place, ...]

    def shape(self, mbit: int) -> None:
        """Give every link that speed, both ways."""
        for number in range(len(self.sites)):
            self.shape_site(number, mbit * 1000, BURST_BYTES)

    def shape_site(self, number: int, kbit: int, burst_bytes: int) -> None:
        """Give one site's link a speed, both ways; `burst_bytes` of it pass at once."""
        limit = f"limit {QUEUE_BYTES + burst_bytes}"
        rule = f"root tbf rate {kbit}kbit burst {burst_bytes} {limit}".split()
        _tc(self.sites[number].namespace, "qdisc", "replace", "dev", INTERFACE, *rule)
        _tc(self.hub.namespace, "qdisc", "replace", "dev", _port(number), *rule)


def require_root() -> None:
    """Raise ``ConfigError`` where namespaces cannot be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ConfigError("network namespaces need Linux and root: run it with sudo")
    if shutil.which("ip") is None or shutil.which("tc") is None:
        raise ConfigError("network namespaces need the commands ip and tc: install iproute2")


@contextmanager
def lan(num_sites: int, mbit: int | None = None) -> Iterator[Lan]:
    """Make a switch and its sites, and take them away at the end.

    Parameters
    ----------
    num_sites : int
        At most 200.
    mbit : int, optional
        Speed of every link; unlimited when left out.
    """
    require_root()
    prefix = f"pulse{os.getpid()}"
    hub = Place(f"{prefix}-hub", "10.77.0.254")
    sites = tuple(Place(f"{prefix}-{i}", f"10.77.0.{i + 1}") for i in range(num_sites))
    made = Lan(hub, sites)
    try:
        _build(made)
        if mbit is not None:
            made.shape(mbit)
        yield made
    finally:
        for place in (hub, *sites):
            subprocess.run(["ip", "netns", "del", place.namespace], check=False, stderr=DEVNULL)
            shutil.rmtree(_HOSTS / place.namespace, ignore_errors=True)


def _build(made: Lan) -> None:
    for place in (made.hub, *made.sites):
        _ip("netns", "add", place.namespace)
        _ip("-n", place.namespace, "link", "set", "lo", "up")
        _host_name_resolves_to(place)
    hub = made.hub.namespace
    _ip("-n", hub, "link", "add", "switch", "type", "bridge", "forward_delay", "0")
    _ip("-n", hub, "addr", "add", f"{made.hub.address}/24", "dev", "switch")
    _ip("-n", hub, "link", "set", "switch", "up")
    for number, site in enumerate(made.sites):
        _plug(number, site, hub)


def _plug(number: int, site: Place, hub: str) -> None:
    there = ("netns", site.namespace)
    _ip("-n", hub, "link", "add", _port(number), "type", "veth", "peer", "name", INTERFACE, *there)
    _ip("-n", hub, "link", "set", _port(number), "master", "switch", "up")
    _ip("-n", site.namespace, "addr", "add", f"{site.address}/24", "dev", INTERFACE)
    _ip("-n", site.namespace, "link", "set", INTERFACE, "up")


def _host_name_resolves_to(place: Place) -> None:
    """Released Horovod binds its ring to what the host's own name resolves to."""
    folder = _HOSTS / place.namespace
    folder.mkdir(parents=True)
    text = f"127.0.0.1 localhost\n{place.address} {os.uname().nodename}\n"
    (folder / "hosts").write_text(text)


def _port(number: int) -> str:
    return f"port{number}"


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _tc(namespace: str, *arguments: str) -> None:
    _run("tc", "-n", namespace, *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{' '.join(command)}: {done.stderr.strip()}")
