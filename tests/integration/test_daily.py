"""The daily job from a sealed message to the pool and back, with real keys and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloud.daily
from cloud.export import onnx_scores
from cloud.model_file import open_session
from cloud.registry import Registry, open_registry
from common.digest import tensors_digest
from common.errors import ContractError, PulseRingError
from common.mailbox import Mailbox
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.task import Parameters, score
from tests.builders.sealed import GOOD, Site, make_counts, make_counts_with_accuracy


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def pool(site: Site) -> Registry:
    return open_registry(site.config)


def changed(**tensors: Any) -> Parameters:
    return {**GOOD, **tensors}


def test_sealed_model_becomes_the_release_in_service(site: Site) -> None:
    site.seal()
    result = site.run()
    assert result.decision == "released"
    current = pool(site).current("county")
    assert current is not None
    assert current.data_source == "dummy"
    assert current.name == f"county-d0001-{tensors_digest(GOOD)[:8]}"
    assert pool(site).verify(current.name) == current


def test_region_is_told_of_the_release_with_its_parameters(site: Site) -> None:
    site.seal()
    site.run()
    header, tensors = site.notice()
    assert header.decision == "released"
    assert tensors_digest(tensors) == header.model_digest == tensors_digest(GOOD)


def test_released_graph_scores_as_torch_does(site: Site) -> None:
    site.seal()
    release = site.run().release
    assert release is not None
    inputs = dummy_examples(seed=5, num=777).inputs
    session = open_session(pool(site), release)
    (scores,) = session.run(["scores"], dict(inputs))
    np.testing.assert_allclose(scores, score(DummyTask(), GOOD, inputs), atol=1e-5)


def test_card_carries_notice_provenance_and_decision(site: Site) -> None:
    site.seal()
    release = site.run().release
    assert release is not None
    folder = site.root / "pool" / release.name
    text = (folder / "card.md").read_text()
    assert "not a medical device" in text
    assert "north (4), south (5)" in text
    assert "enough_devices: 9 wristbands" in text
    assert json.loads((folder / "card.json").read_text())["report"] is None


def test_running_twice_is_running_once(site: Site) -> None:
    site.seal()
    first = site.run()
    before = snapshot(site.root)
    second = site.run()
    assert second.already_done
    assert (second.decision, second.release) == (first.decision, first.release)
    assert snapshot(site.root) == before


@pytest.mark.parametrize("step", ["register", "promote", "write_card", "put"])
def test_a_crash_after_any_step_is_made_good_by_the_next_run(
    site: Site, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Crash

    owner: Any = {"write_card": cloud.daily, "put": Mailbox}.get(step, Registry)
    site.seal()
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        with pytest.raises(Crash):
            site.run()
    result = site.run()
    assert result.decision == "released"
    assert not result.already_done
    assert site.notice()[0].release == getattr(pool(site).current("county"), "name", None)
    assert len(pool(site).releases()) == 1


def test_nothing_sealed_is_nothing_done(site: Site) -> None:
    site.mailbox()
    assert site.run_all() == ()
    assert site.run_all(day=3) == ()


def test_all_days_without_a_decision_are_decided_in_order(site: Site) -> None:
    site.seal()
    site.seal(changed(bias=np.full(2, 0.5, np.float32)), day=2)
    assert [(r.day, r.decision) for r in site.run_all()] == [(1, "released"), (2, "released")]
    assert [r.status for r in pool(site).releases()] == ["in_pool", "current"]


def test_two_daily_jobs_do_not_work_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def starts_another(*_: object) -> None:
        site.run()

    monkeypatch.setattr(cloud.daily, "read_sealed", starts_another)
    site.seal()
    with pytest.raises(PulseRingError, match="another daily job is at work"):
        site.run()


@pytest.mark.parametrize(
    ("rule", "arguments"),
    [
        ("enough_devices", {"num_evaluated_devices": 2}),
        ("enough_examples", {"candidate": make_counts(num=999)}),
        ("accuracy_floor", {"candidate": make_counts_with_accuracy(0.79)}),
        (
            "not_worse_accuracy",
            {
                "candidate": make_counts_with_accuracy(0.90),
                "in_service": make_counts_with_accuracy(0.93),
            },
        ),
        (
            "valid_message: parameter weight is not finite",
            {
                "params": changed(weight=np.full((2, 4), np.nan, np.float32)),
                "candidate": make_counts(),
            },
        ),
        (
            "valid_message: the parameters have other names",
            {"params": changed(bias=np.zeros(3, np.float32)), "candidate": make_counts()},
        ),
        (
            "valid_message: the parameters have another digest",
            {"params": GOOD, "model_digest": "a" * 64},
        ),
        ("valid_message: no task", {"task": "spleens"}),
        (
            "valid_message: evaluation counts",
            {"candidate": {**make_counts(), "confusion": np.full((2, 2), -1)}},
        ),
    ],
)
def test_refusal_names_its_rule_and_tells_the_region(
    site: Site, rule: str, arguments: dict[str, Any]
) -> None:
    site.seal(**arguments)
    result = site.run()
    assert result.decision == "refused"
    assert result.rule.startswith(rule)
    header, tensors = site.notice()
    assert (header.decision, header.rule, tensors) == ("refused", result.rule, {})
    assert pool(site).releases() == ()


def test_refusal_leaves_the_model_in_service(site: Site) -> None:
    site.seal()
    first = site.run().release
    site.seal(changed(bias=np.ones(2, np.float32)), day=2, num_evaluated_devices=0)
    assert site.run(day=2).decision == "refused"
    assert pool(site).current("county") == first


def test_message_signed_with_another_key_decides_nothing(site: Site) -> None:
    site.mailbox()
    site.seal(mailbox=site.mailbox(key="mallory"))
    result = site.run()
    assert result.decision == "failed"
    assert result.rule.endswith("the signature of 'region' does not fit")
    assert not (site.root / "mailbox" / "county" / "to-region").exists()


def test_message_signed_by_another_party_decides_nothing(site: Site) -> None:
    site.mailbox()
    site.seal(mailbox=site.mailbox(writer="north", key="north"))
    assert site.run().decision == "failed"


def test_tampered_message_decides_nothing(site: Site) -> None:
    path = site.root / "mailbox" / site.seal()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert site.run().decision == "failed"


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"{}"])
def test_signed_rubbish_decides_nothing(site: Site, data: bytes) -> None:
    site.mailbox().put(f"county/to-cloud/000001/{'a' * 64}.safetensors", data)
    assert site.run().decision == "failed"


def test_message_moved_to_another_day_decides_nothing(site: Site) -> None:
    path = site.root / "mailbox" / site.seal()
    other = path.parent.with_name("000002")
    path.parent.rename(other)
    assert site.run(day=2).decision == "failed"


def test_older_day_does_not_replace_a_newer_release(site: Site) -> None:
    other = changed(bias=np.full(2, 0.5, np.float32))
    site.seal(other, day=2)
    site.run(day=2)
    site.seal(day=1)
    assert site.run(day=1).decision == "released"
    current = pool(site).current("county")
    assert current is not None
    assert current.day == 2


def test_says_when_the_model_it_replaces_was_not_evaluated_beside_it(site: Site) -> None:
    site.seal()
    first = site.run().release
    assert first
    site.seal(changed(bias=np.full(2, 0.5, np.float32)), day=2)
    assert f"{first.name} was in service" in site.run(day=2).warning


def test_says_nothing_when_it_was(site: Site) -> None:
    site.seal()
    first = site.run().release
    assert first
    other, counts = changed(bias=np.full(2, 0.5, np.float32)), make_counts()
    site.seal(other, counts, counts, day=2, in_service_digest=first.model_digest)
    result = site.run(day=2)
    assert (result.decision, result.warning) == ("released", "")


def test_promotion_by_person_waits_for_one(site: Site) -> None:
    site.seal()
    release = site.run(site.configured(promotion="by_person")).release
    assert release is not None
    assert pool(site).current("county") is None
    assert pool(site).promote(release.name, "A. Person", now=2.0).status == "current"


@pytest.mark.parametrize("file", ["model.onnx", "release.json", "signature.json"])
def test_tampered_release_is_never_opened(site: Site, file: str) -> None:
    site.seal()
    release = site.run().release
    assert release is not None
    path = site.root / "pool" / release.name / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ContractError):
        open_session(pool(site), release)


def test_test_set_cannot_influence_the_decision(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources of ECG are out of reach until the region has been told."""

    def opens(*_: object) -> None:
        assert site.notice()[0].decision == "released"
        raise ContractError("no data here")

    monkeypatch.setattr(cloud.daily, "open_source", opens)
    from common.tasks.beats import BeatTask

    task = BeatTask()
    params = task.initial(seed=0)
    labels = np.arange(3000) % 5
    counts = task.count(np.eye(5, dtype=np.float32)[labels], labels)
    site.seal(params, counts, task="beats")
    with_report = site.run()
    assert with_report.warning == "no report: no data here"

    blind = Site(tmp_path / "blind")
    blind.seal(params, counts, task="beats")
    without_report = blind.run(blind.configured(report=False))
    assert (without_report.decision, without_report.checks) == (
        with_report.decision,
        with_report.checks,
    )
    assert scores_of(blind) == scores_of(site)


def scores_of(site: Site) -> list[float]:
    (release,) = pool(site).releases()
    _, onnx_bytes = pool(site).verified_model(release.name)
    inputs = {
        name: np.ones((3, *shape), np.float32) for name, shape in release.input_shapes.items()
    }
    return [float(value) for value in onnx_scores(onnx_bytes, inputs).ravel()]


def snapshot(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".sqlite"
    }
