"""What an edge node retains on the region broker: its status, said at changes and heartbeats."""

from __future__ import annotations

from common import topics, wire
from common.messages import HospitalStatus
from edge.offers import Publisher


class Statement:
    """The hospital's status as the region was last told it."""

    def __init__(self, broker: Publisher, heartbeat_s: float) -> None:
        self._broker = broker
        self._heartbeat_s = heartbeat_s
        self._told: HospitalStatus | None = None
        self._told_at = 0.0

    def forget(self) -> None:
        """Say it again next time, as the broker may have forgotten it."""
        self._told = None

    def tell(self, status: HospitalStatus, now: float) -> None:
        """Publish `status` (its revision is set here) when it changed or a heartbeat is due."""
        # Outside of 0 to a heartbeat, so that a clock set back silences nobody.
        due = not 0 <= now - self._told_at < self._heartbeat_s
        if status != self._told or due:
            self._publish(status, now)

    def _publish(self, status: HospitalStatus, now: float) -> None:
        topic = topics.hospital_status(status.region, status.hospital)
        # Milliseconds grow across restarts too.
        stamped = status.model_copy(update={"revision": int(now * 1000)})
        if self._broker.publish(topic, wire.encode_json(stamped), retain=True):
            self._told, self._told_at = status, now
