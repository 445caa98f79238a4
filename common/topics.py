"""MQTT topics, spelled in this one place.

::

    pulsering/v1/{region}/round                         region broker, retained: RegionState
    pulsering/v1/{region}/control/{hospital}/status     region broker, retained: HospitalStatus
    pulsering/v1/{region}/{hospital}/model/{digest}     hospital broker, retained: ModelHeader
    pulsering/v1/{region}/{hospital}/{device}/{leaf}    hospital broker, leaf one of DEVICE_LEAVES

A wristband writes only below its own name and reads its ``invite`` and ``receipt``, and the model
it lacks.  The hospital ``control`` is reserved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import StringConstraints

PREFIX = "pulsering/v1"
DeviceLeaf = Literal["invite", "update", "receipt", "evaluation", "status"]
DEVICE_LEAVES: tuple[str, ...] = get_args(DeviceLeaf)
RESERVED_HOSPITALS = frozenset({"control", "round"})

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
"""A region, hospital or device: lower-case letters, digits, ``-`` and ``_``, at most 48."""


@dataclass(frozen=True)
class DeviceTopic:
    """A device's topic, taken apart."""

    region: str
    hospital: str
    device: str
    leaf: str


def round_state(region: str) -> str:
    """Where the coordinator keeps the region's state, retained."""
    return f"{PREFIX}/{region}/round"


def hospital_status(region: str, hospital: str = "+") -> str:
    """Where a hospital keeps its status, retained; ``+`` subscribes to all."""
    return f"{PREFIX}/{region}/control/{hospital}/status"


def model(region: str, hospital: str, digest: str) -> str:
    """Where an edge node offers the model of that digest, retained while it is needed."""
    return f"{PREFIX}/{region}/{hospital}/model/{digest}"


def device(region: str, hospital: str, device_id: str, leaf: DeviceLeaf) -> str:
    """A topic of one wristband; ``+`` as `device_id` subscribes to all of a hospital."""
    return f"{PREFIX}/{region}/{hospital}/{device_id}/{leaf}"


def parse_device(topic: str) -> DeviceTopic | None:
    """Take a device's topic apart; ``None`` when `topic` has another shape."""
    parts = topic.split("/")
    if len(parts) != 6 or "/".join(parts[:2]) != PREFIX or parts[5] not in DEVICE_LEAVES:
        return None
    return DeviceTopic(region=parts[2], hospital=parts[3], device=parts[4], leaf=parts[5])
