"""``python -m cloud`` as its users call it: output and exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from cloud.__main__ import app
from tests.builders.sealed import Site


@pytest.fixture(autouse=True)
def _logs_stay_here() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.mailbox()
    (tmp_path / "cloud.toml").write_text(
        f"""
        region = "county"
        mailbox = "{tmp_path}/mailbox"
        pool_dir = "{tmp_path}/pool"
        state_dir = "{tmp_path}/cloud"
        trusted.region_key = "{tmp_path}/region/signing.pub"
        """
    )
    return site


def call(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(site.root / "cloud.toml")])


def answer(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_daily_releases_and_says_so_again(site: Site) -> None:
    site.seal()
    first, second = (call(site, "daily", "--json") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert answer(first)["decision"] == answer(second)["decision"] == "released"
    assert (answer(first)["already_done"], answer(second)["already_done"]) == (False, True)


def test_daily_without_anything_sealed_exits_with_3(site: Site) -> None:
    result = call(site, "daily", "--json")
    assert (result.exit_code, answer(result)["decision"]) == (3, "nothing_sealed")


def test_refusal_exits_with_1_and_its_rule(site: Site) -> None:
    site.seal(num_evaluated_devices=1)
    result = call(site, "daily", "--json")
    assert (result.exit_code, answer(result)["decision"]) == (1, "refused")
    assert answer(result)["rule"].startswith("enough_devices")


def test_missing_key_of_the_region_exits_with_2(site: Site) -> None:
    site.seal()
    (site.root / "region" / "signing.pub").unlink()
    result = call(site, "daily")
    assert result.exit_code == 2
    assert "trusted key" in result.stderr


def test_unknown_key_exits_with_2(site: Site) -> None:
    result = call(site, "daily", "--set", "regoin=county")
    assert result.exit_code == 2
    assert "regoin: unknown key" in result.stderr


def test_pool_is_listed_verified_and_promoted(site: Site) -> None:
    site.seal()
    name = answer(call(site, "daily", "--json", "--set", "promotion=by_person"))["release"]["name"]
    assert answer(call(site, "releases", "--json"))["releases"][0]["status"] == "in_pool"
    assert call(site, "verify", name).exit_code == 0
    assert call(site, "promote", name, "--by", "A. Person").exit_code == 0
    assert answer(call(site, "releases", "--json"))["releases"][0]["status"] == "current"
    assert name[:14] in call(site, "releases").stdout


def test_verify_of_a_changed_model_exits_with_1(site: Site) -> None:
    site.seal()
    name = answer(call(site, "daily", "--json"))["release"]["name"]
    (site.root / "pool" / name / "model.onnx").write_bytes(b"changed")
    result = call(site, "verify", name)
    assert result.exit_code == 1
    assert "signature" in result.stderr


def test_promotion_in_production_needs_a_name(site: Site) -> None:
    production = ("--set", "profile=production", "--set", "promotion=by_person")
    result = call(site, "promote", "county-d0001-aaaaaaaa", *production)
    assert result.exit_code == 2


def test_unknown_release_exits_with_1(site: Site) -> None:
    result = call(site, "verify", "nobody")
    assert result.exit_code == 1
    assert "no release 'nobody'" in result.stderr


@pytest.mark.parametrize("command", ["daily", "releases", "promote", "verify", "serve"])
def test_help_of_every_command_works(command: str) -> None:
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
