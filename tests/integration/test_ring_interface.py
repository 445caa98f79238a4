"""Real ranks in network namespaces with two networks: the ring runs on the chosen one or not at all.

The host's own name resolves to the other network, as it does on many hosts with a VPN.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.netns import Place
from benchmarks.ring_round import Ring, Round
from common.contract import Contract
from edge.rank_protocol import Computed, Failed, Joined, Warm, line, parse_event

ROOT = Path(__file__).resolve().parents[2]
CHOSEN, OTHER = "wg0", "eth0"
MEMBERS = ("hospital-0", "hospital-1")
NUM_PARAMETERS = 100_000
RING_BYTES = 8 * NUM_PARAMETERS // 3  # that either of two ranks sends: three numbers a lane
NOISE_BYTES = 20_000  # neighbour discovery
HOSTS = Path("/etc/netns")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def hosts() -> Iterator[tuple[Place, ...]]:
    """Two hosts; 10.78.1.0/24 is the network `CHOSEN`, 10.78.2.0/24 is `OTHER`."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2, to make network namespaces")
    made = tuple(Place(f"pulsetest{os.getpid()}-{i}", f"10.78.1.{i + 1}") for i in range(2))
    try:
        for place in made:
            run("ip", "netns", "add", place.namespace)
            run("ip", "-n", place.namespace, "link", "set", "lo", "up")
        for number, interface in ((1, CHOSEN), (2, OTHER)):
            join_hosts(made, interface, number)
        for number, place in enumerate(made):
            folder = HOSTS / place.namespace
            folder.mkdir(parents=True)
            text = f"127.0.0.1 localhost\n10.78.2.{number + 1} {os.uname().nodename}\n"
            (folder / "hosts").write_text(text)
        yield made
    finally:
        for place in made:
            subprocess.run(["ip", "netns", "del", place.namespace], check=False)
            shutil.rmtree(HOSTS / place.namespace, ignore_errors=True)


def join_hosts(made: tuple[Place, ...], interface: str, network: int) -> None:
    first, second = (place.namespace for place in made)
    peer = ("type", "veth", "peer", "name", interface, "netns", second)
    run("ip", "-n", first, "link", "add", interface, *peer)
    for number, namespace in enumerate((first, second), start=1):
        address = f"10.78.{network}.{number}/24"
        run("ip", "-n", namespace, "addr", "add", address, "dev", interface)
        run("ip", "-n", namespace, "link", "set", interface, "up")


def sent_bytes(place: Place, interface: str) -> int:
    shown = run("ip", "-n", place.namespace, "-s", "-j", "link", "show", "dev", interface)
    return int(json.loads(shown)[0]["stats64"]["tx"]["bytes"])


@pytest.fixture
def start() -> Iterator[Callable[[Place, str], subprocess.Popen[str]]]:
    """Start a module in a namespace; all that was started ends with the test."""
    with ExitStack() as ends:

        def start(place: Place, *program: str) -> subprocess.Popen[str]:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            child = place.start([sys.executable, "-m", *program], environment)
            ends.callback(child.communicate)
            ends.callback(os.killpg, child.pid, signal.SIGKILL)
            return child

        yield start


def said(child: subprocess.Popen[str]) -> Contract:
    assert child.stdout is not None
    return parse_event(child.stdout.readline())


def ask_to_join(
    hosts: tuple[Place, ...],
    start: Callable[..., subprocess.Popen[str]],
    folder: Path,
    interface: str = CHOSEN,
) -> list[subprocess.Popen[str]]:
    """Ranks that were sent into a ring on `interface`; their answers are still to be read."""
    server = start(hosts[0], "benchmarks.ring_rendezvous", hosts[0].address, *MEMBERS)
    ranks = [start(place, "edge.rank") for place in hosts]
    assert server.stdout is not None
    ring = Ring(MEMBERS, hosts[0].address, int(server.stdout.readline()), interface)
    work = Round(folder / "round", ring, NUM_PARAMETERS, 16)
    for number, rank in enumerate(ranks):
        assert isinstance(said(rank), Warm)
        assert rank.stdin is not None
        rank.stdin.write(line(work.join(number, 1)))
        rank.stdin.flush()
    return ranks


def test_ring_stays_on_the_chosen_interface_though_the_hosts_name_resolves_elsewhere(
    hosts: tuple[Place, ...], start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for rank in ask_to_join(hosts, start, tmp_path):
        assert isinstance(said(rank), Joined)
        assert isinstance(said(rank), Computed)
    for place in hosts:
        assert sent_bytes(place, CHOSEN) > RING_BYTES
        assert sent_bytes(place, OTHER) < NOISE_BYTES


def test_rank_whose_route_leads_around_the_interface_refuses_the_ring(
    hosts: tuple[Place, ...], start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    # The second host connects to the first, whose address is lower: it takes the wrong network.
    run("ip", "-n", hosts[1].namespace, "route", "add", f"{hosts[0].address}/32", "dev", OTHER)
    _, refusing = ask_to_join(hosts, start, tmp_path)
    answer = said(refusing)
    assert isinstance(answer, Failed), answer
    assert f"runs from 10.78.2.2 and not from interface '{CHOSEN}'" in answer.reason


def test_interface_that_a_host_lacks_is_refused_by_name(
    hosts: tuple[Place, ...], start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for rank in ask_to_join(hosts, start, tmp_path, interface="wg7"):
        answer = said(rank)
        assert isinstance(answer, Failed), answer
        assert "'wg7' is not here" in answer.reason
