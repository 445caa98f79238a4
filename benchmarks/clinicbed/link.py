"""What crosses a site's link, by what it is for: counters of the kernel's packet filter (nft)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.netns import INTERFACE, Lan, Place
from common.errors import ConfigError

Bytes = dict[str, int]
"""Bytes by name of a counter, such as ``up_broker``: IP headers and up, resent packets too."""

WAYS = {"up": ("output", "oifname", "dport"), "down": ("input", "iifname", "sport")}
REST = "ring"


def send_as_packets(made: Lan) -> None:
    """Let no interface hand over several packets as one, so that each header is counted."""
    for site in made.sites:
        _run(["ip", "-n", site.namespace, "link", "set", INTERFACE, "gso_max_segs", "1"])
    _run(["ip", "-n", made.hub.namespace, "link", "set", "switch", "gso_max_segs", "1"])


def rules(ports: Mapping[str, int]) -> str:
    """A packet filter that counts, both ways, what goes to `ports`, and all else as `REST`."""
    lines = ["table inet link {"]
    lines += [f"  counter {way}_{name} {{ }}" for way in WAYS for name in (*ports, REST)]
    for way, (hook, interface, port_word) in WAYS.items():
        there = f'{interface} "{INTERFACE}"'
        lines += [f"  chain {way} {{", f"    type filter hook {hook} priority 0;"]
        lines += [
            f'    {there} tcp {port_word} {port} counter name "{way}_{name}" return'
            for name, port in ports.items()
        ]
        lines += [f'    {there} counter name "{way}_{REST}"', "  }"]
    return "\n".join([*lines, "}", ""])


def count_at(site: Place, ports: Mapping[str, int], scratch: Path) -> None:
    """Begin to count at a site; `scratch` is a file that may be written."""
    scratch.write_text(rules(ports))
    _run(site.command(["nft", "-f", str(scratch)]))


def read(site: Place) -> Bytes:
    """What was counted at a site so far."""
    told = json.loads(_run(site.command(["nft", "-j", "list", "counters"])))
    counters = (entry["counter"] for entry in told["nftables"] if "counter" in entry)
    return {counter["name"]: int(counter["bytes"]) for counter in counters}


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as fault:
        raise ConfigError(f"{command[0]} is missing: install iproute2 and nftables") from fault
    if done.returncode:
        raise ConfigError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
