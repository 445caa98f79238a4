from __future__ import annotations

import os
import resource
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.signing import Signer
from edge import doctor, doctor_host, doctor_links
from edge.config import EdgeConfig
from edge.doctor_broker import BrokerFacts
from edge.finding import Finding
from edge.ledger import FILE_NAME, Ledger
from tests.unit.edge.builders import make_spec
from tests.unit.edge.hospital import make_config
from tests.unit.edge.test_ledger import store

GOOD = BrokerFacts(
    max_packet_bytes=1 << 20,
    max_qos=2,
    retains=True,
    wildcards=True,
    receive_maximum=20,
    session_expiry_s=60,
    keeps_sessions=True,
    seconds=0.01,
)
MOUNTS = (
    "/dev/sda1 / ext4 rw 0 0\nserver:/srv /srv nfs4 rw 0 0\ntmpfs /srv/fast\\040one tmpfs rw 0 0\n"
)


@pytest.fixture
def config(tmp_path: Path) -> EdgeConfig:
    (tmp_path / "state").mkdir()
    return make_config(tmp_path)


def one(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    assert bool(finding.remedy) == (finding.level != "ok")
    return finding


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home", "ext4"), ("/srv/a/b", "nfs4"), ("/srv/fast one/x", "tmpfs"), ("/srvx", "ext4")],
)
def test_filesystem_is_the_one_mounted_nearest(path: str, kind: str) -> None:
    assert doctor_host.filesystem(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"max_packet_bytes": 0}, "ok"),
        ({"max_packet_bytes": 1000}, "FAIL"),
        ({"keeps_sessions": False}, "FAIL"),
        ({"retains": False}, "FAIL"),
        ({"max_qos": 0}, "FAIL"),
        ({"wildcards": False}, "FAIL"),
    ],
)
def test_broker_must_keep_what_a_node_relies_on(changes: dict[str, int], level: str) -> None:
    facts = replace(GOOD, **changes)  # type: ignore[arg-type]  # fields by name
    assert one(doctor_links.judge_broker("hospital broker", facts, 200_000)).level == level


def test_update_size_follows_the_models_at_hand(tmp_path: Path) -> None:
    assert doctor_links.largest_update(tmp_path) == doctor_links.USUAL_UPDATE_BYTES
    (tmp_path / "m.safetensors").write_bytes(bytes(1 << 20))
    assert doctor_links.largest_update(tmp_path) > 3 << 20


@pytest.mark.parametrize(("apart_s", "level"), [(0.0, "ok"), (3.0, "warn"), (-3600.0, "FAIL")])
def test_mailbox_with_another_clock(apart_s: float, level: str) -> None:
    assert doctor_links.judge_clock(1e9, 1e9 + apart_s).level == level


def test_clock_behind_the_ledger_is_found(config: EdgeConfig) -> None:
    ledger = Ledger(config.state_dir)
    ledger.open_round(make_spec(), [], now=time.time() + 3600)
    ledger.close()
    finding = one(doctor_host.check_clock(config))
    assert (finding.level, "behind the newest entry" in finding.found) == ("FAIL", True)


def test_state_on_this_disk_is_ok_and_nothing_is_left_there(config: EdgeConfig) -> None:
    findings = list(doctor_host.check_state(config))
    assert findings[0].level in ("ok", "warn")  # warn where temporary files are in memory
    assert list(config.state_dir.iterdir()) == []


def test_full_disk_names_the_key(config: EdgeConfig) -> None:
    (config.state_dir / "ballast").write_bytes(bytes(3 << 20))
    tight = config.model_copy(update={"disk_quota_mb": 2})
    finding = one(doctor_host.check_disk(tight))
    assert (finding.level, "disk_quota_mb = 2" in finding.found) == ("FAIL", True)
    assert one(doctor_host.check_disk(config)).level == "ok"


def test_ledger_that_is_well_damaged_newer_or_bare(config: EdgeConfig) -> None:
    assert "none yet" in one(doctor.check_ledger(config)).found
    ledger = Ledger(config.state_dir)
    store(ledger, "band-a")
    ledger.close()
    assert one(doctor.check_ledger(config)).level == "ok"
    db = sqlite3.connect(config.state_dir / FILE_NAME)
    with db:
        db.execute("DELETE FROM payloads")
    assert "1 updates wait without" in one(doctor.check_ledger(config)).found
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert "version 99" in one(doctor.check_ledger(config)).found
    (config.state_dir / FILE_NAME).write_bytes(b"not a database" * 100)
    assert one(doctor.check_ledger(config)).level == "FAIL"


def test_coordinator_key_is_read(config: EdgeConfig, tmp_path: Path) -> None:
    assert one(doctor_links.check_coordinator_key(config)).level == "FAIL"
    Signer.at("region", tmp_path / "region")
    assert one(doctor_links.check_coordinator_key(config)).level == "ok"


def test_mailbox_is_tried_and_left_clean(config: EdgeConfig, tmp_path: Path) -> None:
    assert [f.level for f in doctor_links.check_mailbox(config)] == ["ok", "ok"]
    assert list((tmp_path / "mailbox").iterdir()) == []
    (tmp_path / "file").touch()
    lost = config.model_copy(update={"mailbox": str(tmp_path / "file" / "box")})
    assert one(doctor_links.check_mailbox(lost)).level == "FAIL"
    nowhere = config.model_copy(update={"mailbox": "nosuch://bucket"})
    assert one(doctor_links.check_mailbox(nowhere)).level == "FAIL"


def test_brokers_that_nobody_started(config: EdgeConfig) -> None:
    findings = list(doctor_links.check_brokers(config))
    assert [f.name for f in findings] == ["region broker", "hospital broker"]
    assert {f.level for f in findings} == {"FAIL"}


def test_rank_python_that_lacks_everything(config: EdgeConfig) -> None:
    for python in ("/bin/false", "/nonexistent"):
        finding = one(doctor_host.check_rank(config.model_copy(update={"rank_python": python})))
        assert (finding.level, finding.name) == ("FAIL", "rank_python")


def test_few_descriptors(config: EdgeConfig) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for limit, level in ((60, "FAIL"), (200, "warn"), (1024, "ok")):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            assert one(doctor_host.check_descriptors(config)).level == level
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_roster_that_cannot_be_read_is_a_finding(config: EdgeConfig, tmp_path: Path) -> None:
    bad = config.model_copy(update={"roster_file": tmp_path / "none.txt", "devices": ()})
    roster = next(f for f in doctor.check_configuration(bad) if f.name == "roster")
    assert (roster.level, "none.txt" in roster.found) == ("FAIL", True)


def test_check_that_breaks_is_a_finding_and_the_others_are_made(
    config: EdgeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_moon(_config: EdgeConfig) -> Iterator[Finding]:
        raise OSError("behind a cloud")

    monkeypatch.setattr(doctor, "CHECKS", (check_moon, doctor_host.check_descriptors))
    moon, descriptors = doctor.examine(config)
    assert (moon.name, moon.level, moon.found) == ("moon", "FAIL", "behind a cloud")
    assert descriptors.name == "descriptors"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_state_of_another_user_is_found(config: EdgeConfig) -> None:
    config.state_dir.chmod(0o500)
    assert one(doctor_host.check_state(config)).level == "FAIL"
