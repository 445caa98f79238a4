"""deploy/mosquitto under the distribution's mosquitto: it starts with them, announces and enforces."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from common import topics
from common.link import MAX_QUEUED, SESSION_EXPIRY_S, Link
from edge.doctor_broker import ask
from simulators.broker import accepts_sessions, free_port
from simulators.broker_process import mosquitto_program
from tests.integration.test_edge_node import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = DEPLOY / "mosquitto"
LIMITS = (
    *("max_queued_messages", "max_queued_bytes", "max_inflight_messages", "max_inflight_bytes"),
    *("queue_qos0_messages", "max_packet_size", "persistence", "autosave_interval"),
    *("persistent_client_expiration", "memory_limit", "max_keepalive", "sys_interval"),
)
OF_A_LISTENER = ("max_connections", "max_qos", "max_topic_alias")

pytestmark = pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")


def settings(name: str, folder: Path = FILES) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (folder / name).read_text().splitlines()]
    return dict(line.split(" ", 1) for line in lines if " " in line)


@contextmanager
def running(folder: Path, *listener: str, anonymous: bool = True) -> Iterator[str]:
    """mosquitto with the limits of the file and these lines; its URL."""
    port = free_port()
    (folder / "data").mkdir()
    (folder / "conf.d").mkdir()
    shutil.copy(FILES / "limits.conf", folder / "conf.d" / "10-limits.conf")
    text = "\n".join(listener).replace("1883", str(port))
    (folder / "conf.d" / "20-listener.conf").write_text(text + "\n")
    (folder / "mosquitto.conf").write_text(
        f"persistence_location {folder}/data/\nuser root\ninclude_dir {folder}/conf.d\n"
    )
    command = [str(mosquitto_program()), "-c", str(folder / "mosquitto.conf")]
    broker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 15
        while not (accepts_sessions if anonymous else listens)("127.0.0.1", port):
            assert broker.poll() is None, broker.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        broker.terminate()
        broker.communicate(timeout=10)


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_every_limit_is_set() -> None:
    assert set(LIMITS) <= set(settings("limits.conf"))
    for name, folder in (("hospital.conf", FILES), ("listener.conf", DEPLOY / "compose")):
        assert set(OF_A_LISTENER) <= set(settings(name, folder))


def test_limits_hold_what_the_product_asks_of_a_broker() -> None:
    limits = {key: int(v) for key, v in settings("limits.conf").items() if v.isdigit()}
    assert limits["max_queued_messages"] >= MAX_QUEUED
    assert limits["max_queued_bytes"] < limits["memory_limit"]
    assert limits["max_packet_size"] >= 334 << 10
    days = re.fullmatch(r"(\d+)d", settings("limits.conf")["persistent_client_expiration"])
    assert days is not None
    assert int(days[1]) * 86400 >= SESSION_EXPIRY_S
    memory = re.search(r"MemoryMax=(\d+)M", (FILES / "systemd-override.conf").read_text())
    assert memory is not None
    assert int(memory[1]) << 20 > limits["memory_limit"]


def test_mosquitto_starts_with_the_hospitals_file_and_announces_its_limits(tmp_path: Path) -> None:
    text = (FILES / "hospital.conf").read_text()
    with running(tmp_path, text) as url:
        facts = ask(url, "doctor")
    assert facts.max_packet_bytes == int(settings("limits.conf")["max_packet_size"])
    assert facts.max_qos == 1
    assert facts.keeps_sessions
    assert facts.retains


def test_mosquitto_starts_with_the_listener_of_the_containers(tmp_path: Path) -> None:
    text = (DEPLOY / "compose" / "listener.conf").read_text()
    with running(tmp_path, text) as url:
        assert ask(url, "doctor").max_qos == 1


def test_access_list_lets_a_wristband_write_under_its_own_name_only(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    for user in ("edge-north", "wb-01"):
        make = ["mosquitto_passwd", "-b", str(passwords), user, "secret"]
        subprocess.run(make, check=True, capture_output=True)
    listener = (
        "listener 1883 127.0.0.1",
        "allow_anonymous false",
        f"password_file {passwords}",
        f"acl_file {FILES / 'hospital.acl'}",
    )
    heard: list[str] = []
    with running(tmp_path, *listener, anonymous=False) as url:
        edge, wristband = (session(url, user, heard) for user in ("edge-north", "wb-01"))
        for device in ("wb-02", "wb-01"):  # in order, so that the second tells of the first
            topic = topics.device("county", "north", device, "update")
            wait_for(partial(wristband.publish, topic, b"said"), "the wristband's session")
        own = topics.device("county", "north", "wb-01", "update")
        wait_for(lambda: own in heard, "its own update")
        invite = topics.device("county", "north", "wb-01", "invite")
        assert edge.publish(invite, b"come")
        wait_for(lambda: invite in heard, "its invite")
        edge.stop()
        wristband.stop()
    assert topics.device("county", "north", "wb-02", "update") not in heard


def session(url: str, user: str, heard: list[str]) -> Link:
    """A session of that user that notes the topics it hears."""
    made = Link(
        url.replace("//", f"//{user}:secret@"),
        user,
        on_connect=lambda: None,
        on_message=lambda topic, _data, _message: heard.append(topic),
        subscriptions=["pulsering/v1/county/north/+/update", "pulsering/v1/county/north/+/invite"]
        if user == "edge-north"
        else ["pulsering/v1/county/north/wb-01/invite"],
    )
    made.start()
    wait_for(lambda: made.connected, f"the session of {user}")
    return made
