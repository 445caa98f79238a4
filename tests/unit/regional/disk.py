"""A region on disk: what `Hands` write and what reads it afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.digest import tensors_digest
from common.mailbox import Mailbox, message_path
from common.messages import RankResult, RingSumHeader, RoundSpec
from common.signing import Keyring, Signer
from common.wire import encode
from regional.commit import repeat_step
from regional.config import RegionConfig
from regional.first_start import open_store, start
from regional.hands import Hands
from regional.learning import round_spec
from regional.ledger import Ledger
from regional.messages import PutModels, RepeatStep, StepRepeated
from regional.outcomes import committed
from regional.progress import after
from regional.records import RingPlanned, RoundEnded, RoundOpened
from regional.region import restore

COUNTS = {"num_updates": 1, "num_evaluations": 1, "num_saturated": 0}


class Disk:
    """A region of one hospital with a ledger and a mailbox on disk; no process runs."""

    def __init__(self, folder: Path, mean_of: int = 2, algorithm: str = "fedavg") -> None:
        self.east = Signer.at("east", folder / "east")
        self.config = RegionConfig.model_validate(
            {
                "region": "county",
                "broker": "mqtt://127.0.0.1:1",
                "state_dir": folder / "region",
                "mailbox": str(folder / "mailbox"),
                "hospitals": {"east": {"key": folder / "east" / "signing.pub"}},
                "task": "dummy",
                "learning": {"algorithm": algorithm},
                "seal": {"mean_of": mean_of},
            }
        )
        self.ledger = Ledger(self.config.ledger_path)
        self.store = open_store(self.config)
        self.progress = start(self.config, self.ledger, self.store, now=1.0)
        self.hands = Hands(self.config, self.ledger, self.store)
        self.theirs = Mailbox(str(folder / "mailbox"), self.east, Keyring({}))

    def open(self) -> RoundSpec:
        spec = round_spec(self.config, self.progress, "train", [self.progress.model], now=1.0)
        self.progress = after(self.progress, RoundOpened(spec=spec))
        return spec

    def put_sums(self, spec: RoundSpec, **changes: Any) -> RankResult:
        rng = np.random.default_rng(spec.round_id)
        base, state = self.store.base_of(spec)
        sums: dict[str, Any] = {
            f"update/{name}": rng.integers(-999, 999, tensor.shape) for name, tensor in base.items()
        }
        for name, shape in spec.evaluation_shapes.items():
            sums[f"evaluation/{spec.base_digest}/{name}"] = np.ones(shape, np.int64)
        sums["counts"] = np.array([1, 1, 1, 0], np.int64)
        header = RingSumHeader.model_validate(
            {
                "region": "county",
                "round_id": spec.round_id,
                "generation": 1,
                "base_digest": spec.base_digest,
                "members": ("east",),
                "weight": 1,
                "num_updates": 1,
                "num_evaluations": 1,
                "num_saturated": 0,
                **changes,
            }
        )
        name = f"{tensors_digest(sums)}.safetensors"
        path = message_path("county", "ring", spec.round_id, name)
        self.theirs.put(path, encode(header, sums))
        done = repeat_step(spec, sums, base, state, 16)
        digests = {"sums_digest": done.sums_digest, "model_digest": done.model_digest}
        return RankResult.model_validate(
            {**digests, "round_id": 1, "generation": 1, "weight": 1, **COUNTS}
            | {"state_digest": done.state_digest}
        )

    def commit(self, ring: RingPlanned) -> tuple[RoundSpec, RoundEnded]:
        spec = self.open()
        answer = self.hands.carry_out(RepeatStep(spec, self.put_sums(spec)))
        assert isinstance(answer, StepRepeated)
        self.hands.carry_out(PutModels(spec, answer.repeated))
        region = restore(self.progress, now=1.0)
        ended = committed(region, ring, spec, answer.repeated, 2.0, self.config)
        self.progress = after(self.progress, ended)
        return spec, ended


def make_ring() -> RingPlanned:
    """A ring of the one hospital."""
    plan = {
        "round_id": 1,
        "generation": 1,
        "members": ("east",),
        "rendezvous_host": "127.0.0.1",
        "rendezvous_port": 1,
        "interface": "lo",
        "timeout_s": 1,
        "total_weight": 1,
    }
    held = {"pids": {"east": 1}, "aggregates": {"east": "a" * 64}, "weights": {"east": 1}}
    return RingPlanned.model_validate(
        {"plan": plan, **held, "num_stored": {"east": 6}, "planned_at": 1.0}
    )
