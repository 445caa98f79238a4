"""Valid updates of a wanted size: one for each name of a roster, all different."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common import fixedpoint, topics, wire
from common.digest import tensors_digest
from common.mailbox import message_path
from common.messages import FixedPoint, LocalRule, ModelHeader, RoundSpec, ServerRule, UpdateHeader
from common.tasks.beats import BeatTask

REGION, HOSPITAL = "county", "north"
CLIP_NORM = 1.0
PEAK = 100  # of a random integer: 32,000 of them have two thirds of the norm that is allowed
ROUND_S = 3600.0
HEADER_BYTES = 2560  # thirty tensors' names and the message's own header


@dataclass(frozen=True)
class Publisher:
    """How the publishing process is to publish, as it goes over its stdin.

    Parameters
    ----------
    num_connections : int
        MQTT sessions; update ``i`` goes through session ``i % num_connections``.
    receipts : bool
        Whether it ends when all updates have their receipt, or when all have their PUBACK.
    resend : bool
        Whether an update without a receipt is sent again, as wristbands do.
    deadline_s : float
        It ends then, whatever is still missing.
    """

    port: int
    num_updates: int
    num_connections: int
    update_bytes: int
    receipts: bool
    resend: bool = False
    deadline_s: float = 120.0


def device(number: int) -> str:
    """Name of a wristband."""
    return f"wb-{number:05d}"


def topic(number: int, leaf: topics.DeviceLeaf) -> str:
    """Where it publishes updates or hears receipts."""
    return topics.device(REGION, HOSPITAL, device(number), leaf)


def model(update_bytes: int) -> dict[str, npt.NDArray[np.float32]]:
    """The beat model's names with as many parameters as 16-bit updates of that size carry."""
    sizes = {name: value.size for name, value in BeatTask().initial(0).items()}
    scale = (update_bytes - HEADER_BYTES) / 2 / sum(sizes.values())
    return {name: np.zeros(max(1, round(size * scale)), np.float32) for name, size in sizes.items()}


def model_message(update_bytes: int) -> bytes:
    """The base model as it lies in the mailbox."""
    tensors = model(update_bytes)
    digest = tensors_digest(tensors)
    header = ModelHeader(region=REGION, task="beats", digest=digest, made_by_round=0)
    return wire.encode(header, tensors)


def model_path(update_bytes: int) -> str:
    """Where in the mailbox."""
    digest = tensors_digest(model(update_bytes))
    return message_path(REGION, "ring", 0, f"{digest}.safetensors")


def spec(update_bytes: int) -> RoundSpec:
    """An open round on that model."""
    base = model(update_bytes)
    digest, now = tensors_digest(base), time.time()
    exponents = fixedpoint.first_exponents(base, CLIP_NORM, 16)
    return RoundSpec(
        region=REGION,
        day=1,
        cycle=1,
        round_id=1,
        task="beats",
        base_digest=digest,
        state_digest=tensors_digest({}),
        server=ServerRule(),
        local=LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        fixed_point=FixedPoint(clip_norm=CLIP_NORM, exponents=exponents),
        locations={digest: model_path(update_bytes)},
        opened_at=now,
        closes_at=now + ROUND_S,
    )


def make_updates(num: int, update_bytes: int) -> list[bytes]:
    """Updates of `device` 0 to `num` - 1 on that model, each with integers of its own."""
    base = model(update_bytes)
    digest, rng = tensors_digest(base), np.random.default_rng(0)
    return [
        wire.encode(
            UpdateHeader(
                region=REGION,
                hospital=HOSPITAL,
                device=device(number),
                round_id=1,
                base_digest=digest,
                num_examples=100,
                num_saturated=0,
            ),
            {name: rng.integers(-PEAK, PEAK, t.shape, np.int16) for name, t in base.items()},
        )
        for number in range(num)
    ]
