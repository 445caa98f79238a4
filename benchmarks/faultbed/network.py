"""A network of its own for each process that can be cut off: namespaces on one bridge.

Every namespace resolves this host's name to its own address, since Gloo's data plane listens where
that name points to.  Needs root; on other machines there is no cutting.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from common.errors import ConfigError

HOSTS = Path("/etc/netns")
INTERFACE = "eth0"


class Network:
    """One bridge, and a namespace for each name; `close` takes all away.

    Raises
    ------
    ConfigError
        When this user may not make namespaces.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._tag = os.getpid() % 10_000
        self._subnet = f"10.77.{os.getpid() % 250}"
        self._bridge = f"prb{self._tag}"
        self._numbers = {name: number for number, name in enumerate(names, start=1)}
        self.address = f"{self._subnet}.254"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def address_of(self, name: str) -> str:
        """Where a name's processes listen."""
        return f"{self._subnet}.{self._numbers[name]}"

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        """`command`, to be run in the namespace of `name`; the process id stays the same."""
        return ["ip", "netns", "exec", self._namespace(name), *command]

    def cut(self, name: str) -> None:
        """Take a name's cable off the bridge: its packets go nowhere, nobody is told."""
        _ip("link", "set", self._port(name), "nomaster")

    def mend(self, name: str) -> None:
        """Put the cable back."""
        _ip("link", "set", self._port(name), "master", self._bridge)

    def close(self) -> None:
        """Take namespaces and bridge away, as far as they exist."""
        for name in self._numbers:
            _ip("netns", "delete", self._namespace(name), check=False)
            shutil.rmtree(HOSTS / self._namespace(name), ignore_errors=True)
        _ip("link", "delete", self._bridge, check=False)

    def _build(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for name in self._numbers:
            self._add(name)

    def _add(self, name: str) -> None:
        namespace, port = self._namespace(name), self._port(name)
        _ip("netns", "add", namespace)
        _ip("link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", namespace)
        _ip("link", "set", port, "master", self._bridge, "up")
        _ip("-n", namespace, "address", "add", f"{self.address_of(name)}/24", "dev", INTERFACE)
        for device in ("lo", INTERFACE):
            _ip("-n", namespace, "link", "set", device, "up")
        hosts = HOSTS / namespace / "hosts"
        hosts.parent.mkdir(parents=True, exist_ok=True)
        hosts.write_text(f"127.0.0.1 localhost\n{self.address_of(name)} {socket.gethostname()}\n")

    def _namespace(self, name: str) -> str:
        return f"pr{self._tag}-{name}"

    def _port(self, name: str) -> str:
        return f"prv{self._tag}n{self._numbers[name]}"


def _ip(*arguments: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise ConfigError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
