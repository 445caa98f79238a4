"""What surrounds a coordinator fails for a while: the round waits and then goes on."""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.broker import free_port
from tests.builders.coordinator_process import ROOT, Site, ask, until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as running:
        yield running


def test_a_mailbox_that_is_away_holds_the_round_up_and_is_told(site: Site) -> None:
    listen = f"127.0.0.1:{free_port()}"
    _wait_for_a_ring_without_west(site, "--set", f"health_listen={listen}")
    mailbox, aside = site.folder / "mailbox", site.folder / "aside"
    mailbox.rename(aside)
    mailbox.touch()
    site.hospitals["west"].last_answered = math.inf
    health = f"http://{listen}/healthz"
    _, told = until("a fault", lambda: (a := ask(health))[0] == 503 and a)
    assert "NotADirectoryError" in told["fault"]
    mailbox.unlink()
    aside.rename(mailbox)
    _assert_the_same_ring_commits(site)
    assert ask(health)[0] == 200


def test_a_broker_that_is_away_during_a_ring_loses_nothing(site: Site) -> None:
    _wait_for_a_ring_without_west(site)
    site.broker.kill()
    site.hospitals["west"].last_answered = math.inf
    site.broker.start()
    _assert_the_same_ring_commits(site)


def test_an_outcome_that_a_crash_kept_back_is_put_before_the_next_round(site: Site) -> None:
    pause = ("--set", "rounds.round_pause_s=3")
    site.start(*pause)
    until("a first outcome", lambda: site.coordinator.outcome(1))
    site.coordinator.end(signal.SIGKILL)
    folder = site.folder / "mailbox" / "county" / "ring" / "000001"
    for left in folder.glob("outcome.json*"):
        left.unlink()
    site.coordinator.start(*pause)
    was_told = site.hospitals["east"].round_before_was_told
    until("a second round", lambda: 2 in was_told)
    assert was_told[2]
    assert site.coordinator.outcome(1) is not None


def test_a_second_coordinator_on_the_same_state_is_refused_with_code_2(site: Site) -> None:
    site.coordinator.start()
    until("a ledger", (site.folder / "region" / "ledger.sqlite").exists)
    second = subprocess.run(
        site.coordinator.command("run"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 2
    assert "another coordinator is running there" in second.stderr
    assert "Traceback" not in second.stderr


def _wait_for_a_ring_without_west(site: Site, *more: str) -> None:
    site.hospitals["west"].last_answered = 1
    site.start(*more)
    until("a ring with two results", site.stands_in_a_ring_without_west)


def _assert_the_same_ring_commits(site: Site) -> None:
    round_id = site.hospitals["west"].status.round_id
    outcome = until("its commit", lambda: site.coordinator.outcome(round_id))
    assert (outcome.end, outcome.generation) == ("committed", 1)
    assert set(outcome.aggregates) == set(site.hospitals)
