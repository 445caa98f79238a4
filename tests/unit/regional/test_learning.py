from __future__ import annotations

import itertools
import math

import pytest

from common.digest import EMPTY_DIGEST
from common.messages import Digest, RoundOutcome
from common.parts import pass_order
from regional.config import LearningConfig, RegionConfig, RoundsConfig, ScreeningConfig
from regional.learning import form_after, learning_rate, location, round_spec
from regional.progress import Progress, Stored, after, replay
from regional.records import CycleStarted, RoundEnded

RULE = LearningConfig(lr_start=0.2, lr_end=0.02, lr_rounds=10)


def make_config(**learning: object) -> RegionConfig:
    return RegionConfig.model_validate(
        {
            "region": "county",
            "broker": "mqtt://127.0.0.1:1",
            "state_dir": "unused",
            "mailbox": "unused",
            "hospitals": {"east": {"key": "east"}},
            "learning": learning,
        }
    )


def digest(number: int) -> Digest:
    return f"{number:064x}"


def test_rate_starts_and_ends_as_configured_and_then_stays() -> None:
    assert learning_rate(RULE, 0) == pytest.approx(0.2)
    assert learning_rate(RULE, 9) == pytest.approx(0.02)
    assert learning_rate(RULE, 10_000) == pytest.approx(0.02)


@pytest.mark.parametrize("n", range(10))
def test_rate_is_the_cosine_of_the_share_of_rounds(n: int) -> None:
    expected = 0.02 + 0.18 * (1 + math.cos(math.pi * n / 9)) / 2
    assert learning_rate(RULE, n) == pytest.approx(expected)


def test_a_single_round_has_the_first_rate() -> None:
    rule = LearningConfig(lr_start=0.2, lr_end=0.02, lr_rounds=1)
    assert [learning_rate(rule, n) for n in (0, 1)] == [0.2, 0.02]


def test_spec_names_where_base_state_and_evaluated_models_lie() -> None:
    progress = Progress(
        cycle=1,
        task="dummy",
        model=Stored(digest(1), 4),
        state=Stored(digest(2), 4),
        exponents={"w": -9},
        last_round=4,
    )
    models = [Stored(digest(1), 4), Stored(digest(3), 2)]
    spec = round_spec(make_config(), progress, "evaluate", models, now=50.0)
    assert spec.round_id == 5
    assert spec.evaluate == (digest(1), digest(3))
    assert spec.locations == {
        digest(1): location("county", Stored(digest(1), 4)),
        digest(2): f"county/ring/000004/{digest(2)}.safetensors",
        digest(3): f"county/ring/000002/{digest(3)}.safetensors",
    }


def test_an_empty_server_state_has_no_location() -> None:
    progress = Progress(cycle=1, task="dummy", model=Stored(digest(1), 0), exponents={"w": -9})
    spec = round_spec(make_config(), progress, "train", [progress.model], now=50.0)
    assert set(spec.locations) == {digest(1)}


def test_eight_bits_begin_after_the_first_round_of_a_cycle() -> None:
    progress = Progress(cycle=1, task="dummy", model=Stored(digest(1), 0), exponents={"w": -9})
    spec = round_spec(make_config(bits=8), progress, "train", [], now=50.0)
    assert spec.fixed_point.bits == 16


def test_parts_begin_after_the_first_round_of_a_cycle() -> None:
    progress = Progress(cycle=1, task="dummy", model=Stored(digest(1), 0), exponents={"w": -9})
    fixed = round_spec(make_config(parts=4), progress, "train", [], now=50.0).fixed_point
    assert (fixed.parts, fixed.part, fixed.order) == (1, 0, 0)


def test_rounds_go_through_the_parts_and_each_pass_has_an_order_of_its_own() -> None:
    config, seen = make_config(parts=3, seed=7), []
    for num_trained in range(1, 8):
        form = form_after(config.learning, num_trained)
        progress = Progress(
            cycle=1,
            task="dummy",
            model=Stored(digest(1), 0),
            exponents={"w": -9},
            num_trained=num_trained,
            parts=form.parts,
            order=form.order,
        )
        fixed = round_spec(config, progress, "train", [], now=50.0).fixed_point
        seen.append((fixed.part, fixed.order))
    orders = [pass_order(7, number) for number in range(3)]
    assert seen == [
        (1, orders[0]), (2, orders[0]),
        (0, orders[1]), (1, orders[1]), (2, orders[1]),
        (0, orders[2]), (1, orders[2]),
    ]  # fmt: skip


def test_without_parts_the_order_stays_zero() -> None:
    assert form_after(LearningConfig(bits=8), 5) == (8, 1, 0)


def committed(base: str, model: str, number: int) -> RoundEnded:
    outcome = RoundOutcome(
        region="county",
        day=1,
        round_id=number,
        end="committed",
        reason="",
        base_digest=base,
        model_digest=model,
        state_digest=EMPTY_DIGEST,
    )
    return RoundEnded(outcome=outcome, learning_rate=0.1, opened_at=0.0)


def cycle_from(model: str, number: int = 1) -> CycleStarted:
    return CycleStarted(
        cycle=number,
        task="dummy",
        model_digest=model,
        made_by_round=0,
        exponents={"w": -9},
        evaluation_shapes={},
    )


def test_rounds_name_the_cycle_s_last_bases_newest_first_up_to_the_limit() -> None:
    models = [digest(number) for number in (1, 2, 3, 3, 4)]  # the third round moved nothing
    ends = [
        committed(base, model, number)
        for number, (base, model) in enumerate(itertools.pairwise(models), start=1)
    ]
    progress = replay([cycle_from(models[0]), *ends])
    config = make_config().model_copy(update={"rounds": RoundsConfig(max_staleness=2)})
    spec = round_spec(config, progress, "evaluate", [], now=50.0)
    assert spec.late_bases == (digest(3), digest(2))
    assert round_spec(make_config(), progress, "train", [], now=50.0).late_bases == ()
    assert after(progress, cycle_from(digest(4), 2)).past_bases == ()


def test_a_screened_round_names_the_model_of_so_many_commits_ago() -> None:
    models = [digest(number) for number in range(1, 6)]
    ends = [
        committed(base, model, number)
        for number, (base, model) in enumerate(itertools.pairwise(models), start=1)
    ]
    screening = ScreeningConfig(enabled=True, way_commits=3)
    config = make_config().model_copy(update={"screening": screening})
    progress, named = replay([cycle_from(models[0])]), []
    for ended in [*ends, None]:
        spec = round_spec(config, progress, "train", [], now=50.0)
        assert spec.screen is not None
        assert spec.screen.reference is None or spec.screen.reference in spec.locations
        named.append(spec.screen.reference)
        progress = after(progress, ended) if ended else progress
    assert named == [None, digest(1), digest(1), digest(1), digest(2)]
    assert round_spec(config, progress, "evaluate", [], now=50.0).screen is None
    assert round_spec(make_config(), progress, "train", [], now=50.0).screen is None


def test_after_the_first_rounds_only_the_distance_is_asked() -> None:
    models = [digest(number) for number in range(1, 5)]
    ends = [
        committed(base, model, number)
        for number, (base, model) in enumerate(itertools.pairwise(models), start=1)
    ]
    screening = ScreeningConfig(enabled=True, direction_rounds=2, min_cosine=-0.2)
    config = make_config().model_copy(update={"screening": screening})
    progress, asked = replay([cycle_from(models[0])]), []
    for ended in ends:
        screen = round_spec(config, progress, "train", [], now=50.0).screen
        assert screen is not None
        asked.append((screen.min_cosine, screen.reference))
        progress = after(progress, ended)
    assert asked == [(-0.2, None), (-0.2, digest(1)), (-1.0, None)]


def test_a_new_cycle_begins_without_a_way() -> None:
    screening = ScreeningConfig(enabled=True)
    config = make_config().model_copy(update={"screening": screening})
    progress = replay([cycle_from(digest(1)), committed(digest(1), digest(2), 1)])
    progress = after(progress, cycle_from(digest(2), 2))
    spec = round_spec(config, progress, "train", [], now=50.0)
    assert spec.screen is not None
    assert spec.screen.reference is None


def test_rounds_say_how_hospitals_add_up() -> None:
    learning = LearningConfig(hospital_rule="trimmed_mean", trim=0.3)
    config = make_config().model_copy(update={"learning": learning})
    spec = round_spec(config, replay([cycle_from(digest(1))]), "train", [], now=50.0)
    assert (spec.robust.rule, spec.robust.trim) == ("trimmed_mean", 0.3)
    assert (
        '"robust"'
        not in round_spec(
            make_config(), replay([cycle_from(digest(1))]), "train", [], now=50.0
        ).model_dump_json()
    )
