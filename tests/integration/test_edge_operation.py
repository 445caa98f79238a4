"""What an operator sees of an edge node and asks of it, with a real node and broker."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import topics, wire
from common.health import announced_url
from common.messages import Receipt
from simulators.broker import EmbeddedBroker
from simulators.broker_process import mosquitto_program
from tests.integration.test_edge_node import (
    HOSPITAL,
    REGION,
    ROOT,
    Played,
    health,
    ledger,
    make_spec,
    make_update,
    wait_for,
)

MB = 1 << 20


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    region = Played(tmp_path)
    yield region
    region.close()


def start(played: Played, **changes: object) -> None:
    """Start the node with keys of its configuration changed."""
    config = played.config(**changes)
    played.node = subprocess.Popen(
        [sys.executable, "-m", "edge", "run", "--config", str(config)], cwd=ROOT
    )


def port(played: Played) -> int:
    url = wait_for(lambda: announced_url(played.folder / "edge"), "the health port")
    return int(str(url).rpartition(":")[2])


def metrics(played: Played) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port(played)}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_over_its_quota_a_node_takes_nothing_says_so_and_goes_on_when_there_is_room(
    played: Played,
) -> None:
    start(played, disk_quota_mb=8)
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    ballast = played.folder / "edge" / "ballast"
    ballast.write_bytes(bytes(8 * MB))
    wait_for(lambda: health(port(played))[0] == 503, "the full disk in /healthz")
    assert "disk_quota_mb = 8" in health(port(played))[1]["error"]
    assert "disk_quota_mb = 8" in played.wait_status(lambda s: s.error != "", "the error").error
    assert 'pulsering_edge_disk_state{state="full"} 1.0' in metrics(played)

    update = topics.device(REGION, HOSPITAL, "band-a", "update")
    receipts = topics.device(REGION, HOSPITAL, "band-a", "receipt")
    assert played.link.publish(update, make_update(spec, "band-a"))
    long_enough = time.monotonic() + 1.0
    wait_for(lambda: time.monotonic() > long_enough, "a receipt that must not come")
    assert (ledger(played), played.heard.get(receipts)) == ([], None)

    ballast.unlink()
    said = wait_for(lambda: played.heard.get(receipts), "the receipt, without a resend")
    assert wire.decode_json(said[-1], Receipt).status == "stored"
    assert health(port(played))[0] == 200
    played.wait_status(lambda s: s.error == "", "no error any more")


@pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")
def test_drops_of_the_hospital_broker_are_a_metric_where_it_is_mosquitto(played: Played) -> None:
    with EmbeddedBroker(kind="mosquitto") as broker:
        start(played, hospital_broker=broker.url)
        name = 'pulsering_edge_broker_dropped{broker="hospital"} 0.0'
        wait_for(lambda: name in metrics(played), "the broker's word of itself", 30)
    played.wait_status(lambda s: s.online, "the node, whose hospital broker has gone")


def test_a_broker_that_tells_nothing_of_itself_is_used_all_the_same(played: Played) -> None:
    start(played)
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "the round")
    assert played.send("band-a", "update", make_update(spec, "band-a")).status == "stored"
    wait_for(lambda: "pulsering_edge_waiting_updates 1.0" in metrics(played), "the gauge")
    long_enough = time.monotonic() + 4.0

    def stays() -> bool:
        assert health(port(played))[1]["links"] == {"region": True, "hospital": True}
        return time.monotonic() > long_enough

    wait_for(stays, "both links to stay")
    if played.broker.kind == "iotcore":
        assert "pulsering_edge_broker_dropped{" not in metrics(played)
