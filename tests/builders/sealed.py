"""Sealed messages of the dummy task, with real keys and real wire bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.config import CloudConfig
from cloud.daily import DayResult, run_daily
from common.digest import tensors_digest
from common.mailbox import Mailbox, message_path
from common.messages import LocalRule, ReleaseHeader, SealedHeader, ServerRule
from common.signing import Keyring, Signer
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.task import Parameters, score
from common.wire import decode, encode, with_prefix

NOW = 1_760_000_000.0

GOOD: Parameters = {
    "weight": np.array([[-2.0] * 4, [2.0] * 4], dtype=np.float32),
    "bias": np.zeros(2, dtype=np.float32),
}
"""Separates the dummy examples exactly."""


def make_counts(params: Parameters = GOOD, num: int = 2000) -> dict[str, NDArray[np.int64]]:
    examples = dummy_examples(seed=1, num=num)
    return DummyTask().count(score(DummyTask(), params, examples.inputs), examples.labels)


def make_counts_with_accuracy(accuracy: float, num: int = 2000) -> dict[str, NDArray[np.int64]]:
    """Counts of a model that is right in that share of examples, the same for both classes."""
    labels = np.arange(num) % 2
    right = np.arange(num) // 2 < round(accuracy * num / 2)
    scores = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
    return DummyTask().count(scores, labels)


def make_header(params: Parameters, **changed: Any) -> SealedHeader:
    fields: dict[str, Any] = {
        "region": "county",
        "day": 1,
        "cycle": 1,
        "task": "dummy",
        "model_digest": tensors_digest(params),
        "mean_of": (tensors_digest(params),),
        "rounds": (1, 2, 3),
        "hospitals": {"north": 4, "south": 5},
        "num_updates": 9,
        "num_evaluated_devices": 9,
        "server": ServerRule(),
        "local": LocalRule(learning_rate=0.1, num_steps=5, batch_size=16),
        "fixed_point_bits": 16,
        "clip_norm": 1.0,
        "weighting": "uniform",
        "data_source": "dummy",
    }
    return SealedHeader(**{**fields, **changed})


def make_tensors(
    params: Parameters = GOOD,
    candidate: Mapping[str, NDArray[Any]] | None = None,
    in_service: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:
    counts = make_counts(params) if candidate is None else candidate
    tensors = {**with_prefix("model", params), **with_prefix("candidate", counts)}
    if in_service is not None:
        tensors |= with_prefix("in_service", in_service)
    return tensors


@dataclass
class Site:
    """A region's mailbox, and a cloud that reads it, below one directory."""

    root: Path

    @property
    def config(self) -> CloudConfig:
        return self.configured()

    def configured(self, **changed: Any) -> CloudConfig:
        fields: dict[str, Any] = {
            "region": "county",
            "mailbox": str(self.root / "mailbox"),
            "pool_dir": self.root / "pool",
            "state_dir": self.root / "cloud",
            "trusted": {"region_key": self.root / "region" / "signing.pub"},
        }
        return CloudConfig(**{**fields, **changed})

    def mailbox(self, writer: str = "region", key: str = "region") -> Mailbox:
        """As `writer`, who signs with the key in folder `key`."""
        signer = Signer.at(writer, self.root / key)
        trusted = Keyring({"cloud": self.root / "cloud" / "signing.pub"})
        return Mailbox(str(self.root / "mailbox"), signer, trusted)

    def seal(
        self,
        params: Parameters = GOOD,
        candidate: Mapping[str, NDArray[Any]] | None = None,
        in_service: Mapping[str, NDArray[Any]] | None = None,
        mailbox: Mailbox | None = None,
        **changed: Any,
    ) -> str:
        """Put a sealed message into the mailbox and return its path."""
        if in_service is not None:
            changed = {"in_service_digest": "0" * 64, **changed}
        header = make_header(params, **changed)
        data = encode(header, make_tensors(params, candidate, in_service))
        path = message_path("county", "to-cloud", header.day, f"{header.model_digest}.safetensors")
        (mailbox or self.mailbox()).put(path, data)
        return path

    def run(self, config: CloudConfig | None = None, day: int | None = None) -> DayResult:
        """Run the daily job and return what became of the only sealed message."""
        (result,) = self.run_all(config, day)
        return result

    def run_all(
        self, config: CloudConfig | None = None, day: int | None = None
    ) -> tuple[DayResult, ...]:
        return run_daily(config or self.config, self.root / "no-data", lambda: NOW, day)

    def notice(self, day: int = 1) -> tuple[ReleaseHeader, dict[str, NDArray[Any]]]:
        """The only decision that the region finds in its mailbox."""
        mailbox = self.mailbox()
        (name,) = mailbox.names("county", "to-region", day)
        path = message_path("county", "to-region", day, name)
        return decode(mailbox.get(path, signer="cloud"), ReleaseHeader)
