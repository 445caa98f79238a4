"""Whether a formed ring stays on the interface that its hospital chose.

Horovod 0.28.1 as released forgets ``HOROVOD_GLOO_IFACE`` for the connections that carry data and
binds them to whatever the host's own name resolves to.  The wheel that `scripts/horovod_wheel.py`
builds does not; this check is for every other one, and for routes that lead around the interface.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import stat
import struct
from array import array
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from common.errors import RingError

SIOCGIFCONF = 0x8912  # linux/sockios.h
IFREQ_BYTES = 40  # struct ifreq: 16 of the name, then an address
MAX_ADDRESSES = 1024
DESCRIPTORS = Path("/proc/self/fd")
IPV6_ADDRESSES = Path("/proc/net/if_inet6")


def require_address(interface: str) -> None:
    """Make sure, before a ring forms on it, that the interface is there.

    Raises
    ------
    RingError
        When it is not, or has no address.
    """
    if not addresses(interface):
        raise RingError(
            f"interface {interface!r} is not here or has no address: "
            "set `interface` of this hospital to one that `ip address` shows",
            interface=interface,
        )


def require_ring_on(interface: str) -> None:
    """Make sure that all TCP connections of this process run from that interface's addresses.

    Raises
    ------
    RingError
        When one does not; the message names interface and address.
    """
    stray = outside(tcp_addresses(), addresses(interface))
    if stray:
        raise RingError(
            f"the ring runs from {', '.join(stray)} and not from interface {interface!r}: let the "
            "host's name resolve to the interface's address, or install the Horovod of `make setup`",
            interface=interface,
            addresses=stray,
        )


def outside(local: Collection[str], own: Collection[str]) -> list[str]:
    """Which of the `local` addresses are none of an interface's `own`, sorted.

    All of 127.0.0.0/8 belongs to the interface that has 127.0.0.1.

    >>> outside(["10.0.0.1", "127.0.1.1"], ["127.0.0.1"])
    ['10.0.0.1']
    """
    loopback = any(ipaddress.ip_address(address).is_loopback for address in own)
    return sorted(
        address
        for address in set(local) - set(own)
        if not (loopback and ipaddress.ip_address(address).is_loopback)
    )


def addresses(interface: str) -> list[str]:
    """IPv4 and IPv6 addresses of an interface, none when there is no such interface."""
    pairs = [*_ipv4(), *_ipv6()]
    return [address for name, address in pairs if name.partition(":")[0] == interface]


def tcp_addresses() -> set[str]:
    """Local addresses of this process's TCP sockets, connected or listening."""
    found = set()
    for descriptor in list(DESCRIPTORS.iterdir()):
        with suppress(OSError):  # closed meanwhile, among them the listing's own
            number = int(descriptor.name)
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                found |= _local_address(number)
    return found


def _local_address(descriptor: int) -> set[str]:
    with socket.socket(fileno=os.dup(descriptor)) as one:
        if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM:
            return {str(one.getsockname()[0]).partition("%")[0]}
    return set()


def _ipv4() -> Iterator[tuple[str, str]]:
    """Interface and address, as SIOCGIFCONF lists them (netdevice(7))."""
    room = array("B", bytes(MAX_ADDRESSES * IFREQ_BYTES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("iL", len(room), room.buffer_info()[0])
        filled = struct.unpack("iL", fcntl.ioctl(any_socket, SIOCGIFCONF, request))[0]
    for start in range(0, filled, IFREQ_BYTES):
        name = room[start : start + 16].tobytes().partition(b"\0")[0].decode()
        yield name, socket.inet_ntoa(room[start + 20 : start + 24].tobytes())


def _ipv6() -> Iterator[tuple[str, str]]:
    with suppress(FileNotFoundError):  # a kernel without IPv6
        for line in IPV6_ADDRESSES.read_text().splitlines():
            digits, *_, name = line.split()
            yield name, str(ipaddress.IPv6Address(int(digits, 16)))
