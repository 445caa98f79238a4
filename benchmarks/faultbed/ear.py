"""Hears updates and receipts on the broker, as the wristbands do."""

from __future__ import annotations

from contextlib import suppress
from typing import Self

from paho.mqtt.client import MQTTMessage

from common import topics, wire
from common.digest import bytes_digest
from common.errors import ContractError
from common.link import Link
from common.messages import Receipt, UpdateHeader


class Ear:
    """Remembers which updates wristbands were told to be stored.

    Attributes
    ----------
    stored : set of (device, base digest)
    """

    def __init__(self, broker_url: str, region: str) -> None:
        self.stored: set[tuple[str, str]] = set()
        self._bases: dict[str, str] = {}
        self._link = Link(
            broker_url,
            "faultbed-ear",
            on_connect=lambda: None,
            on_message=self._hear,
            subscriptions=[topics.device(region, "+", "+", x) for x in ("update", "receipt")],
        )

    def __enter__(self) -> Self:
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def _hear(self, topic: str, payload: bytes, _message: MQTTMessage) -> None:
        with suppress(ContractError):  # of a bench that sends nonsense on purpose
            self._note(topic, payload)

    def _note(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/update"):
            header, _ = wire.decode(payload, UpdateHeader)
            self._bases[bytes_digest(payload)] = header.base_digest
            return
        receipt = wire.decode_json(payload, Receipt)
        base = self._bases.get(receipt.content_digest)
        if base and (receipt.status, receipt.subject) == ("stored", "update"):
            self.stored.add((receipt.device, base))
