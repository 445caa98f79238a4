"""The mailbox between tiers: a directory or any fsspec URL, signed files that never change.

Layout: ``{region}/{to-cloud|to-region|ring}/{day or round}/{digest}.safetensors``, beside it
``….sig``.  The signature covers the path as well, so that a file cannot be moved to another day.
A local write is write, fsync, rename; an object store's put is atomic by itself.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal
from uuid import uuid4

import fsspec

from common.digest import bytes_digest
from common.errors import ConfigError, ContractError
from common.signing import Keyring, Signer

Box = Literal["to-cloud", "to-region", "ring"]
MAX_FILE_BYTES = 64 << 20
_NUMBER = re.compile(r"[0-9]{6,16}")
_SAFE_PATH = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_.-]*){1,4}")


def message_path(region: str, box: Box, number: int, name: str) -> str:
    """Path of a message: `number` is the day or the round, `name` the file's name.

    >>> message_path("county", "ring", 7, "outcome.json")
    'county/ring/000007/outcome.json'
    """
    return f"{region}/{box}/{number:06d}/{name}"


class Mailbox:
    """Reads and writes signed files below one URL.

    Parameters
    ----------
    url : str
        A directory or an fsspec URL such as ``s3://bucket/mailbox``.
    signer : Signer or None
        Who writes; ``None`` for a reader.
    trusted : Keyring
        Whose files are read.

    Raises
    ------
    ConfigError
        When the URL has no usable filesystem.
    """

    def __init__(self, url: str, signer: Signer | None, trusted: Keyring) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as fault:
            raise ConfigError(f"mailbox {url!r} cannot be opened: {fault}") from fault
        self._local = "file" in (
            (self._fs.protocol,) if isinstance(self._fs.protocol, str) else self._fs.protocol
        )
        if self._local and self._fs.exists(self._root) and not self._fs.isdir(self._root):
            raise ConfigError(f"mailbox {url!r} is a file: name a directory")
        self._signer = signer
        self.trusted = trusted

    def put(self, path: str, data: bytes) -> None:
        """Write `data` once; the same bytes again are no fault, other bytes are.

        Raises
        ------
        ContractError
            When other bytes lie at `path`, or this mailbox has no signer.
        """
        if self._signer is None:
            raise ContractError(f"{path}: this mailbox is open for reading only")
        full = self._full(path)
        if self._fs.exists(full):
            if self._read(full, MAX_FILE_BYTES) != data:
                raise ContractError(f"{path} lies in the mailbox already, with other bytes")
            if self._fs.exists(f"{full}.sig"):
                return
        signature = {
            "signer": self._signer.name,
            "ed25519": base64.b64encode(self._signer.sign(_signed(path, data))).decode(),
        }
        self._write(f"{full}.sig", json.dumps(signature, sort_keys=True).encode())
        self._write(full, data)

    def get(self, path: str, max_bytes: int = MAX_FILE_BYTES, signer: str | None = None) -> bytes:
        """Read a file whose signature fits a trusted key.

        Parameters
        ----------
        path : str
            As given by `message_path`.
        max_bytes : int
            Larger files are refused before they are read.
        signer : str or None
            Who must have signed; ``None`` accepts any trusted key.

        Raises
        ------
        FileNotFoundError
            When it is not there.
        ContractError
            When it is too large, unsigned, or signed by another.
        """
        full = self._full(path)
        data = self._read(full, max_bytes)
        try:
            stated = json.loads(self._read(f"{full}.sig", 4096))
            name, signature = str(stated["signer"]), base64.b64decode(stated["ed25519"])
        except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError) as fault:
            raise ContractError(f"{path} has no readable signature") from fault
        if signer is not None and name != signer:
            raise ContractError(f"{path} is signed by {name!r}, not by {signer!r}")
        try:
            self.trusted.verify(name, _signed(path, data), signature)
        except ContractError as fault:
            raise ContractError(f"{path}: {fault.message}", **fault.data) from fault
        return data

    def exists(self, path: str) -> bool:
        """Whether a file lies at `path`; its signature is not checked."""
        return bool(self._fs.exists(self._full(path)))

    def names(self, region: str, box: Box, number: int) -> list[str]:
        """Sorted file names of one day or round, signatures left out."""
        folder = self._full(message_path(region, box, number, "x")).rsplit("/", 1)[0]
        return sorted(
            name
            for name in self._listed(folder)
            if not name.startswith(".") and not name.endswith(".sig")
        )

    def numbers(self, region: str, box: Box) -> list[int]:
        """Sorted days or rounds that have a folder in `box`."""
        folder = self._full(f"{region}/{box}")
        return sorted(int(name) for name in self._listed(folder) if _NUMBER.fullmatch(name))

    def _listed(self, folder: str) -> Iterator[str]:
        if not self._fs.exists(folder):
            return
        self._fs.invalidate_cache(folder)
        for entry in self._fs.ls(folder, detail=False):
            yield PurePosixPath(str(entry)).name

    def _full(self, path: str) -> str:
        if not _SAFE_PATH.fullmatch(path) or ".." in path:
            raise ContractError(f"not a path of the mailbox: {path[:200]!r}")
        return f"{self._root}/{path}"

    def _read(self, full: str, max_bytes: int) -> bytes:
        with self._fs.open(full, "rb") as file:
            data: bytes = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise ContractError(f"{full} has more than {max_bytes} bytes")
        return data

    def _write(self, full: str, data: bytes) -> None:
        if not self._local:
            self._fs.pipe_file(full, data)
            return
        write_durably(Path(full), data)


def write_durably(path: Path, data: bytes) -> None:
    """Write, fsync, rename, fsync the folder: after a crash `path` has all of `data` or is absent.

    Raises
    ------
    OSError
        When it cannot be written, such as on a full disk; then no part of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _signed(path: str, data: bytes) -> bytes:
    return f"pulsering-mailbox-v1\n{path}\n{bytes_digest(data)}\n".encode()
