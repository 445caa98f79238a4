"""An operator revokes, mutes and readmits wristbands beside a running edge node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import topics
from common.messages import RoundSpec
from tests.integration.test_edge_node import (
    HOSPITAL,
    REGION,
    Played,
    ledger,
    make_spec,
    make_update,
    run_edge,
    wait_for,
)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    region = Played(tmp_path)
    yield region
    region.close()


def open_round(played: Played) -> RoundSpec:
    played.start_node(mute_after=5)
    spec = make_spec(played.put_model(0))
    played.say("open", spec=spec)
    played.wait_status(lambda s: s.phase == "collecting", "an open round")
    return spec


def decided(played: Played, *arguments: str) -> list[dict[str, Any]]:
    said = run_edge(*arguments, "--config", str(played.config()), "--json")
    assert said.returncode == 0, said.stderr
    rows: list[dict[str, Any]] = json.loads(said.stdout)
    return rows


def test_a_revoked_wristband_is_withdrawn_at_once_and_readmitted_later(played: Played) -> None:
    spec = open_round(played)
    update = make_update(spec, "band-a")
    assert played.send("band-a", "update", update).status == "stored"

    (row,) = decided(played, "revoke", "band-a", "--note", "by letter")
    assert (row["standing"], row["note"], row["num_waiting"]) == ("revoked", "by letter", 0)
    assert [one["fate"] for one in ledger(played)] == ["withdrawn"]
    played.wait_status(lambda s: s.num_stored == 0, "nothing stored")
    invite = topics.device(REGION, HOSPITAL, "band-a", "invite")
    wait_for(lambda: played.heard[invite][-1] == b"", "the invite taken back")
    assert played.send("band-a", "update", update).reason == "revoked"

    (row,) = decided(played, "readmit", "band-a")
    assert row["standing"] == "listened to"
    other = make_update(spec, "band-a", seed=1)
    wait_for(lambda: played.send("band-a", "update", other).reason != "revoked", "to be heard")


def test_a_wristband_that_sends_nonsense_is_muted_until_an_operator_says_otherwise(
    played: Played,
) -> None:
    spec = open_round(played)
    reasons = [played.send("band-b", "update", b"nonsense %d" % n).reason for n in range(6)]
    assert reasons == ["malformed"] * 5 + ["muted"]
    shown = {row["device"]: row for row in decided(played, "devices")}
    assert (shown["band-b"]["standing"], shown["band-b"]["note"]) == ("muted", "malformed")
    assert shown["band-a"]["standing"] == "listened to"

    decided(played, "unmute", "band-b")
    update = make_update(spec, "band-b")
    wait_for(lambda: played.send("band-b", "update", update).status == "stored", "to be heard")
