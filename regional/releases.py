"""The cloud's decisions, read from the mailbox's ``to-region`` box."""

from __future__ import annotations

import numpy as np
import structlog

from common.digest import Tensors, tensors_digest
from common.errors import ConfigError, ContractError
from common.fixedpoint import first_exponents
from common.mailbox import message_path
from common.messages import ReleaseHeader
from common.wire import decode, shapes_of
from regional.config import RegionConfig
from regional.messages import ReleaseFound
from regional.progress import Progress, Stored
from regional.store import MAX_TENSOR_BYTES, Arrays, Store

log = structlog.get_logger()


class Releases:
    """Looks for decisions on sealed days; a file that cannot be believed is logged once."""

    def __init__(self, config: RegionConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._refused: set[str] = set()

    def poll(self, progress: Progress) -> ReleaseFound | None:
        """Find the first decision on an undecided day; a released model is put into ``ring``.

        Raises
        ------
        OSError
            When the mailbox cannot be read.
        """
        if self._config.cloud_key is None:
            return None
        for day, sealed_digest in sorted(progress.undecided.items()):
            for name in self._store.mailbox.names(self._config.region, "to-region", day):
                path = message_path(self._config.region, "to-region", day, name)
                found = None if path in self._refused else self._read(path, sealed_digest, progress)
                if found:
                    return found
        return None

    def _read(self, path: str, sealed_digest: str, progress: Progress) -> ReleaseFound | None:
        try:
            data = self._store.mailbox.get(path, signer="cloud")
            header, model = decode(data, ReleaseHeader, MAX_TENSOR_BYTES)
            _check_header(path, header, self._config, sealed_digest)
            if header.decision == "refused":
                return ReleaseFound(header, 0, {})
            _check_model(path, header, model, self._store.model(progress.model))
        except ConfigError as fault:
            log.error("release_unread", path=path, reason=fault.message)
            return None
        except ContractError as fault:
            log.error("release_unusable", path=path, reason=fault.message)
            self._refused.add(path)
            return None
        stored = self._keep(header.model_digest, model, progress)
        exponents = first_exponents(model, self._config.learning.clip_norm, 16)
        return ReleaseFound(header, stored.made_by_round, exponents)

    def _keep(self, digest: str, model: Arrays, progress: Progress) -> Stored:
        known = next((m for m in progress.cycle_models if m.digest == digest), None)
        return known or self._store.put_model(model, progress.task, progress.last_round)


def _check_header(
    path: str, header: ReleaseHeader, config: RegionConfig, sealed_digest: str
) -> None:
    expected = (config.region, config.task, int(path.split("/")[2]), sealed_digest)
    if (header.region, header.task, header.day, header.sealed_digest) != expected:
        raise ContractError(f"{path} decides on another region, task, day or sealed model")


def _check_model(path: str, header: ReleaseHeader, model: Tensors, ours: Tensors) -> None:
    if tensors_digest(model) != header.model_digest:
        raise ContractError(f"{path} holds another model than it names")
    if shapes_of(model) != shapes_of(ours):
        raise ContractError(f"{path} holds a model of other names or shapes")
    for name, tensor in model.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ContractError(f"{path}: tensor {name} is not finite float32")
