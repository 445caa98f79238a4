"""Files of a release in the model pool, signed; nothing is parsed before its signature fits.

::

    {pool_dir}/{release}/model.onnx        the graph
                         model.int8.onnx   the same with 8-bit weights, where it was not refused
                         release.json      what never changes of a `Release`
                         signature.json    Ed25519 over the digests of model.onnx and release.json
                         card.json, card.md

The int8 file is signed with the rest: ``release.json`` states its digest.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cloud.release import Release, ReleaseName
from common.digest import bytes_digest
from common.errors import ContractError
from common.mailbox import write_durably
from common.signing import Keyring, Signer

SIGNER = "cloud"
MODEL, INT8 = "model.onnx", "model.int8.onnx"
RELEASE, SIGNATURE = "release.json", "signature.json"
MAX_MODEL_BYTES = 1 << 20
MAX_JSON_BYTES = 1 << 20
_NAME: TypeAdapter[str] = TypeAdapter(ReleaseName)


def release_folder(pool_dir: Path, name: str) -> Path:
    """Folder of the release called `name`, which need not exist.

    Raises
    ------
    ContractError
        When `name` cannot be one of a release.
    """
    try:
        return pool_dir / _NAME.validate_python(name)
    except ValidationError as fault:
        raise ContractError(f"{name[:100]!r} is no name of a release") from fault


def write_release(
    pool_dir: Path, release: Release, onnx: bytes, signer: Signer, int8: bytes | None = None
) -> None:
    """Write a release's signed files so that after a crash its folder is whole or absent.

    A folder that is there stays as it is.
    """
    folder = release_folder(pool_dir, release.name)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    document = release.frozen_json()
    signature = {
        "signer": signer.name,
        "ed25519": base64.b64encode(signer.sign(_signed(onnx, document))).decode(),
    }
    write_durably(partial / MODEL, onnx)
    if int8 is not None:
        write_durably(partial / INT8, int8)
    write_durably(partial / RELEASE, document)
    write_durably(partial / SIGNATURE, json.dumps(signature, sort_keys=True).encode())
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():
            raise
        # another process was first, which is as good: readers check what lies there
    _sync(pool_dir)


def read_release(pool_dir: Path, name: str, trusted: Keyring) -> tuple[Release, bytes]:
    """Read a release and the bytes of its float32 graph; the graph is not parsed.

    Raises
    ------
    ContractError
        When a file is missing, too large, not what the cloud signed, or of another release.
    """
    folder = release_folder(pool_dir, name)
    onnx = _read(folder / MODEL, MAX_MODEL_BYTES)
    document = _read(folder / RELEASE, MAX_JSON_BYTES)
    trusted.verify(SIGNER, _signed(onnx, document), _signature(folder / SIGNATURE))
    try:
        release = Release.model_validate_json(document)
    except ValidationError as fault:
        raise ContractError(f"{folder / RELEASE} does not describe a release") from fault
    if release.name != name or release.onnx_sha256 != bytes_digest(onnx):
        raise ContractError(f"{folder} does not hold the release {name}", release=name)
    return release, onnx


def read_int8(pool_dir: Path, release: Release) -> bytes | None:
    """Read the int8 file that a release from `read_release` states, or None where it has none.

    Raises
    ------
    ContractError
        When the file is missing, too large, or not what the cloud signed.
    """
    if release.int8 is None or release.int8.sha256 is None:
        return None
    path = release_folder(pool_dir, release.name) / INT8
    int8 = _read(path, MAX_MODEL_BYTES)
    if bytes_digest(int8) != release.int8.sha256:
        raise ContractError(f"{path} is not what the cloud signed", release=release.name)
    return int8


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _signature(path: Path) -> bytes:
    try:
        stated = json.loads(_read(path, MAX_JSON_BYTES))
        return base64.b64decode(stated["ed25519"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error) as fault:
        raise ContractError(f"{path} holds no signature") from fault


def _signed(onnx: bytes, document: bytes) -> bytes:
    return f"pulsering-release-v1\n{bytes_digest(onnx)}\n{bytes_digest(document)}\n".encode()


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as fault:
        raise ContractError(f"{path} cannot be read: {fault.strerror}") from fault
    if len(data) > max_bytes:
        raise ContractError(f"{path} has more than {max_bytes} bytes")
    return data
