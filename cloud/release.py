"""A release: what the cloud publishes of a sealed model, as stored in the model pool."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, JsonValue, PositiveInt, StringConstraints

from common.messages import Digest, Shape, TensorName, Timestamp
from common.topics import Name

ReleaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]


class Release(BaseModel):
    """One entry of the model pool.

    `status` and `report` may change after the release and are no part of ``release.json``, whose
    bytes are signed.

    Attributes
    ----------
    name : str
        Such as ``county-d0001-1a2b3c4d``: region, day, first 8 digits of the model digest.
    labels : tuple of str
        Order of the columns of the graph's output ``scores``.
    input_shapes : dict
        Shape per example of each float32 input, in the order of the graph's inputs.
    sealed_digest : str
        SHA-256 of the bytes of the sealed message.
    parity : float
        Largest absolute difference of a score between onnxruntime and torch.
    data_source : str
        What the region states about the ECG that it learned from.
    metrics : dict
        Evaluation summed over the region's wristbands; what the decision stands on.
    report : dict or None
        DS2, scored after the decision; report only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: ReleaseName
    region: Name
    day: PositiveInt
    task: Name
    labels: tuple[str, ...]
    input_shapes: dict[TensorName, Shape]
    model_digest: Digest
    sealed_digest: Digest
    onnx_sha256: Digest
    size_bytes: PositiveInt
    parity: FiniteFloat
    created_at: Timestamp
    data_source: Annotated[str, StringConstraints(max_length=200)] = "unstated"
    metrics: dict[str, JsonValue]
    status: Literal["current", "in_pool"] = "in_pool"
    report: dict[str, JsonValue] | None = None

    def frozen_fields(self) -> dict[str, JsonValue]:
        """All that never changes, as JSON values."""
        return self.model_dump(mode="json", exclude={"status", "report"})

    def frozen_json(self) -> bytes:
        """Bytes of ``release.json``; keys stay in order, as inputs and labels must."""
        return json.dumps(self.frozen_fields(), indent=2).encode() + b"\n"


def release_name(region: str, day: int, model_digest: str) -> str:
    """Name of the release of a model.

    >>> release_name("county", 1, "1a2b3c4d" + 56 * "0")
    'county-d0001-1a2b3c4d'
    """
    return f"{region}-d{day:04d}-{model_digest[:8]}"
