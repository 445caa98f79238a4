"""Keys that a process makes for itself, and what it says of files that are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from common.errors import ConfigError
from common.signing import PRIVATE_NAME, PUBLIC_NAME, Keyring, Signer


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


WRONG: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"not a key",
    "binary": lambda: b"\xff\x00" * 50,
    "truncated": lambda: pem(ed25519.Ed25519PrivateKey.generate(), b"")[:60],
    "another_curve": lambda: pem(ec.generate_private_key(ec.SECP256R1()), b""),
    "with_a_password": lambda: pem(ed25519.Ed25519PrivateKey.generate(), b"secret"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_file_that_is_no_key_is_named_with_the_remedy(tmp_path: Path, kind: str) -> None:
    (tmp_path / PRIVATE_NAME).write_bytes(WRONG[kind]())
    with pytest.raises(ConfigError, match=r"signing\.key .* restore it .* or delete") as fault:
        Signer.at("north", tmp_path)
    assert fault.value.exit_code == 2


def test_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / PRIVATE_NAME).mkdir()
    with pytest.raises(ConfigError, match=r"signing\.key cannot be used"):
        Signer.at("north", tmp_path)


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        Signer.at("north", tmp_path / "file" / "state")


def test_second_start_has_the_same_key_and_leaves_the_public_file_alone(tmp_path: Path) -> None:
    first = Signer.at("north", tmp_path)
    os.utime(tmp_path / PUBLIC_NAME, (1, 1))
    again = Signer.at("north", tmp_path)
    Keyring({"north": tmp_path / PUBLIC_NAME}).verify("north", b"data", again.sign(b"data"))
    assert again.sign(b"data") == first.sign(b"data")
    assert (tmp_path / PUBLIC_NAME).stat().st_mtime == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [PRIVATE_NAME, PUBLIC_NAME]


def test_public_file_that_was_lost_is_written_again(tmp_path: Path) -> None:
    Signer.at("north", tmp_path)
    was = (tmp_path / PUBLIC_NAME).read_bytes()
    (tmp_path / PUBLIC_NAME).unlink()
    Signer.at("north", tmp_path)
    assert (tmp_path / PUBLIC_NAME).read_bytes() == was
