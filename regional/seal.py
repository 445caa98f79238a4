"""The daily seal: the mean of the last committed models, its evaluation and its provenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.digest import Tensors
from common.errors import ContractError
from common.mailbox import message_path
from common.messages import SealedHeader
from common.wire import encode, with_prefix
from regional.config import RegionConfig
from regional.progress import Progress, Stored


def mean_model(models: Sequence[Tensors]) -> dict[str, npt.NDArray[np.float32]]:
    """Mean of models in float64, rounded once to float32; one model stays as it is.

    Parameters
    ----------
    models : sequence of mapping of str to float32 array
        At least one; all with the same names and shapes.

    Raises
    ------
    ContractError
        When there is no model, or their names differ.
    """
    if not models or any(set(model) != set(models[0]) for model in models):
        raise ContractError("a mean needs models with the same tensors, at least one")
    return {
        name: np.mean([np.asarray(model[name], np.float64) for model in models], axis=0).astype(
            np.float32
        )
        for name in sorted(models[0])
    }


def sealed_path(region: str, day: int, digest: str) -> str:
    """Where a day's sealed model lies in the mailbox."""
    return message_path(region, "to-cloud", day, f"{digest}.safetensors")


def sealed_message(
    config: RegionConfig,
    progress: Progress,
    mean_of: Sequence[Stored],
    model: Tensors,
    digest: str,
) -> bytes:
    """The day's model for the cloud; the same progress gives the same bytes.

    Evaluation tensors are zeros when no wristband scored the model.

    Raises
    ------
    ContractError
        When no training round was ever committed.
    """
    training = progress.last_training
    if training is None:
        raise ContractError("there is nothing to seal: no training round was committed")
    serving = progress.in_service
    header = SealedHeader(
        region=config.region,
        day=progress.day,
        cycle=progress.cycle,
        task=progress.task,
        model_digest=digest,
        in_service_digest=serving.model_digest if serving else None,
        in_service_release=serving.release if serving else None,
        mean_of=tuple(stored.digest for stored in mean_of),
        rounds=tuple(trained.round_id for trained in progress.trained),
        hospitals=_updates_by_hospital(progress),
        num_updates=sum(trained.num_updates for trained in progress.trained),
        num_evaluated_devices=progress.evaluated.num_evaluated if progress.evaluated else 0,
        server=training.server,
        local=training.local,
        fixed_point_bits=training.fixed_point.bits,
        fixed_point_parts=training.fixed_point.parts,
        clip_norm=training.fixed_point.clip_norm,
        weighting=training.weighting,
        max_staleness=training.max_staleness,
        hospital_rule=training.robust.rule,
        screened=training.screen is not None,
        data_source=config.seal.data_source,
    )
    return encode(header, _tensors(progress, model, digest))


def _tensors(progress: Progress, model: Tensors, digest: str) -> dict[str, npt.NDArray[Any]]:
    tensors: dict[str, npt.NDArray[Any]] = with_prefix("model", model)
    tensors |= with_prefix("candidate", _evaluation(progress, digest))
    if progress.in_service:
        serving = progress.in_service.model_digest
        tensors |= with_prefix("in_service", _evaluation(progress, serving))
    return tensors


def _updates_by_hospital(progress: Progress) -> dict[str, int]:
    names = sorted({name for trained in progress.trained for name in trained.hospitals})
    return {name: sum(t.hospitals.get(name, 0) for t in progress.trained) for name in names}


def _evaluation(progress: Progress, digest: str) -> dict[str, npt.NDArray[np.int64]]:
    counts = progress.evaluated.evaluation.get(digest, {}) if progress.evaluated else {}
    return {
        name: np.asarray(counts.get(name, np.zeros(shape)), dtype=np.int64)
        for name, shape in progress.evaluation_shapes.items()
    }
