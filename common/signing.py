"""Ed25519 keys that say who put a file into the mailbox (RFC 8032).

A process makes its key at first start, mode 0600, and writes the public half beside it; readers
pin public keys in their configuration.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import ConfigError, ContractError

PRIVATE_NAME = "signing.key"
PUBLIC_NAME = "signing.pub"


class Signer:
    """Signs with one private key under one name."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self._key = key

    @classmethod
    def at(cls, name: str, directory: Path) -> Signer:
        """Load the key in `directory`, making it (0600) and its public half at first use.

        Raises
        ------
        ConfigError
            When the file there is no Ed25519 private key.
        """
        path = directory / PRIVATE_NAME
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            _write_private(path, Ed25519PrivateKey.generate())
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{path} is no Ed25519 private key")
        raw = key.public_key().public_bytes_raw()
        (directory / PUBLIC_NAME).write_text(base64.b64encode(raw).decode() + "\n")
        return cls(name, key)

    def sign(self, data: bytes) -> bytes:
        """64 bytes of signature over `data`."""
        return self._key.sign(data)


class Keyring:
    """Public keys that a reader trusts, by signer's name, read from pinned files when needed.

    Parameters
    ----------
    paths : mapping of str to Path
        One ``signing.pub`` file for each name.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)
        self._keys: dict[str, Ed25519PublicKey] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def verify(self, name: str, data: bytes, signature: bytes) -> None:
        """Check that `name` signed `data`.

        Raises
        ------
        ContractError
            When the signer is not pinned or the signature does not fit.
        ConfigError
            When its key file is missing or holds no key.
        """
        if name not in self._paths:
            raise ContractError(f"signed by {name!r}, whose key is not trusted here", signer=name)
        if name not in self._keys:
            self._keys[name] = _read_public(self._paths[name])
        try:
            self._keys[name].verify(signature, data)
        except InvalidSignature as fault:
            raise ContractError(f"the signature of {name!r} does not fit", signer=name) from fault


def _write_private(path: Path, key: Ed25519PrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)


def _read_public(path: Path) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(path.read_text().strip(), validate=True)
        return Ed25519PublicKey.from_public_bytes(raw)
    except FileNotFoundError as fault:
        raise ConfigError(
            f"trusted key {path} does not exist; its owner writes it at first start"
        ) from fault
    except (OSError, ValueError, binascii.Error) as fault:
        raise ConfigError(f"trusted key {path} holds no Ed25519 public key") from fault
