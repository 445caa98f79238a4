from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from cloud.inference.model import OnnxSession
from cloud.inference.serving import MAX_OTHERS, ModelsInService
from cloud.release import Release
from common.errors import ContractError
from tests.builders.serving import REGION, FakePool, make_models, make_release, open_small_model


class Opener:
    """Opens the small model and remembers for which releases; refuses those in `bad`."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.bad: set[str] = set()

    def __call__(self, release: Release) -> OnnxSession:
        if release.name in self.bad:
            raise ContractError(f"the signature of {release.name} does not fit")
        self.opened.append(release.name)
        return open_small_model(release)


class FlakyPool(FakePool):
    """A pool whose database goes away while `is_gone`."""

    is_gone = False

    def current(self, region: str) -> Release | None:
        if self.is_gone:
            raise OperationalError("select", {}, OSError("gone"))
        return super().current(region)


class UnreachablePool(FlakyPool):
    """A pool whose database went away."""

    is_gone = True


def served_name(models: ModelsInService) -> str | None:
    served = models.current()
    return served.release.name if served else None


def test_nothing_is_served_from_an_empty_pool() -> None:
    models = make_models(FakePool())
    assert models.current() is None
    assert models.refusal == ""


def test_follows_a_new_current_release_without_a_restart() -> None:
    pool = FakePool([make_release(day=1)])
    models = make_models(pool)
    assert served_name(models) == make_release(day=1).name
    pool.put(make_release(day=2))
    assert served_name(models) == make_release(day=2).name


def test_keeps_the_model_in_service_when_the_next_does_not_verify() -> None:
    first, second = make_release(day=1), make_release(day=2)
    pool, opener = FakePool([first]), Opener()
    models = ModelsInService(pool, REGION, opener, refresh_s=0)
    assert served_name(models) == first.name
    opener.bad.add(second.name)
    pool.put(second)
    assert served_name(models) == first.name
    assert second.name in models.refusal


def test_forgets_the_refusal_once_a_release_verifies() -> None:
    pool, opener = FakePool([make_release()]), Opener()
    opener.bad.add(make_release().name)
    models = ModelsInService(pool, REGION, opener, refresh_s=0)
    assert models.current() is None
    opener.bad.clear()
    assert served_name(models) == make_release().name
    assert models.refusal == ""


def test_an_unreachable_database_is_a_refusal_not_a_fault() -> None:
    models = make_models(UnreachablePool())
    assert models.current() is None
    assert "gone" in models.refusal


def test_forgets_the_refusal_once_the_database_answers_again() -> None:
    pool = FlakyPool([make_release()])
    models = make_models(pool)
    models.current()
    pool.is_gone = True
    assert served_name(models) == make_release().name
    assert "gone" in models.refusal
    pool.is_gone = False
    assert served_name(models) == make_release().name
    assert models.refusal == ""


def test_forgets_the_refusal_once_the_refused_release_is_taken_back() -> None:
    first, second = make_release(day=1), make_release(day=2)
    pool, opener = FakePool([first]), Opener()
    opener.bad.add(second.name)
    models = ModelsInService(pool, REGION, opener, refresh_s=0)
    models.current()
    pool.put(second)
    models.current()
    pool.in_service = first.name
    assert served_name(models) == first.name
    assert models.refusal == ""


def test_asks_the_pool_once_within_the_refresh_time() -> None:
    now = [0.0]
    pool = FakePool([make_release()])
    models = ModelsInService(pool, REGION, open_small_model, clock=lambda: now[0], refresh_s=2)
    models.current()
    now[0] = 1.9
    models.current()
    assert pool.num_reads == 1
    now[0] = 2.0
    models.current()
    assert pool.num_reads == 2


def test_opens_a_release_once() -> None:
    opener = Opener()
    models = ModelsInService(FakePool([make_release()]), REGION, opener, refresh_s=0)
    models.current()
    models.current()
    assert opener.opened == [make_release().name]


@pytest.mark.parametrize("by", ["name", "day"])
def test_serves_an_older_release_by_name_or_day(by: str) -> None:
    older = make_release(day=1)
    models = make_models(FakePool([older, make_release(day=2)]))
    found = models.get(older.name if by == "name" else "1")
    assert found
    assert found.release == older


def test_an_unknown_version_is_none() -> None:
    assert make_models().get("9") is None


def test_keeps_few_older_releases_open() -> None:
    pool = FakePool([make_release(day=day) for day in range(1, MAX_OTHERS + 3)])
    opener = Opener()
    models = ModelsInService(pool, REGION, opener)
    for day in range(1, MAX_OTHERS + 2):
        models.get(str(day))
    models.get("1")  # was closed when the last one was opened
    assert opener.opened.count(make_release(day=1).name) == 2
    models.get(str(MAX_OTHERS + 1))
    assert opener.opened.count(make_release(day=MAX_OTHERS + 1).name) == 1
