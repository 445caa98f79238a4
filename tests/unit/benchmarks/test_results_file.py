from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from benchmarks import results_file
from common.errors import ConfigError


def test_writes_a_document_that_reads_back_equal(tmp_path: Path) -> None:
    document = {"accuracy": {"mean": 0.5, "sd": None, "values": [0.5]}}
    path = results_file.write("clinical", document, tmp_path / "results")
    assert path == tmp_path / "results" / "clinical.json"
    assert json.loads(path.read_text()) == document
    assert [entry.name for entry in path.parent.iterdir()] == ["clinical.json"]


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_leaves_the_last_evidence_untouched(
    tmp_path: Path, figure: float
) -> None:
    results_file.write("clinical", {"figure": 1.0}, tmp_path)
    with pytest.raises(ConfigError, match="not finite"):
        results_file.write("clinical", {"figure": figure}, tmp_path)
    assert json.loads((tmp_path / "clinical.json").read_text()) == {"figure": 1.0}


@pytest.mark.parametrize("name", ["", "../clinical", "a/b", "Clinical", ".hidden", "a b", "-a"])
def test_rejects_a_name_that_could_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no name of a results file"):
        results_file.write(name, {}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_says_why_a_file_cannot_be_written(tmp_path: Path) -> None:
    in_the_way = tmp_path / "results"
    in_the_way.write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        results_file.write("clinical", {}, in_the_way)


@pytest.mark.parametrize("arguments", [[], ["--seeds", "3"], ["--quick", "a b", "it's"]])
def test_the_command_gives_make_the_same_arguments_again(arguments: list[str]) -> None:
    words = shlex.split(results_file.command("clinical", arguments))
    assert words[:2] == ["make", "bench-clinical"]
    given = [word.removeprefix("ARGS=") for word in words[2:]]
    assert [part for word in given for part in shlex.split(word)] == arguments


def test_provenance_names_machine_versions_commit_and_command_but_no_path() -> None:
    provenance = results_file.provenance("clinical", ["--seeds", "1"])
    assert set(provenance) == {"machine", "versions", "commit", "files_not_in_commit", "command"}
    assert provenance["versions"]["torch"]
    assert str(results_file.REPOSITORY) not in json.dumps(provenance)


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "PACKAGES", ("no-such-package",))
    assert results_file.versions()["no-such-package"] is None
