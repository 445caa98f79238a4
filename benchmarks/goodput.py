"""What one TCP stream carries between two sites: ``python -m benchmarks.goodput receive|send …``."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

from benchmarks.netns import Place

PORT = 29_300
PIECE_BYTES = 1 << 20


def goodput_mbit(sender: Place, receiver: Place, seconds: float, mbit: int) -> float:
    """Payload bits a second, in Mbit/s, of a stream that takes about so many seconds."""
    num_pieces = max(4, round(seconds * mbit * 1e6 / 8 / PIECE_BYTES))
    program = [sys.executable, "-m", "benchmarks.goodput"]
    with subprocess.Popen(
        receiver.command([*program, "receive", receiver.address]),
        stdout=subprocess.PIPE,
        text=True,
    ) as listening:
        assert listening.stdout is not None
        listening.stdout.readline()
        send = [*program, "send", receiver.address, str(num_pieces)]
        subprocess.run(sender.command(send), check=True)
        return float(listening.stdout.readline())


def _receive(address: str) -> None:
    room = bytearray(PIECE_BYTES)
    with socket.create_server((address, PORT)) as listening:
        print("listening", flush=True)
        connection = listening.accept()[0]
        connection.recv_into(room)
        start, num_bytes = time.monotonic(), 0
        while num := connection.recv_into(room):
            num_bytes += num
        print(num_bytes * 8e-6 / (time.monotonic() - start), flush=True)


def _send(address: str, num_pieces: int) -> None:
    piece = bytes(PIECE_BYTES)
    with socket.create_connection((address, PORT)) as connection:
        for _ in range(num_pieces):
            connection.sendall(piece)


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        _receive(sys.argv[2])
    else:
        _send(sys.argv[2], int(sys.argv[3]))
