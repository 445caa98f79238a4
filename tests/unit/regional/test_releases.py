"""The cloud's decisions, from real files in a mailbox of this test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.digest import tensors_digest
from common.mailbox import Mailbox, message_path
from common.messages import ReleaseHeader
from common.signing import Keyring, Signer
from common.wire import encode
from regional.config import RegionConfig
from regional.messages import ReleaseFound
from regional.progress import Progress
from regional.releases import Releases
from regional.store import Store

Arrays = dict[str, npt.NDArray[Any]]
OURS: Arrays = {"w": np.array([1.0, 2.0], np.float32)}
SEALED = "e" * 64


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        region = Signer.at("region", folder / "region")
        self.cloud = Signer.at("cloud", folder / "cloud")
        keys = {
            "region": folder / "region" / "signing.pub",
            "cloud": folder / "cloud" / "signing.pub",
        }
        self.store = Store(Mailbox(str(folder / "mailbox"), region, Keyring(keys)), "county")
        config = RegionConfig.model_validate(
            {
                "region": "county",
                "broker": "mqtt://127.0.0.1:1",
                "state_dir": folder / "region",
                "mailbox": "unused",
                "hospitals": {"east": {"key": "east"}},
                "task": "dummy",
                "cloud_key": keys["cloud"],
            }
        )
        self.releases = Releases(config, self.store)
        stored = self.store.put_model(OURS, "dummy", 4)
        self.progress = Progress(
            task="dummy", model=stored, last_round=5, undecided={2: SEALED}, day=2
        )

    def decide(self, model: Arrays, signer: Signer | None = None, **changes: Any) -> None:
        values: dict[str, Any] = {
            "region": "county",
            "day": 2,
            "decision": "released",
            "release": "r1",
            "rule": "better",
            "task": "dummy",
            "sealed_digest": SEALED,
            "model_digest": tensors_digest(model),
        }
        header = ReleaseHeader.model_validate({**values, **changes})
        mailbox = Mailbox(str(self.folder / "mailbox"), signer or self.cloud, Keyring({}))
        path = message_path("county", "to-region", 2, f"{header.model_digest}.safetensors")
        mailbox.put(path, encode(header, model))

    def poll(self) -> ReleaseFound | None:
        return self.releases.poll(self.progress)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_finds_nothing_while_the_cloud_is_silent(world: World) -> None:
    assert world.poll() is None


def test_a_released_model_is_put_where_edge_nodes_read_models(world: World) -> None:
    released: Arrays = {"w": np.array([3.0, 4.0], np.float32)}
    world.decide(released)
    found = world.poll()
    assert found is not None
    assert found.made_by_round == 5
    path = message_path("county", "ring", 5, f"{tensors_digest(released)}.safetensors")
    assert world.store.mailbox.exists(path)
    assert set(found.exponents) == {"w"}
    assert world.poll() == found


def test_a_refusal_is_a_decision_without_a_model(world: World) -> None:
    world.decide({}, decision="refused", model_digest=SEALED)
    found = world.poll()
    assert found is not None
    assert found.header.decision == "refused"


def test_a_decided_day_is_not_looked_at_again(world: World) -> None:
    world.decide(OURS)
    assert world.releases.poll(Progress(undecided={})) is None


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ({"w": np.array([np.nan, 1.0], np.float32)}, {}),
        ({"w": np.array([1.0, 1.0], np.float64)}, {}),
        ({"w": np.array([1.0], np.float32)}, {}),
        ({"x": np.array([1.0, 2.0], np.float32)}, {}),
        ({"w": np.array([3.0, 4.0], np.float32)}, {"model_digest": "f" * 64}),
        ({"w": np.array([3.0, 4.0], np.float32)}, {"sealed_digest": "f" * 64}),
        ({"w": np.array([3.0, 4.0], np.float32)}, {"day": 3}),
        ({"w": np.array([3.0, 4.0], np.float32)}, {"region": "elsewhere"}),
        ({"w": np.array([3.0, 4.0], np.float32)}, {"task": "beats"}),
    ],
)
def test_an_unusable_release_is_ignored(
    world: World, model: Arrays, changes: dict[str, Any]
) -> None:
    world.decide(model, **changes)
    assert world.poll() is None
    assert world.poll() is None


def test_a_release_signed_by_another_is_ignored(world: World, tmp_path: Path) -> None:
    world.decide(OURS, signer=Signer.at("region", tmp_path / "region"))
    assert world.poll() is None


def test_a_truncated_file_is_ignored(world: World, tmp_path: Path) -> None:
    world.decide(OURS)
    (path,) = (tmp_path / "mailbox" / "county" / "to-region" / "000002").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert world.poll() is None
