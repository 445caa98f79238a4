"""What region and hospitals say of a round, with the moment it was heard: the stages of a round."""

from __future__ import annotations

from paho.mqtt.client import MQTTMessage

from benchmarks.rounds_trail import Trail
from common import topics, wire
from common.link import Link
from common.messages import HospitalStatus, RegionState
from simulators.local_region import LocalRegion

STAGES = (
    ("update on its way, its PUBACK", "published", "acknowledged"),
    ("edge: commit, receipt", "acknowledged", "receipt"),
    ("edge: fold, status ready heard", "receipt", "ready"),
    ("region: ring planned", "ready", "planned"),
    ("edge and rank: join, allreduce, step, result heard", "planned", "result"),
    ("region: step repeated, committed", "result", "committed"),
    ("region: next round opened", "committed", "opened"),
    ("edge: fate, next round adopted, invite heard", "opened", "invite"),
    ("wristband: model fetched", "invite", "model"),
)
"""Each from the last mark of one kind to the last of the next; from ``opened`` on, next round's."""
NEXT_ROUND = frozenset({"opened", "invite", "model"})


class Watch:
    """Hears the region broker; its marks are ``ready``, ``planned``, ``result`` and so on."""

    def __init__(self, region: LocalRegion, trail: Trail) -> None:
        self._trail = trail
        self._seen: set[tuple[str, int, str]] = set()
        name = region.plan.region
        self._link = Link(
            region.broker_url,
            "rounds-watch",
            on_connect=lambda: None,
            on_message=self._hear,
            subscriptions=[topics.round_state(name), topics.hospital_status(name)],
        )

    def __enter__(self) -> Watch:
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def _hear(self, topic: str, payload: bytes, _message: MQTTMessage) -> None:
        if topic.endswith("/status"):
            self._of_hospital(wire.decode_json(payload, HospitalStatus))
        else:
            self._of_region(wire.decode_json(payload, RegionState))

    def _of_hospital(self, status: HospitalStatus) -> None:
        if status.phase == "ready":
            self._once("ready", status.round_id, status.hospital)
        if status.result:
            self._once("result", status.result.round_id, status.hospital)

    def _of_region(self, state: RegionState) -> None:
        if state.plan and state.phase == "ring":
            self._once("planned", state.plan.round_id)
        if state.outcome:
            self._once("committed", state.outcome.round_id)
        if state.spec and state.phase == "open":
            self._once("opened", state.spec.round_id)

    def _once(self, mark: str, round_id: int, who: str = "") -> None:
        if (mark, round_id, who) not in self._seen:
            self._seen.add((mark, round_id, who))
            self._trail.mark(mark, round_id)


def stages(trail: Trail, round_id: int) -> dict[str, float]:
    """Seconds of each of `STAGES` in one round."""
    return {
        what: _last(trail, end, round_id) - _last(trail, start, round_id)
        for what, start, end in STAGES
    }


def _last(trail: Trail, mark: str, round_id: int) -> float:
    return trail.last(mark, round_id + (mark in NEXT_ROUND))
