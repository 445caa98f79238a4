"""Signed files that never change."""

from pathlib import Path

import pytest

from common.errors import ConfigError, ContractError
from common.mailbox import Mailbox, message_path, write_durably
from common.signing import Keyring, Signer

PATH = message_path("county", "ring", 7, "a.safetensors")


def make_mailbox(tmp_path: Path, name: str = "region", url: str | None = None) -> Mailbox:
    signer = Signer.at(name, tmp_path / name)
    trusted = Keyring({"region": tmp_path / "region" / "signing.pub"})
    return Mailbox(url or str(tmp_path / "mail"), signer, trusted)


def test_reads_what_was_written_and_who_signed(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"sums")
    assert box.get(PATH, signer="region") == b"sums"
    assert box.names("county", "ring", 7) == ["a.safetensors"]
    assert box.numbers("county", "ring") == [7]
    assert box.numbers("county", "to-cloud") == []


def test_an_object_store_url_works_as_a_directory_does(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path, url="memory://mail-test")
    box.put(PATH, b"sums")
    assert box.get(PATH) == b"sums"
    assert box.names("county", "ring", 7) == ["a.safetensors"]


def test_same_bytes_again_are_no_fault_and_others_are(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"sums")
    box.put(PATH, b"sums")
    with pytest.raises(ContractError, match="other bytes"):
        box.put(PATH, b"else")


def test_refuses_changed_moved_and_unsigned_files(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"sums")
    file = tmp_path / "mail" / PATH
    moved = message_path("county", "ring", 8, "a.safetensors")
    (tmp_path / "mail" / moved).parent.mkdir()
    (tmp_path / "mail" / moved).write_bytes(b"sums")
    (tmp_path / "mail" / f"{moved}.sig").write_bytes(
        file.with_name("a.safetensors.sig").read_bytes()
    )
    with pytest.raises(ContractError, match="does not fit"):
        box.get(moved)
    file.write_bytes(b"sumz")
    with pytest.raises(ContractError, match="does not fit"):
        box.get(PATH)
    file.with_name("a.safetensors.sig").unlink()
    with pytest.raises(ContractError, match="signature"):
        box.get(PATH)


def test_refuses_a_signer_that_is_not_pinned(tmp_path: Path) -> None:
    make_mailbox(tmp_path)
    make_mailbox(tmp_path, name="mallory").put(PATH, b"sums")
    with pytest.raises(ContractError, match="mallory"):
        make_mailbox(tmp_path).get(PATH)


def test_refuses_another_signer_than_expected(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"sums")
    with pytest.raises(ContractError, match="not by 'north'"):
        box.get(PATH, signer="north")


def test_refuses_oversized_files(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"x" * 100)
    with pytest.raises(ContractError, match="more than 99"):
        box.get(PATH, max_bytes=99)


@pytest.mark.parametrize("path", ["../x/y", "/etc/passwd", "a/../b", "", "a", "A/b", "a/b\n"])
def test_refuses_paths_that_could_leave_the_mailbox(tmp_path: Path, path: str) -> None:
    with pytest.raises(ContractError, match="not a path"):
        make_mailbox(tmp_path).get(path)


def test_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_mailbox(tmp_path).get(PATH)


def test_crash_between_signature_and_file_is_repaired(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"sums")
    (tmp_path / "mail" / f"{PATH}.sig").unlink()
    box.put(PATH, b"sums")
    assert box.get(PATH) == b"sums"


def test_private_key_is_for_its_owner_only(tmp_path: Path) -> None:
    Signer.at("region", tmp_path)
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600


def test_missing_pinned_key_names_the_file(tmp_path: Path) -> None:
    ring = Keyring({"region": tmp_path / "none.pub"})
    with pytest.raises(ConfigError, match=r"none\.pub"):
        ring.verify("region", b"", b"")


def test_unknown_protocol_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mailbox"):
        make_mailbox(tmp_path, url="nosuch://mail")


@pytest.mark.parametrize(
    "signature", ["", "[]", "null", "[" * 4000, '{"signer": "region"}', "x" * 5000, "\x00"]
)
def test_refuses_signatures_that_are_none(tmp_path: Path, signature: str) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"sums")
    (tmp_path / "mail" / f"{PATH}.sig").write_text(signature)
    with pytest.raises(ContractError):
        box.get(PATH)


def test_folders_that_are_no_round_are_passed_over(tmp_path: Path) -> None:
    box = make_mailbox(tmp_path)
    box.put(PATH, b"sums")
    for name in ("²²²²²²", "7", "٣٣٣٣٣٣", ".000008", "9" * 200):
        (tmp_path / "mail" / "county" / "ring" / name).mkdir()
    assert box.numbers("county", "ring") == [7]


def test_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == []
