"""Models as wristbands hold them: verified, and once for all wristbands of a process."""

from __future__ import annotations

import numpy as np

from common import wire
from common.digest import tensors_digest
from common.errors import ContractError
from common.messages import ModelHeader
from simulators.jobs import Model


class SharedModel:
    """A verified model; an object of its own, so that a shelf can hold it weakly."""

    def __init__(self, tensors: Model) -> None:
        self.tensors = tensors


def read_model(digest: str, payload: bytes) -> SharedModel:
    """Take a model's bytes as offered under `digest`.

    Raises
    ------
    ContractError
        When they are no float32 model, or of another digest.
    """
    header, tensors = wire.decode(payload, ModelHeader)
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise ContractError("a model's tensors must be float32", digest=digest)
    if not (header.digest == digest == tensors_digest(tensors)):
        raise ContractError("a model's bytes do not have the digest it is offered under")
    return SharedModel(tensors)
