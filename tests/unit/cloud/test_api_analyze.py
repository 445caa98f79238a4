from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from httpx import ASGITransport, AsyncClient, Response

from common.notice import MEANING_OF_N, NOTICE
from common.tasks.calibration import is_inconclusive
from tests.builders.asgi import Client
from tests.builders.serving import FakePool, make_app, make_release, make_strip, strip_json

URL = "/v1/ecg/analyze"
JSON = {"Content-Type": "application/json"}


def post(content: bytes, headers: dict[str, str], **limits: Any) -> Response:
    return Client(make_app(**limits)).post(URL, content=content, headers=headers)


def post_json(**changes: Any) -> Response:
    return Client(make_app()).post(URL, json=strip_json(**changes))


def post_raw(ecg_mv: np.ndarray, **headers: str) -> Response:
    named = {"Content-Type": "application/octet-stream", "X-Fs-Hz": "360", "X-Lead": "MLII"}
    return post(ecg_mv.astype("<f4").tobytes(), named | headers)


async def endless(piece: bytes) -> AsyncIterator[bytes]:
    while True:
        yield piece


def refusal(response: Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert set(error) == {"code", "message", "field"}
    assert "Traceback" not in response.text
    assert error["message"]
    return response.status_code, error["code"], error["field"]


def test_answers_with_beats_release_and_notice() -> None:
    response = post_json(start="2026-11-22T08:00:00+01:00")
    assert response.status_code == 200
    answer = response.json()
    assert answer["notice"] == NOTICE
    assert answer["meaning_of_n"] == MEANING_OF_N
    assert answer["release"]["name"] == make_release().name
    assert answer["release"]["model_digest"] == make_release().model_digest
    assert answer["release"]["synthetic"] is False
    assert answer["start"] == "2026-11-22T08:00:00+01:00"
    assert answer["analyzed_s"] == 20
    assert answer["readable_fraction"] == 1
    assert 40 < answer["heart_rate_bpm"] < 120


def test_a_beat_has_time_sample_label_and_its_probability() -> None:
    answer = post_json().json()
    for beat in answer["beats"]:
        assert beat["time_s"] == pytest.approx(beat["sample"] / 360, abs=1e-4)
        assert beat["probability"] == max(beat["probabilities"].values())
        assert beat["probabilities"][beat["label"]] == beat["probability"]
        assert sum(beat["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    conclusive = [beat for beat in answer["beats"] if not beat["inconclusive"]]
    assert sum(answer["counts"].values()) == len(conclusive)
    assert set(answer["counts"]) == {"N", "S", "V", "F", "Q"}


def test_a_beat_that_the_model_may_well_be_wrong_about_is_inconclusive() -> None:
    answer = post_json(**strip_json(60)).json()
    scores = np.array([list(beat["probabilities"].values()) for beat in answer["beats"]])
    said = [beat["inconclusive"] for beat in answer["beats"]]
    assert said == is_inconclusive(scores).tolist()
    assert answer["num_inconclusive_beats"] == sum(said) > 0


def test_never_says_normal_or_sinus() -> None:
    text = post_json().text.lower()
    assert "normal" not in text
    assert "sinus" not in text


@pytest.mark.parametrize(("lead", "validated"), [("MLII", True), ("I", False), ("V5", False)])
def test_says_whether_the_lead_is_validated(lead: str, validated: bool) -> None:
    answer = post_json(lead=lead).json()
    assert answer["lead"] == lead
    assert answer["lead_validated"] is validated
    assert lead in answer["lead_note"]


def test_marks_noise_as_unreadable_and_counts_no_beat_in_it() -> None:
    ecg_mv, _ = make_strip(20)
    noisy = ecg_mv.astype(float)
    noisy[5 * 360 : 8 * 360] += np.random.default_rng(0).normal(0, 3, 3 * 360)
    answer = post_json(ecg_mv=noisy.tolist()).json()
    assert answer["readable_fraction"] == pytest.approx(17 / 20)
    assert answer["unreadable"] == [{"from_s": 5, "to_s": 8}]
    hidden = [beat for beat in answer["beats"] if not beat["readable"]]
    assert len(hidden) == answer["num_unreadable_beats"] > 0
    assert all(5 <= beat["time_s"] < 8 for beat in hidden)
    num_unsure = sum(b["inconclusive"] and b["readable"] for b in answer["beats"])
    assert answer["num_inconclusive_beats"] == num_unsure
    assert sum(answer["counts"].values()) == len(answer["beats"]) - len(hidden) - num_unsure


def test_a_strip_without_beats_has_none_and_says_what_that_means() -> None:
    answer = post_raw(np.linspace(0, 0.1, 3600)).json()
    assert answer["beats"] == []
    assert "asystole is not detected" in answer["beats_note"]
    assert answer["heart_rate_bpm"] is None
    assert post_json().json()["beats_note"] == ""


def test_raw_float32_gives_the_same_beats_as_json() -> None:
    ecg_mv, _ = make_strip(20)
    raw = post_raw(ecg_mv).json()
    as_json = post_json(ecg_mv=ecg_mv.astype(float).tolist()).json()
    assert [beat["sample"] for beat in raw["beats"]] == [b["sample"] for b in as_json["beats"]]
    assert raw["counts"] == as_json["counts"]


def test_says_that_the_model_learned_from_synthetic_ecg_whatever_its_unsigned_card_says(
    tmp_path: Path,
) -> None:
    release = make_release(data_source="synthetic")
    (tmp_path / release.name).mkdir()
    card = {"provenance": {"data_source": "mitdb"}}
    (tmp_path / release.name / "card.json").write_text(json.dumps(card))
    client = Client(make_app(FakePool([release], tmp_path)))
    answer = client.post(URL, json=strip_json()).json()
    assert answer["release"]["synthetic"] is True
    assert "None of them is clinical" in answer["release"]["trained_on"]


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"ecg_mv": []}, "empty_signal", "ecg_mv"),
        ({"ecg_mv": [0.1, 0.2, 0.3]}, "unusable_signal", "ecg_mv"),
        ({"ecg_mv": [0.0] * 7200}, "unusable_signal", "ecg_mv"),
        ({"ecg_mv": [1e300, -1e300] * 3600}, "unusable_signal", "ecg_mv"),
        ({"ecg_mv": [1e30] * 7200}, "unusable_signal", "ecg_mv"),
        ({"ecg_mv": [0.1, None] * 3600}, "invalid_value", "ecg_mv"),
        ({"ecg_mv": [0.1, "0.2"] * 50}, "invalid_value", "ecg_mv"),
        ({"ecg_mv": [0.1, True] * 3600}, "invalid_value", "ecg_mv"),
        ({"ecg_mv": [[0.1]] * 20}, "invalid_value", "ecg_mv"),
        ({"ecg_mv": "0.1"}, "invalid_value", "ecg_mv"),
        ({"ecg_mv": None}, "invalid_value", "ecg_mv"),
        ({"ecg_mv": {"0": 0.1}}, "invalid_value", "ecg_mv"),
        ({"fs_hz": 99.9}, "invalid_value", "fs_hz"),
        ({"fs_hz": 1e9}, "invalid_value", "fs_hz"),
        ({"fs_hz": 0}, "invalid_value", "fs_hz"),
        ({"fs_hz": -250}, "invalid_value", "fs_hz"),
        ({"fs_hz": "250"}, "invalid_value", "fs_hz"),
        ({"fs_hz": None}, "invalid_value", "fs_hz"),
        ({"fs_hz": True}, "invalid_value", "fs_hz"),
        ({"lead": ""}, "invalid_value", "lead"),
        ({"lead": 2}, "invalid_value", "lead"),
        ({"lead": "<script>"}, "invalid_value", "lead"),
        ({"lead": "x" * 33}, "invalid_value", "lead"),
        ({"start": "yesterday"}, "invalid_value", "start"),
        ({"start": "2026-11-22T08:00:00"}, "invalid_value", "start"),
        ({"patient": "x"}, "unknown_field", "patient"),
    ],
)
def test_refuses_a_strip_that_cannot_be_analyzed(
    changes: dict[str, Any], code: str, field: str
) -> None:
    assert refusal(post_json(**changes)) == (422, code, field)


@pytest.mark.parametrize("field", ["ecg_mv", "fs_hz", "lead"])
def test_names_a_missing_field(field: str) -> None:
    body = strip_json()
    del body[field]
    assert refusal(Client(make_app()).post(URL, json=body)) == (422, "missing", field)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b'{"ecg_mv": [0.1, 0.2', 400, "invalid_json"),
        (b'{"ecg_mv": [NaN], "fs_hz": 250, "lead": "I"}', 400, "invalid_json"),
        (b'{"ecg_mv": [-Infinity], "fs_hz": 250, "lead": "I"}', 400, "invalid_json"),
        (b'{"ecg_mv": [1e999], "fs_hz": 250, "lead": "I"}', 400, "invalid_json"),
        (b'{"ecg_mv": [' + b"9" * 5000 + b'], "fs_hz": 250, "lead": "I"}', 400, "invalid_json"),
        (b"\xff\xfe\x00", 400, "invalid_json"),
        (b'{"lead": "\\ud800", "ecg_mv": [1], "fs_hz": 250}', 400, "invalid_json"),
        (b"[" * 200_000, 422, "not_a_strip"),
        (b'{"a":' * 200_000, 422, "not_a_strip"),
        (b'{"ecg_mv": [' + b'"",' * 100_000 + b'""]}', 422, "not_a_strip"),
        (b"[]", 422, "not_a_strip"),
        (b"3", 422, "not_a_strip"),
        (b"null", 422, "not_a_strip"),
    ],
)
def test_refuses_a_body_that_is_no_strip(body: bytes, status: int, code: str) -> None:
    assert refusal(post(body, JSON)) == (status, code, None)


def test_names_the_place_of_a_null() -> None:
    response = post_json(ecg_mv=[0.1, 0.2, None, 0.3])
    assert "ecg_mv[2] is null" in response.json()["error"]["message"]


@pytest.mark.parametrize("sample", [np.nan, np.inf, -np.inf, 3e38])
def test_refuses_raw_samples_that_are_no_millivolts(sample: float) -> None:
    ecg_mv, _ = make_strip(20)
    ecg_mv = ecg_mv.copy()
    ecg_mv[100] = sample
    assert refusal(post_raw(ecg_mv)) == (422, "unusable_signal", "ecg_mv")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"X-Fs-Hz": "fast"}, "X-Fs-Hz"),
        ({"X-Fs-Hz": "nan"}, "X-Fs-Hz"),
        ({"X-Fs-Hz": "1e9"}, "X-Fs-Hz"),
        ({"X-Lead": "a/b"}, "X-Lead"),
        ({"X-Start": "noon"}, "X-Start"),
    ],
)
def test_names_a_bad_header_of_a_raw_strip(headers: dict[str, str], field: str) -> None:
    assert refusal(post_raw(make_strip(5)[0], **headers)) == (422, "invalid_value", field)


def test_refuses_raw_bytes_that_are_no_whole_samples() -> None:
    headers = {"Content-Type": "application/octet-stream", "X-Fs-Hz": "360", "X-Lead": "I"}
    assert refusal(post(b"123", headers)) == (422, "invalid_value", "ecg_mv")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", ""])
def test_refuses_other_content_types(kind: str) -> None:
    assert refusal(post(b"{}", {"Content-Type": kind}))[:2] == (415, "content_type")


def test_refuses_a_compressed_body() -> None:
    response = post(b"\x1f\x8b", JSON | {"Content-Encoding": "gzip"})
    assert refusal(response)[:2] == (415, "content_encoding")


def test_refuses_a_body_over_the_limit_and_names_it() -> None:
    response = post(b" " * ((1 << 20) + 1), JSON, json_mib=1)
    assert refusal(response)[:2] == (413, "body_too_large")
    assert "1 MiB" in response.json()["error"]["message"]


@pytest.mark.parametrize("length", [b"9" * 5000, b"99999999999"])
def test_refuses_a_stated_length_over_the_limit(length: bytes) -> None:
    response = post(b"", JSON | {"Content-Length": length.decode()})
    assert refusal(response)[:2] == (413, "body_too_large")


def test_a_stated_length_that_is_no_number_is_not_believed() -> None:
    body = strip_json()
    response = Client(make_app()).post(URL, json=body, headers={"Content-Length": b"\xb2"})
    assert response.status_code == 200


def test_refuses_a_body_without_length_once_it_is_over_the_limit() -> None:
    client = Client(make_app(json_mib=1))
    response = client.post(URL, content=endless(b" " * (1 << 18)), headers=JSON)
    assert refusal(response)[:2] == (413, "body_too_large")


def test_says_503_while_no_release_is_in_the_pool() -> None:
    response = Client(make_app(FakePool())).post(URL, json=strip_json())
    assert refusal(response)[:2] == (503, "no_release")
    assert response.headers["Retry-After"]


def test_says_503_while_the_model_in_service_is_not_of_beats() -> None:
    client = Client(make_app(FakePool([make_release(task="dummy", labels=("low", "high"))])))
    assert refusal(client.post(URL, json=strip_json()))[:2] == (503, "no_release")


def test_turns_away_more_analyses_than_allowed() -> None:
    async def at_once() -> list[int]:
        transport = ASGITransport(make_app(max_analyses=1))
        async with AsyncClient(transport=transport, base_url="http://api") as client:
            posts = [client.post(URL, json=strip_json()) for _ in range(3)]
            return sorted(response.status_code for response in await asyncio.gather(*posts))

    assert asyncio.run(at_once()) == [200, 429, 429]


def test_a_body_that_stalls_is_a_408() -> None:
    async def stalling() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async def stalled() -> int:
        transport = ASGITransport(make_app(read_timeout_s=0.01))
        async with AsyncClient(transport=transport, base_url="http://api") as client:
            return (await client.post(URL, content=stalling(), headers=JSON)).status_code

    assert asyncio.run(stalled()) == 408
