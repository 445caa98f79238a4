"""A sealed message, read from the mailbox and checked before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.digest import bytes_digest, tensors_digest
from common.errors import ConfigError, ContractError
from common.mailbox import Mailbox, message_path
from common.messages import SealedHeader
from common.tasks.registry import get_task
from common.tasks.task import Parameters, Task, parameters
from common.wire import decode, shapes_of, without_prefix

SEALED_BY = "region"
MAX_SEALED_BYTES = 8 << 20

Counts = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Envelope:
    """A message that the region signed; its tensors are not checked yet."""

    header: SealedHeader
    tensors: Mapping[str, NDArray[Any]]
    sealed_digest: str


@dataclass(frozen=True)
class Sealed:
    """A sealed model that is what its header says.

    Attributes
    ----------
    parameters : dict
        Float32, finite, named and shaped as those of `task`.
    candidate, in_service : mapping or None
        Evaluation counts, summed over wristbands, of the sealed model and of the one in service.
    """

    header: SealedHeader
    sealed_digest: str
    task: Task
    parameters: Parameters
    candidate: Counts
    in_service: Counts | None


def read_sealed(mailbox: Mailbox, region: str, day: int, name: str) -> Envelope:
    """Read a sealed message whose signature is the region's.

    Raises
    ------
    ContractError
        When signature, size, form, schema or place of the message are wrong.
    """
    path = message_path(region, "to-cloud", day, name)
    data = mailbox.get(path, max_bytes=MAX_SEALED_BYTES, signer=SEALED_BY)
    header, tensors = decode(data, SealedHeader, max_bytes=MAX_SEALED_BYTES)
    stated = (header.region, header.day, f"{header.model_digest}.safetensors")
    if stated != (region, day, name):
        raise ContractError(f"{path} holds a message of another region, day or model")
    return Envelope(header, tensors, bytes_digest(data))


def check_sealed(envelope: Envelope) -> Sealed:
    """Check task, names, shapes, dtypes, digest and counts of a sealed message.

    Raises
    ------
    ContractError
        Naming the first fault.
    """
    header, tensors = envelope.header, envelope.tensors
    try:
        task = get_task(header.task)
    except ConfigError as fault:
        raise ContractError(fault.message) from fault
    model = without_prefix("model", tensors)
    candidate = without_prefix("candidate", tensors)
    in_service = without_prefix("in_service", tensors)
    if len(model) + len(candidate) + len(in_service) != len(tensors):
        raise ContractError("the sealed message has tensors of an unknown kind")
    if bool(in_service) != (header.in_service_digest is not None):
        raise ContractError("counts and digest of the model in service must come together")
    _check_parameters(task, model)
    if tensors_digest(model) != header.model_digest:
        raise ContractError("the parameters have another digest than the header states")
    for counts in (candidate, in_service) if in_service else (candidate,):
        _check_counts(task, counts)
    return Sealed(
        header, envelope.sealed_digest, task, model, candidate, in_service if in_service else None
    )


def _check_parameters(task: Task, model: Mapping[str, NDArray[Any]]) -> None:
    if shapes_of(model) != shapes_of(parameters(task.build())):
        raise ContractError(f"the parameters have other names or shapes than task {task.name}")
    for name, tensor in model.items():
        if tensor.dtype != np.float32:
            raise ContractError(f"parameter {name} is {tensor.dtype}, not float32")
        if not np.isfinite(tensor).all():
            raise ContractError(f"parameter {name} is not finite")


def _check_counts(task: Task, counts: Mapping[str, NDArray[Any]]) -> None:
    if shapes_of(counts) != dict(sorted(task.evaluation_shapes.items())):
        raise ContractError(f"evaluation counts have other shapes than task {task.name}")
    for name, tensor in counts.items():
        if tensor.dtype != np.int64 or (tensor < 0).any():
            raise ContractError(f"evaluation counts {name} are no counts")
    per_class = counts["confusion"].sum(axis=1)
    if (counts["histogram"][:, 1].sum(axis=1) != per_class).any():
        raise ContractError("histogram and confusion count different examples")
