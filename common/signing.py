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

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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
            When the file there is no Ed25519 private key, or it or the directory cannot be used.
        """
        path = directory / PRIVATE_NAME
        try:
            if not path.exists():
                directory.mkdir(parents=True, exist_ok=True)
                _write_private(path, Ed25519PrivateKey.generate())
            key = _read_private(path)
            _write_public(directory / PUBLIC_NAME, key.public_key())
        except OSError as fault:
            raise ConfigError(f"{path} cannot be used: {fault.strerror or fault}") from fault
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
        return name in self._paths or name in self._keys

    def trust(self, name: str, public_key: str) -> None:
        """Pin another signer's key, in base64; over a file's, if there is one.

        Raises
        ------
        ConfigError
            When it is no Ed25519 public key.
        """
        self._keys[name] = parse_public_key(public_key)

    def verify(self, name: str, data: bytes, signature: bytes) -> None:
        """Check that `name` signed `data`.

        Raises
        ------
        ContractError
            When the signer is not pinned or the signature does not fit.
        ConfigError
            When its key file is missing or holds no key.
        """
        if name not in self:
            raise ContractError(f"signed by {name!r}, whose key is not trusted here", signer=name)
        if name not in self._keys:
            self._keys[name] = _read_public(self._paths[name])
        try:
            self._keys[name].verify(signature, data)
        except InvalidSignature as fault:
            raise ContractError(f"the signature of {name!r} does not fit", signer=name) from fault


def read_public_key(path: Path) -> str:
    """The key of a ``signing.pub`` file, in base64.

    Raises
    ------
    ConfigError
        When the file is missing or holds no key.
    """
    return base64.b64encode(_read_public(path).public_bytes_raw()).decode()


def parse_public_key(text: str) -> Ed25519PublicKey:
    """An Ed25519 public key from base64.

    Raises
    ------
    ConfigError
        When it is none.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as fault:
        raise ConfigError(f"not an Ed25519 public key in base64: {text[:60]!r}") from fault


def _write_private(path: Path, key: Ed25519PrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}")  # a kill leaves no half of a key
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read_private(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise _no_private_key(path) from fault
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_private_key(path)
    return key


def _no_private_key(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is no Ed25519 private key without a password: restore it from a backup, or delete "
        f"it for a new one, whose {PUBLIC_NAME} every reader must then pin"
    )


def _write_public(path: Path, key: Ed25519PublicKey) -> None:
    text = base64.b64encode(key.public_bytes_raw()).decode() + "\n"
    if not path.exists() or path.read_bytes() != text.encode():
        path.write_text(text)


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
