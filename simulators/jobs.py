"""What a wristband asks of its own processor, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.messages import RoundSpec

Model = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Identity:
    """Who a wristband is, in the words of its topics."""

    region: str
    hospital: str
    device: str


@dataclass(frozen=True)
class Job:
    """One round's local work.

    Attributes
    ----------
    models : mapping of digest to parameters
        The base when `train`, and every model of ``spec.evaluate``; digests verified.
    train : bool
        False when only the evaluation is wanted.
    residual : mapping of str to float32 array or None
        What the wristband learnt and did not send yet, in the shapes of the base; sparse rounds
        add it to their update, others leave it.
    """

    identity: Identity
    spec: RoundSpec
    models: Mapping[str, Model]
    train: bool
    residual: Model | None = None


@dataclass(frozen=True)
class LocalUpdate:
    """A clipped, quantized update: int8 or int16 tensors as they travel.

    `residual` is what a sparse round left unsaid, float32 in the shapes of the base.
    """

    base_digest: str
    num_examples: int
    num_saturated: int
    tensors: Mapping[str, npt.NDArray[np.signedinteger[Any]]]
    residual: Model | None = None


@dataclass(frozen=True)
class LocalEvaluation:
    """Counts on held-out examples: int64 tensors named ``{digest}/{name}``."""

    num_examples: int
    tensors: Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Learned:
    """What came of a `Job`."""

    spec: RoundSpec
    update: LocalUpdate | None
    evaluation: LocalEvaluation | None
