"""A release: what the cloud publishes of a sealed model, as stored in the model pool."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, JsonValue, PositiveInt, StringConstraints

from common.messages import Digest, Shape, TensorName, Timestamp
from common.topics import Name

ReleaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]


class Difference(BaseModel):
    """How far a release's int8 file is from its float32 file on one set of inputs.

    Attributes
    ----------
    num_examples : int
        Rows that both files scored.
    score, score_bound : float
        Largest absolute difference of a score, and what it may be; None is no bound.
    changed, changed_bound : float
        Share of rows whose largest score is of another class, and what it may be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_examples: PositiveInt
    score: FiniteFloat
    score_bound: FiniteFloat | None
    changed: FiniteFloat
    changed_bound: FiniteFloat


class Int8(BaseModel):
    """The int8 file of a release, or why it has none.

    Attributes
    ----------
    sha256, size_bytes : str and int, or None
        Of ``model.int8.onnx``; None when it was refused.
    refusal : str
        Why there is no file; empty when there is one.
    differences : dict
        To the float32 file, by set of inputs: ``probes``, and ``synthetic_beats`` where the task
        takes beats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Digest | None = None
    size_bytes: PositiveInt | None = None
    refusal: str = ""
    differences: dict[str, Difference] = {}


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
    int8 : Int8 or None
        What became of the int8 file; None in releases from before there was one.
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
    int8: Int8 | None = None
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
