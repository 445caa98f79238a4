from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from common.errors import ConfigError, PulseRingError
from common.lock import hold
from common.signing import PRIVATE_NAME, PUBLIC_NAME, Signer
from edge import reports
from edge.backup import MANIFEST, back_up, restore
from edge.ledger import FILE_NAME, Ledger
from tests.unit.edge.builders import BASE, HOSPITAL, make_outcome, make_spec, make_update, put_model
from tests.unit.edge.builders import make_state as make_region_state
from tests.unit.edge.hospital import Hospital
from tests.unit.edge.test_ledger import AGGREGATE, store


def make_state(folder: Path) -> Ledger:
    """A node's state: a round that is folded and has not ended."""
    Signer.at(HOSPITAL, folder)
    ledger = Ledger(folder)
    store(ledger, "band-a", "band-b")
    with ledger.transaction():
        ledger.open_round(make_spec(), ["band-a", "band-b"], now=0.0)
        ledger.freeze(1, AGGREGATE, ["band-a"], now=2.0)
    (folder / "rounds").mkdir()
    (folder / "rounds" / AGGREGATE.path).write_bytes(b"sums")
    (folder / "models").mkdir()
    (folder / "models" / "large.safetensors").write_bytes(bytes(1000))
    return ledger


def saved(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    ledger = make_state(tmp_path / "state")
    path = tmp_path / "saved.tar"
    manifest = back_up(tmp_path / "state", HOSPITAL, path, now=5.0)  # while the ledger is open
    ledger.close()
    return path, manifest


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def forged(
    tmp_path: Path, manifest: dict[str, Any], files: Mapping[str, bytes] = MappingProxyType({})
) -> Path:
    """A backup that says of its `files` what they are."""
    said = {name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    members = {MANIFEST: json.dumps(manifest | ({"files": said} if said else {})).encode()}
    with tarfile.open(tmp_path / "forged.tar", "w") as tar:
        for name, data in (members | dict(files)).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return tmp_path / "forged.tar"


def test_restored_state_is_the_one_that_was_saved(tmp_path: Path) -> None:
    path, manifest = saved(tmp_path)
    assert (manifest["last_round_id"], manifest["waiting_updates"]) == (1, 2)
    restore(tmp_path / "new", HOSPITAL, path, now=9.0)
    assert reports.updates(tmp_path / "new") == reports.updates(tmp_path / "state")
    for name in (PRIVATE_NAME, PUBLIC_NAME, f"rounds/{AGGREGATE.path}"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "state" / name).read_bytes()
    again = Ledger(tmp_path / "new")
    assert again.frozen(1) == AGGREGATE
    again.close()


def test_only_what_cannot_be_had_again_is_saved_and_only_its_owner_can_read_it(
    tmp_path: Path,
) -> None:
    path, _ = saved(tmp_path)
    kept = [FILE_NAME, PRIVATE_NAME, PUBLIC_NAME, f"rounds/{AGGREGATE.path}"]
    assert names(path) == [MANIFEST, *kept]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    restore(tmp_path / "new", HOSPITAL, path, now=9.0)
    assert stat.S_IMODE((tmp_path / "new" / PRIVATE_NAME).stat().st_mode) == 0o600
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["new", "saved.tar", "state"]


def test_aggregate_of_an_ended_round_is_left_out(tmp_path: Path) -> None:
    ledger = make_state(tmp_path / "state")
    with ledger.transaction():
        ledger.settle(make_outcome(), HOSPITAL, now=3.0)
    back_up(tmp_path / "state", HOSPITAL, tmp_path / "saved.tar", now=5.0)
    ledger.close()
    assert f"rounds/{AGGREGATE.path}" not in names(tmp_path / "saved.tar")


def test_neither_backup_nor_restore_overwrites(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    with pytest.raises(ConfigError, match="overwrites nothing"):
        back_up(tmp_path / "state", HOSPITAL, path, now=6.0)
    with pytest.raises(ConfigError, match="overwrites nothing"):
        restore(tmp_path / "state", HOSPITAL, path, now=9.0)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / PRIVATE_NAME).write_text("another hospital's")
    with pytest.raises(ConfigError, match=PRIVATE_NAME):
        restore(tmp_path / "new", HOSPITAL, path, now=9.0)


def test_restore_under_a_running_node_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    handle = hold(tmp_path / "new", "edge node")
    with pytest.raises(ConfigError, match="an edge node runs"):
        restore(tmp_path / "new", HOSPITAL, path, now=9.0)
    os.close(handle)


def test_another_hospitals_backup_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    with pytest.raises(ConfigError, match="of hospital north, not of south"):
        restore(tmp_path / "new", "south", path, now=9.0)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_cut_backup_puts_nothing_back(tmp_path: Path, share: float) -> None:
    path, _ = saved(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(PulseRingError):
        restore(tmp_path / "new", HOSPITAL, path, now=9.0)
    assert not (tmp_path / "new" / FILE_NAME).exists()
    assert not (tmp_path / "new" / PRIVATE_NAME).exists()


def test_flipped_bit_is_found(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PulseRingError, match="other bytes than were saved"):
        restore(tmp_path / "new", HOSPITAL, path, now=9.0)
    assert not (tmp_path / "new" / FILE_NAME).exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "rounds/../evil", "rounds/evil", "evil"])
def test_names_that_a_backup_does_not_hold_are_refused(tmp_path: Path, name: str) -> None:
    _, manifest = saved(tmp_path)
    manifest["files"][name] = {"sha256": ""}
    with pytest.raises(ConfigError, match=f"is no backup.*{re.escape(name)}"):
        restore(tmp_path / "new", HOSPITAL, forged(tmp_path, manifest), now=9.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [FILE_NAME, PRIVATE_NAME, PUBLIC_NAME]},
        {"files": {FILE_NAME: {}}},
        {"files": {FILE_NAME: 5}},
        {"files": {FILE_NAME: {"sha256": "0"}}},
        {"made_at": None},
        {"waiting_updates": "many"},
    ],
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    _, manifest = saved(tmp_path)
    with pytest.raises(ConfigError, match="is no backup"):
        restore(tmp_path / "new", HOSPITAL, forged(tmp_path, manifest | changes), now=9.0)


def test_a_ledger_without_tables_is_not_put_back(tmp_path: Path) -> None:
    _, manifest = saved(tmp_path)
    path = forged(tmp_path, manifest, dict.fromkeys(manifest["files"], b""))
    with pytest.raises(PulseRingError, match="ledger is damaged: no such table"):
        restore(tmp_path / "new", HOSPITAL, path, now=9.0)
    assert not (tmp_path / "new" / FILE_NAME).exists()


def test_a_backup_into_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    make_state(tmp_path / "state").close()
    with pytest.raises(ConfigError, match="there is no folder"):
        back_up(tmp_path / "state", HOSPITAL, tmp_path / "away" / "saved.tar", now=5.0)


def test_nothing_that_may_have_counted_after_the_backup_counts_again(tmp_path: Path) -> None:
    """Late updates would else come in twice: with the lost aggregate, and with a later round."""
    hospital = Hospital(tmp_path)
    following = put_model(hospital.coordinators, 1)
    late = {"max_staleness": 2}
    hospital.hear(make_region_state("open", 1, spec=make_spec(**late)))  # type: ignore[arg-type]  # a builder's keywords
    hospital.deliver("band-a")
    Signer.at(HOSPITAL, tmp_path / "state")
    back_up(tmp_path / "state", HOSPITAL, tmp_path / "saved.tar", now=5.0)
    hospital.deliver("band-b", "band-c")
    counted = hospital.step().aggregate_digest
    hospital.ledger.close()
    shutil.rmtree(tmp_path / "state")
    restore(tmp_path / "state", HOSPITAL, tmp_path / "saved.tar", now=9.0)

    hospital.build()
    outcome = make_outcome(aggregates={HOSPITAL: counted}, model_digest=following)
    spec = make_spec(2, following, late_bases=(BASE,), **late)
    hospital.hear(make_region_state("open", 2, spec=spec, outcome=outcome))
    assert hospital.fates() == {"band-a": "left_out"}
    assert hospital.receipt(make_update("band-b", round_id=2), "band-b").reason == "stale"
    assert hospital.receipt(make_update("band-a"), "band-a").status == "stored"  # as it was told
    fresh = make_update("band-b", round_id=2, base_digest=following)
    assert hospital.receipt(fresh, "band-b").status == "stored"
    hospital.ledger.close()
