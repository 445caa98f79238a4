"""The model pool, without any model: bytes stand in for ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from cloud.pool_files import read_release, write_release
from cloud.registry import Registry
from cloud.release import Int8, Release, release_name
from common.digest import bytes_digest
from common.errors import ConfigError, ContractError, PulseRingError
from common.signing import Keyring, Signer

ONNX = b"stands in for ONNX"
INT8 = b"stands in for int8"
WITH_INT8 = Int8(sha256=bytes_digest(INT8), size_bytes=len(INT8))


def make_release(digest: str = "a" * 64, day: int = 1, **changed: Any) -> Release:
    fields: dict[str, Any] = {
        "name": release_name("county", day, digest),
        "region": "county",
        "day": day,
        "task": "dummy",
        "labels": ("low", "high"),
        "input_shapes": {"z": (4,), "a": (2, 3)},
        "model_digest": digest,
        "sealed_digest": "b" * 64,
        "onnx_sha256": bytes_digest(ONNX),
        "size_bytes": len(ONNX),
        "parity": 0.0,
        "created_at": float(day),
        "metrics": {"candidate": {}},
    }
    return Release(**{**fields, **changed})


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.at("cloud", tmp_path / "keys")


@pytest.fixture
def registry(tmp_path: Path, signer: Signer) -> Registry:
    return open_pool(tmp_path)


def open_pool(root: Path) -> Registry:
    trusted = Keyring({"cloud": root / "keys" / "signing.pub"})
    return Registry(root / "pool", f"sqlite:///{root / 'pool.sqlite'}", trusted)


def test_registered_release_is_found_again(registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(), ONNX, signer)
    assert registry.get(release.name) == release == make_release()
    assert registry.releases() == (release,)
    assert registry.model_path(release.name).read_bytes() == ONNX


def test_inputs_keep_their_order(registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(), ONNX, signer)
    assert list(release.input_shapes) == ["z", "a"]


def test_first_registration_stays(registry: Registry, signer: Signer) -> None:
    first = registry.register(make_release(created_at=1.0), ONNX, signer)
    assert registry.register(make_release(created_at=2.0), ONNX, signer) == first


def test_registration_cut_off_before_the_database_is_completed(
    tmp_path: Path, registry: Registry, signer: Signer
) -> None:
    registry.register(make_release(), ONNX, signer)
    registry.close()
    (tmp_path / "pool.sqlite").unlink()
    again = open_pool(tmp_path)
    assert again.releases() == ()
    assert again.register(make_release(), ONNX, signer) == make_release()


def test_another_model_cannot_take_a_name(registry: Registry, signer: Signer) -> None:
    registry.register(make_release("a" * 64), ONNX, signer)
    with pytest.raises(ContractError, match="with another model"):
        registry.register(make_release("a" * 8 + "c" * 56), ONNX, signer)


def test_nothing_is_in_service_before_a_promotion(registry: Registry, signer: Signer) -> None:
    assert registry.current("county") is None
    registry.register(make_release(), ONNX, signer)
    assert registry.current("county") is None


def test_promotion_replaces_the_release_in_service(registry: Registry, signer: Signer) -> None:
    first = registry.register(make_release("a" * 64, day=1), ONNX, signer)
    second = registry.register(make_release("b" * 64, day=2), ONNX, signer)
    registry.promote(first.name, "one", now=1.0)
    registry.promote(second.name, "two", now=2.0)
    assert [r.status for r in registry.releases()] == ["in_pool", "current"]
    assert registry.promote(first.name, "back", now=3.0) == registry.current("county")


def test_promotions_are_kept_with_who_and_when(
    tmp_path: Path, registry: Registry, signer: Signer
) -> None:
    release = registry.register(make_release(), ONNX, signer)
    registry.promote(release.name, "A. Person", now=1.0)
    registry.promote(release.name, "again", now=2.0)
    with create_engine(f"sqlite:///{tmp_path / 'pool.sqlite'}").connect() as connection:
        rows = connection.execute(text("select promoted_by, promoted_at from promotions")).all()
    assert [tuple(row) for row in rows] == [("A. Person", 1.0)]


def test_regions_do_not_share_what_is_in_service(registry: Registry, signer: Signer) -> None:
    county = registry.register(make_release(), ONNX, signer)
    coast = registry.register(
        make_release(name="coast-d0001-aaaaaaaa", region="coast"), ONNX, signer
    )
    registry.promote(county.name, "one", now=1.0)
    registry.promote(coast.name, "one", now=1.0)
    assert [r.name for r in registry.releases("coast")] == [coast.name]
    assert getattr(registry.current("county"), "name", None) == county.name


def test_first_report_stays(registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(), ONNX, signer)
    assert registry.add_report(release.name, {"look": 1}).report == {"look": 1}
    assert registry.add_report(release.name, {"look": 2}).report == {"look": 1}
    assert registry.verify(release.name).report == {"look": 1}


def test_changed_model_is_not_promoted(registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(), ONNX, signer)
    registry.model_path(release.name).write_bytes(ONNX + b"!")
    with pytest.raises(ContractError, match="signature"):
        registry.promote(release.name, "one", now=1.0)
    assert registry.current("county") is None


def test_changed_database_is_noticed(tmp_path: Path, registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(), ONNX, signer)
    with create_engine(f"sqlite:///{tmp_path / 'pool.sqlite'}").begin() as connection:
        connection.execute(
            text("update releases set document = replace(document, 'dummy', 'beats')")
        )
    with pytest.raises(ContractError, match="between database and files"):
        registry.verify(release.name)


def test_release_signed_by_another_is_refused(tmp_path: Path, registry: Registry) -> None:
    mallory = Signer.at("cloud", tmp_path / "mallory")
    with pytest.raises(ContractError, match="signature"):
        registry.register(make_release(), ONNX, mallory)
    assert registry.releases() == ()


def test_large_model_is_not_read(registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(), ONNX, signer)
    registry.model_path(release.name).write_bytes(bytes(2 << 20))
    with pytest.raises(ContractError, match="more than"):
        registry.verify(release.name)


@pytest.mark.parametrize("name", ["", "../keys", "a/b", "nobody", "x" * 500, "a\0b"])
def test_unknown_or_malicious_names_are_refused(registry: Registry, name: str) -> None:
    for method in (registry.get, registry.verify, registry.model_path):
        with pytest.raises(ContractError):
            method(name)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/x", "nodb://x"])
def test_database_that_cannot_be_opened_is_a_config_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="database"):
        Registry(tmp_path, url, Keyring({}))


def test_database_that_broke_is_told_in_a_sentence(tmp_path: Path, registry: Registry) -> None:
    with create_engine(f"sqlite:///{tmp_path / 'pool.sqlite'}").begin() as connection:
        connection.execute(text("drop table releases"))
    with pytest.raises(PulseRingError, match="database of the pool"):
        registry.releases()


def test_a_row_that_describes_no_release_is_told_in_a_sentence(
    tmp_path: Path, registry: Registry, signer: Signer
) -> None:
    release = registry.register(make_release(), ONNX, signer)
    with create_engine(f"sqlite:///{tmp_path / 'pool.sqlite'}").begin() as connection:
        connection.execute(text("update releases set document = '{}'"))
    with pytest.raises(ContractError, match=release.name):
        registry.releases()


def test_a_second_writer_leaves_the_files_of_the_first(tmp_path: Path, signer: Signer) -> None:
    first, second = make_release(), make_release(created_at=9.0)
    for release in (first, second):
        write_release(tmp_path / "pool", release, ONNX, signer)
    trusted = Keyring({"cloud": tmp_path / "keys" / "signing.pub"})
    assert read_release(tmp_path / "pool", first.name, trusted) == (first, ONNX)
    assert [path.name for path in (tmp_path / "pool").iterdir()] == [first.name]


def int8_path(registry: Registry, release: Release) -> Path:
    return registry.folder(release.name) / "model.int8.onnx"


def test_int8_file_lies_beside_the_float32_file(registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(int8=WITH_INT8), ONNX, signer, INT8)
    assert release.int8 == WITH_INT8
    assert int8_path(registry, release).read_bytes() == INT8
    assert registry.verified_int8(release.name) == INT8


@pytest.mark.parametrize("int8", [None, Int8(refusal="too far off")])
def test_release_without_an_int8_file_is_whole(
    registry: Registry, signer: Signer, int8: Int8 | None
) -> None:
    release = registry.register(make_release(int8=int8), ONNX, signer)
    assert registry.verify(release.name) == release
    assert registry.verified_int8(release.name) is None


def test_changed_int8_file_is_not_promoted_but_stops_no_service(
    registry: Registry, signer: Signer
) -> None:
    release = registry.register(make_release(int8=WITH_INT8), ONNX, signer, INT8)
    int8_path(registry, release).write_bytes(INT8 + b"!")
    with pytest.raises(ContractError, match="not what the cloud signed"):
        registry.promote(release.name, "one", now=1.0)
    assert registry.verified_model(release.name) == (release, ONNX)


def test_int8_digest_is_signed(registry: Registry, signer: Signer) -> None:
    release = registry.register(make_release(int8=WITH_INT8), ONNX, signer, INT8)
    document = registry.folder(release.name) / "release.json"
    other = b"another file"
    int8_path(registry, release).write_bytes(other)
    document.write_text(document.read_text().replace(bytes_digest(INT8), bytes_digest(other)))
    with pytest.raises(ContractError, match="signature"):
        registry.verified_int8(release.name)


@pytest.mark.parametrize("int8", [None, b"other bytes"])
def test_registration_with_another_int8_file_than_stated_is_refused(
    registry: Registry, signer: Signer, int8: bytes | None
) -> None:
    with pytest.raises(ContractError):
        registry.register(make_release(int8=WITH_INT8), ONNX, signer, int8)
    assert registry.releases() == ()


def test_release_from_before_there_were_int8_files_still_loads(
    tmp_path: Path, registry: Registry, signer: Signer
) -> None:
    class Older(Release):
        def frozen_fields(self) -> dict[str, Any]:
            return {k: v for k, v in super().frozen_fields().items() if k != "int8"}

    release = registry.register(Older(**make_release().model_dump()), ONNX, signer)
    assert b"int8" not in (registry.folder(release.name) / "release.json").read_bytes()
    with create_engine(f"sqlite:///{tmp_path / 'pool.sqlite'}").begin() as connection:
        connection.execute(text("update releases set document = json_remove(document, '$.int8')"))
    assert registry.verify(release.name) == make_release()
    assert registry.promote(release.name, "one", now=1.0).status == "current"
