"""A mailbox over HTTP, as the clinic benchmark has it, against a mailbox in the same folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.clinicbed.store import Store
from common.errors import ContractError
from common.mailbox import Mailbox, message_path
from common.signing import PUBLIC_NAME, Keyring, Signer

PATH = message_path("county", "ring", 3, "outcome.json")
DATA = bytes(range(256)) * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store("127.0.0.1", tmp_path / "mailbox")
    yield made
    made.stop()


def mailboxes(store: Store, folder: Path) -> tuple[Mailbox, Mailbox]:
    """One over HTTP, one on the disk."""
    signer = Signer.at("north", folder / "keys")
    trusted = Keyring({"north": folder / "keys" / PUBLIC_NAME})
    urls = f"http://127.0.0.1:{store.port}", str(folder / "mailbox")
    there, here = (Mailbox(url, signer, trusted) for url in urls)
    return there, here


def test_what_is_put_over_http_lies_on_the_disk_and_comes_back(
    store: Store, tmp_path: Path
) -> None:
    there, here = mailboxes(store, tmp_path)
    assert not there.exists(PATH)
    there.put(PATH, DATA)
    there.put(PATH, DATA)
    assert here.get(PATH) == there.get(PATH) == DATA
    assert there.names("county", "ring", 3) == ["outcome.json"]
    assert there.numbers("county", "ring") == [3]


def test_other_bytes_and_what_is_missing_are_refused(store: Store, tmp_path: Path) -> None:
    there, here = mailboxes(store, tmp_path)
    here.put(PATH, DATA)
    with pytest.raises(ContractError):
        there.put(PATH, DATA[1:])
    with pytest.raises(FileNotFoundError):
        there.get(message_path("county", "ring", 4, "outcome.json"))
