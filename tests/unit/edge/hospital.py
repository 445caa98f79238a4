"""A hospital for unit tests: a real node and ledger between fake brokers and a fake rank."""

from __future__ import annotations

from pathlib import Path
from random import Random

from common import topics, wire
from common.messages import HospitalStatus, Receipt, RegionState
from edge import reports
from edge.config import EdgeConfig
from edge.desk import Desk
from edge.ledger import Ledger
from edge.metrics import Meters
from edge.models import Models
from edge.node import Node
from edge.ring import Seat
from edge.standing import MuteRule, Standing
from tests.unit.edge.builders import (
    HOSPITAL,
    REGION,
    ROSTER,
    STATION,
    FakeBroker,
    FakeRank,
    make_incoming,
    make_mailboxes,
    make_update,
)

STATUS = topics.hospital_status(REGION, HOSPITAL)


class Hospital:
    """A node with fakes around it, that can be built again over the same state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mute_rule = MuteRule()
        self.coordinators, self.mailbox = make_mailboxes(folder)
        self.build()

    def build(self) -> None:
        self.region_broker, self.hospital_broker = FakeBroker(), FakeBroker()
        self.ledger = Ledger(self.folder / "state")
        models = Models(self.mailbox, self.folder / "state" / "models")
        self.rank, self.meters = FakeRank(), Meters()
        self.standing = Standing(self.ledger, self.mute_rule)
        rounds = self.folder / "state" / "rounds"
        seat = Seat(
            REGION, HOSPITAL, self.rank, self.ledger, self.mailbox, models, rounds, None, 10.0
        )
        self.node = Node(
            make_config(self.folder),
            ROSTER,
            self.ledger,
            models,
            seat,
            Desk(STATION, self.ledger, self.standing),
            self.standing,
            self.meters,
            self.region_broker,
            self.hospital_broker,
            Random(1),
        )

    def hear(self, state: RegionState, now: float = 1.0) -> HospitalStatus:
        self.node.on_region(wire.encode_json(state))
        return self.step(now)

    def step(self, now: float = 1.0) -> HospitalStatus:
        self.node.step(now)
        return self.told()

    def told(self) -> HospitalStatus:
        return wire.decode_json(self.region_broker.retained[STATUS], HospitalStatus)

    def deliver(self, *devices: str, seed: int = 0) -> list[Receipt]:
        before = len(self.hospital_broker.sent)
        batch = [make_incoming(make_update(device, seed), device) for device in devices]
        self.node.on_messages(batch, now=1.0)
        return [wire.decode_json(data, Receipt) for _, data in self.hospital_broker.sent[before:]]

    def receipt(self, update: bytes, device: str, now: float = 1.0) -> Receipt:
        """The receipt for an update's bytes."""
        before = len(self.hospital_broker.sent)
        self.node.on_messages([make_incoming(update, device)], now)
        (sent,) = self.hospital_broker.sent[before:]
        return wire.decode_json(sent[1], Receipt)

    def fates(self) -> dict[str, str]:
        return {row["device"]: row["fate"] for row in reports.updates(self.folder / "state")}


def make_config(folder: Path) -> EdgeConfig:
    values = {
        "region": REGION,
        "hospital": HOSPITAL,
        "region_broker": "mqtt://127.0.0.1:1",
        "hospital_broker": "mqtt://127.0.0.1:1",
        "state_dir": str(folder / "state"),
        "mailbox": str(folder / "mailbox"),
        "coordinator_key": str(folder / "region" / "signing.pub"),
        "devices": '["band-a"]',
        "heartbeat_s": "5",
    }
    return EdgeConfig.load(None, [f"{key}={value}" for key, value in values.items()])
