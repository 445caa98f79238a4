"""What the rounds benchmark writes down: equal learning first, then times, bytes and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import rounds_learning
from benchmarks.flower_peer import VERSION, Flower
from benchmarks.rounds_learning import Lesson
from benchmarks.rounds_ours import Ours
from benchmarks.rounds_trail import Trail, medians, spread
from benchmarks.rounds_watch import stages
from common.errors import ParityError

METHOD = {
    "overhead_s": "from the moment when the last hospital's client has its update ready to send, to "
    "the moment when the last one holds the next round's model; upload and download are in it",
    "round_s": "from the last client that holds one model to the last that holds the next",
    "headline": "medians of overhead_s; Flower's is its faster isolation mode",
    "pause": "ours runs with round_pause_s = 0; the product's default is 0.5 s between rounds",
    "first_round": "not timed: it forms the ring (ours), fetches the app (Flower)",
    "client": "both sides add updates that were trained beforehand; Flower's client imports numpy "
    "alone, no torch, and evaluates nothing; our wristbands also send an evaluation each round",
    "machine": "all hospitals share this machine's cores, which costs the side more that works more "
    "in a round; Flower starts a process for each message by its design, and runs with its defaults",
    "memory": "PSS and RSS of the largest hospital from /proc: edge node and rank; SuperNode, "
    "SuperExec and client process",
}


def summarise(
    ours: Ours, flower: Mapping[str, Flower], lesson: Lesson, num_rounds: int, *, own_network: bool
) -> dict[str, Any]:
    """All figures.

    Raises
    ------
    ParityError
        When the models of both sides differ by more than rounding: then no time is comparable.
    """
    equal = {name: _compare(ours, peer, lesson, num_rounds) for name, peer in flower.items()}
    timed = range(2, num_rounds + 1)
    ours_s = overheads(ours.trail, timed)
    peers = {name: _peer(peer, timed) for name, peer in flower.items()}
    best = min(peers, key=lambda name: float(peers[name]["overhead_s"]["median"]))
    return {
        "ours_s": ours_s["median"],
        "flower_s": peers[best]["overhead_s"]["median"],
        "ratio": round(peers[best]["overhead_s"]["median"] / ours_s["median"], 1),
        "equal_learning": equal,
        "ours": {
            "overhead_s": ours_s,
            "after_puback_s": overheads(ours.trail, timed, "acknowledged"),
            "round_s": whole(ours.trail, timed),
            "first_round_s": overheads(ours.trail, [1])["median"],
            "stages_s": medians(stages(ours.trail, round_id) for round_id in timed),
            "bytes_per_round": bytes_per_round(ours.bytes_at),
            "memory_per_hospital": ours.memory,
        },
        "flower": {"version": VERSION, "isolation": best, "modes": peers},
        "num_hospitals": lesson.updates.shape[1],
        "num_parameters": lesson.updates.shape[2],
        "num_timed": len(timed),
        "method": {**METHOD, "bytes": _how_counted(own_network=own_network)},
    }


def overheads(trail: Trail, rounds: range | list[int], start: str = "published") -> dict[str, Any]:
    """Seconds from the last update in to the last next model out."""
    return spread(trail.last("model", r + 1) - trail.last(start, r) for r in rounds)


def whole(trail: Trail, rounds: range) -> dict[str, Any]:
    """Seconds from the last model out to the last next model out."""
    return spread(trail.last("model", r + 1) - trail.last("model", r) for r in rounds)


def bytes_per_round(bytes_at: Mapping[int, int]) -> int:
    """Mean from the second round on."""
    last = max(bytes_at)
    return (bytes_at[last] - bytes_at[2]) // (last - 2)


def _peer(peer: Flower, timed: range) -> dict[str, Any]:
    return {
        "overhead_s": overheads(peer.trail, timed),
        "round_s": whole(peer.trail, timed),
        "first_round_s": overheads(peer.trail, [1])["median"],
        "bytes_per_round": bytes_per_round(peer.bytes_at),
        "memory_per_hospital": {"at_rest": peer.at_rest, "at_work": peer.at_work},
    }


def _compare(ours: Ours, peer: Flower, lesson: Lesson, num_rounds: int) -> dict[str, Any]:
    specs = [ours.specs[round_id] for round_id in range(1, num_rounds + 1)]
    equal = rounds_learning.compare(ours.models, peer.models, specs, lesson)
    if not equal["within_bound"]:
        raise ParityError(f"ours and Flower learnt different models: {equal}")
    return equal


def _how_counted(*, own_network: bool) -> str:
    if own_network:
        return (
            "all that loopback carried in a network namespace of this benchmark, TCP and IP headers "
            "included; ours includes the benchmark's own subscription to region and hospitals"
        )
    return "all that the whole machine's loopback carried, other programs included"
