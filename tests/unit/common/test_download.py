from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
from typer.testing import CliRunner

from common.ecg import download, physionet
from common.ecg.physionet import FILE_NAMES, SUMS_NAME, Filled, fetch_sums, fill, parse_sums
from common.errors import SignalError

BODIES = {name: f"bytes of {name}".encode() for name in FILE_NAMES}
SUMS = "".join(
    f"{hashlib.sha256(body).hexdigest()} {name}\n" for name, body in BODIES.items()
).encode()


class FakePhysioNet:
    """Serves the database's files; `faults` maps a name to what happens instead, once."""

    def __init__(self, faults: dict[str, bytes | BaseException] | None = None) -> None:
        self.faults = dict(faults or {})
        self.asked: list[str] = []

    def __call__(self, name: str) -> bytes:
        self.asked.append(name)
        fault = self.faults.pop(name, None)
        if isinstance(fault, BaseException):
            raise fault
        if fault is not None:
            return fault
        return SUMS if name == SUMS_NAME else BODIES[name]


def no_network(name: str) -> bytes:
    raise URLError("Name or service not known")


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_fills_an_empty_root_with_exactly_the_database(tmp_path: Path) -> None:
    filled = fill(tmp_path / "root", FakePhysioNet())

    folder = tmp_path / "root" / "mitdb"
    assert files_in(folder) == BODIES | {SUMS_NAME: SUMS}
    assert filled == Filled(str(folder), 0, 144, sum(map(len, BODIES.values())))


def test_a_complete_root_needs_no_network(tmp_path: Path) -> None:
    fill(tmp_path, FakePhysioNet())

    assert fill(tmp_path, no_network).num_kept == 144


def test_fetches_only_what_is_missing_or_damaged(tmp_path: Path) -> None:
    fill(tmp_path, FakePhysioNet())
    (tmp_path / "mitdb" / "100.dat").unlink()
    (tmp_path / "mitdb" / "101.dat").write_bytes(BODIES["101.dat"][:-1])
    server = FakePhysioNet()

    filled = fill(tmp_path, server)

    assert (filled.num_kept, filled.num_fetched) == (142, 2)
    assert set(server.asked) == {SUMS_NAME, "100.dat", "101.dat"}
    assert files_in(tmp_path / "mitdb") == BODIES | {SUMS_NAME: SUMS}


@pytest.mark.parametrize(
    "fault", [URLError("timed out"), ConnectionResetError("reset"), KeyboardInterrupt()]
)
def test_goes_on_where_it_was_interrupted(tmp_path: Path, fault: BaseException) -> None:
    with pytest.raises((SignalError, KeyboardInterrupt)):
        fill(tmp_path, FakePhysioNet({"223.dat": fault}))
    kept = files_in(tmp_path / "mitdb")
    server = FakePhysioNet()

    fill(tmp_path, server)

    assert "223.dat" not in kept
    assert 1 < len(kept) < 145
    assert not set(server.asked) & (kept.keys() - {SUMS_NAME})


def test_a_file_with_a_wrong_sum_never_gets_its_name(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match=r"223\.hea came with SHA-256"):
        fill(tmp_path, FakePhysioNet({"223.hea": b"<html>sign in</html>"}))

    left = files_in(tmp_path / "mitdb")
    assert "223.hea" not in left
    assert not [name for name in left if name.startswith(".")]


def test_tells_of_each_file_once(tmp_path: Path) -> None:
    fill(tmp_path, FakePhysioNet())
    (tmp_path / "mitdb" / "100.dat").unlink()
    told: list[tuple[str, bool]] = []

    fill(tmp_path, FakePhysioNet(), on_file=lambda name, fetched: told.append((name, fetched)))

    assert sorted(name for name, _ in told) == sorted(FILE_NAMES)
    assert [name for name, fetched in told if fetched] == ["100.dat"]


def test_no_network_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match=r"cannot be reached \(Name or service not known\)"):
        fill(tmp_path / "root", no_network)

    assert not (tmp_path / "root").exists()


def test_a_silent_server_is_given_up() -> None:
    release = threading.Event()

    def silent(name: str) -> bytes:
        release.wait(10)
        return b""

    with pytest.raises(SignalError, match=r"no answer within 0\.05 s"):
        fetch_sums(silent, timeout_s=0.05)
    release.set()


def test_a_sign_in_page_is_not_a_list_of_sums(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match="sign-in page"):
        fill(tmp_path / "root", FakePhysioNet({SUMS_NAME: b"<html>Welcome</html>"}))

    assert not (tmp_path / "root").exists()


def test_sums_name_only_files_of_the_database() -> None:
    hostile = SUMS + b"0" * 64 + b" ../../.bashrc\n" + b"0" * 64 + b" /etc/passwd\n"

    assert set(parse_sums(hostile)) == set(FILE_NAMES)


@pytest.mark.parametrize("text", [b"", b"\xff" * 1000, SUMS[: len(SUMS) // 2]])
def test_a_damaged_list_of_sums_is_refused(text: bytes) -> None:
    with pytest.raises(SignalError, match="has no sum for"):
        parse_sums(text)


def test_a_damaged_list_on_disk_is_fetched_again(tmp_path: Path) -> None:
    fill(tmp_path, FakePhysioNet())
    (tmp_path / "mitdb" / SUMS_NAME).write_bytes(SUMS[:100])

    assert fill(tmp_path, FakePhysioNet()).num_kept == 144
    assert (tmp_path / "mitdb" / SUMS_NAME).read_bytes() == SUMS


@pytest.mark.parametrize("damage", ["no root", "no sums", "one file"])
def test_offline_asks_nobody_and_counts_what_is_missing(tmp_path: Path, damage: str) -> None:
    if damage != "no root":
        fill(tmp_path, FakePhysioNet())
        victim = SUMS_NAME if damage == "no sums" else "100.dat"
        (tmp_path / "mitdb" / victim).unlink()
    server = FakePhysioNet()
    num_missing = 1 if damage == "one file" else 144

    with pytest.raises(SignalError, match=f"{num_missing} of 144 MIT-BIH files"):
        fill(tmp_path, server, offline=True)
    assert server.asked == []


def test_a_root_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SignalError, match="file/mitdb as a data folder"):
        fill(tmp_path / "file", FakePhysioNet())


Serve = Callable[[physionet.Fetch], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Puts a fake server behind the command's default."""

    def put(fetch: physionet.Fetch) -> None:
        monkeypatch.setattr(fill, "__defaults__", (fetch, *fill.__defaults__[1:]))  # type: ignore[index] # has defaults

    return put


def test_command_reports_as_json(tmp_path: Path, serve: Serve) -> None:
    serve(FakePhysioNet())

    done = CliRunner().invoke(download.app, ["--data", str(tmp_path), "--json"])

    assert done.exit_code == 0
    assert json.loads(done.stdout)["num_fetched"] == 144


def test_command_fails_with_1_and_one_line_without_network(tmp_path: Path, serve: Serve) -> None:
    serve(no_network)

    done = CliRunner().invoke(download.app, ["--data", str(tmp_path)])

    assert done.exit_code == 1
    assert done.stderr.startswith("error: PhysioNet cannot be reached")
    assert len(done.stderr.splitlines()) == 1


def test_command_stops_cleanly_on_ctrl_c(tmp_path: Path, serve: Serve) -> None:
    serve(FakePhysioNet({"100.atr": KeyboardInterrupt()}))

    done = CliRunner().invoke(download.app, ["--data", str(tmp_path)])

    assert done.exit_code == 1
    assert "run again to go on from here" in done.stderr


def test_command_takes_the_root_from_the_environment(tmp_path: Path, serve: Serve) -> None:
    serve(FakePhysioNet())

    done = CliRunner().invoke(download.app, [], env={"PULSERING_DATA": str(tmp_path)})

    assert done.exit_code == 0
    assert (tmp_path / "mitdb" / "100.dat").exists()


def test_command_refuses_unknown_options() -> None:
    assert CliRunner().invoke(download.app, ["--bogus"]).exit_code == 2
