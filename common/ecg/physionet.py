"""MIT-BIH Arrhythmia Database from PhysioNet into a data root, whole and checked.

Files come over HTTPS from the address that ``wfdb.dl_database`` uses, but not through wfdb 4.3:
its downloader has no timeout, resumes by file size alone, checks no sums and writes in place, so
a cut connection can leave a damaged record that looks whole.  Here each file is checked against
the database's own ``SHA256SUMS.txt`` before it gets its name; what is there and right is kept.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from common.ecg.records import DATABASE, DS1, DS2, PACED
from common.errors import SignalError

BASE_URL = "https://physionet.org/files/mitdb/1.0.0/"
SUMS_NAME = "SHA256SUMS.txt"
FILE_NAMES = tuple(
    f"{record}.{kind}" for record in sorted(DS1 + DS2 + PACED) for kind in ("atr", "dat", "hea")
)
REACH_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0
MAX_FILE_BYTES = 8 * 2**20  # the largest file of the database has 2 MB
NUM_CONNECTIONS = 4  # as many as wfdb opens

Fetch = Callable[[str], bytes]  # file name in the database → its bytes; raises OSError
OnFile = Callable[[str, bool], None]  # (file name, whether it came over the network)


@dataclass(frozen=True)
class Filled:
    """What `fill` did; every file of the database is now there with the right sum."""

    folder: str
    num_kept: int
    num_fetched: int
    num_bytes: int


def fetch_from_physionet(name: str, timeout_s: float = READ_TIMEOUT_S) -> bytes:
    """Bytes of one file of MIT-BIH 1.0.0; honours the usual proxy variables.

    Raises
    ------
    OSError
        If the server cannot be reached, refuses, or sends more bytes than any file of the database has.
    """
    try:
        with urllib.request.urlopen(BASE_URL + name, timeout=timeout_s) as answer:  # noqa: S310 - https, constant
            body: bytes = answer.read(MAX_FILE_BYTES + 1)
    except http.client.HTTPException as cut:
        raise OSError(f"no proper HTTP answer for {name}") from cut
    if len(body) > MAX_FILE_BYTES:
        raise OSError(f"{name} is larger than {MAX_FILE_BYTES} bytes")
    return body


def fetch_sums(fetch: Fetch, timeout_s: float = REACH_TIMEOUT_S) -> bytes:
    """``SHA256SUMS.txt``, which also shows within `timeout_s` whether PhysioNet can be reached.

    Raises
    ------
    SignalError
        If there is no answer in time.
    """
    answers: list[bytes | OSError] = []

    def ask() -> None:
        try:
            answers.append(fetch(SUMS_NAME))
        except OSError as fault:
            answers.append(fault)

    # A thread, since no socket timeout bounds the look-up of a host name.
    asking = threading.Thread(target=ask, name="reach-physionet", daemon=True)
    asking.start()
    asking.join(timeout_s)
    answer = answers[0] if answers else TimeoutError(f"no answer within {timeout_s:g} s")
    if isinstance(answer, OSError):
        raise _unreachable(answer)
    return answer


def parse_sums(text: bytes) -> dict[str, str]:
    """File name → SHA-256 in hex, of all files of the 48 records.

    Raises
    ------
    SignalError
        If a file has no sum: the text is not the database's list.
    """
    lines = re.findall(rb"^([0-9a-f]{64})\s+\*?(\S+)\s*$", text, flags=re.MULTILINE)
    listed = {name.decode("ascii", "replace"): digest.decode() for digest, name in lines}
    unlisted = [name for name in FILE_NAMES if name not in listed]
    if unlisted:
        raise SignalError(
            f"what came as {SUMS_NAME} of MIT-BIH has no sum for {unlisted[0]}: a proxy or a "
            "sign-in page may stand between; run again from a free network"
        )
    return {name: listed[name] for name in FILE_NAMES}


def missing_files(folder: Path, sums: dict[str, str]) -> tuple[str, ...]:
    """Files that are absent from `folder` or whose bytes have another SHA-256."""
    return tuple(name for name, digest in sums.items() if _sha256(folder / name) != digest)


def fill(
    root: Path,
    fetch: Fetch = fetch_from_physionet,
    on_file: OnFile = lambda name, fetched: None,
    offline: bool = False,
) -> Filled:
    """Make ``root/mitdb`` hold all 48 records, keeping the files that are right.

    Parameters
    ----------
    root : Path
        Data root, made if need be.
    fetch : callable
        Name of a file to its bytes.  Not called when nothing is missing.
    on_file : callable
        Told of each of the 144 files once, from the calling thread.
    offline : bool
        Check only.

    Raises
    ------
    SignalError
        If PhysioNet cannot be reached, a sum is wrong, the disk refuses, or, offline, files are
        missing.  What was fetched stays and is not fetched again.
    """
    folder = root / DATABASE
    try:
        stored = _stored_sums(folder / SUMS_NAME)
        if stored is None and offline:
            raise _incomplete(folder, len(FILE_NAMES))
        sums = stored or _fetch_and_keep_sums(folder, fetch)
        missing = missing_files(folder, sums)
        if missing and offline:
            raise _incomplete(folder, len(missing))
        if missing and stored:
            fetch_sums(fetch)  # fails within seconds where there is no network
        for name in sums.keys() - set(missing):
            on_file(name, False)
        num_bytes = _fetch_all(folder, missing, sums, fetch, on_file)
    except OSError as fault:
        reason = fault.strerror or fault
        raise SignalError(f"cannot use {folder} as a data folder: {reason}") from fault
    return Filled(str(folder), len(sums) - len(missing), len(missing), num_bytes)


def _stored_sums(path: Path) -> dict[str, str] | None:
    """The sums of an earlier run, or None if there are none or they are damaged."""
    try:
        return parse_sums(path.read_bytes())
    except (FileNotFoundError, SignalError):
        return None


def _fetch_and_keep_sums(folder: Path, fetch: Fetch) -> dict[str, str]:
    text = fetch_sums(fetch)
    sums = parse_sums(text)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / SUMS_NAME, text)
    return sums


def _fetch_all(
    folder: Path, names: tuple[str, ...], sums: dict[str, str], fetch: Fetch, on_file: OnFile
) -> int:
    """Fetch `names` over a few connections; the number of bytes that came."""
    num_bytes = 0
    pool = ThreadPoolExecutor(NUM_CONNECTIONS, thread_name_prefix="physionet")
    try:
        jobs = {pool.submit(_fetch_one, folder / name, sums[name], fetch): name for name in names}
        for job in as_completed(jobs):
            num_bytes += job.result()
            on_file(jobs[job], True)
    finally:
        # After Ctrl-C or a fault at most the files under way are awaited, not the queue.
        pool.shutdown(wait=True, cancel_futures=True)
    return num_bytes


def _fetch_one(path: Path, digest: str, fetch: Fetch) -> int:
    """Fetch, check and write one file; its size in bytes."""
    try:
        body = fetch(path.name)
    except OSError as fault:
        raise _unreachable(fault) from fault
    found = hashlib.sha256(body).hexdigest()
    if found != digest:
        raise SignalError(
            f"{path.name} came with SHA-256 {found[:12]}… instead of {digest[:12]}…: a proxy or a "
            "cut connection may have changed it; run again",
            file=path.name,
        )
    _write(path, body)
    return len(body)


def _incomplete(folder: Path, num_missing: int) -> SignalError:
    return SignalError(
        f"{num_missing} of {len(FILE_NAMES)} MIT-BIH files cannot be found or vouched for in "
        f"{folder}: run again without --offline"
    )


def _unreachable(fault: OSError) -> SignalError:
    reason = getattr(fault, "reason", None) or fault
    return SignalError(
        f"PhysioNet cannot be reached ({reason}): check the network or its proxy variables, or set "
        "PULSERING_DATA to a folder that holds mitdb/"
    )


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None


def _write(path: Path, body: bytes) -> None:
    """Write under a temporary name and rename: a file with its name is whole."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
        os.chmod(partial, 0o644)  # noqa: PTH101 - mkstemp gave a str; 0600 would bar other users
        os.replace(partial, path)  # noqa: PTH105 - as above
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
