from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import orjson
import pytest
from httpx import ASGITransport, AsyncClient, Response

from cloud.api.tensors import HEADER_LENGTH
from common.ecg.beats import INPUT_SHAPES
from tests.builders.asgi import Client
from tests.builders.serving import FakePool, make_app, make_model, make_release

INFER = "/v2/models/beats/infer"
(LAST,) = INPUT_SHAPES["rhythm"]  # width of the last input, which `infer_json` changes


def make_inputs(num: int = 2, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((num, *shape), dtype=np.float32)
        for name, shape in INPUT_SHAPES.items()
    }


def infer_json(num: int = 2, **changes: Any) -> dict[str, Any]:
    inputs = [
        {"name": k, "shape": v.shape, "datatype": "FP32", "data": v.ravel().tolist()}
        for k, v in make_inputs(num).items()
    ]
    inputs[-1] |= changes
    return {"inputs": inputs}


def binary_body(num: int = 2, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    arrays = make_inputs(num)
    described = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in arrays.items()
    ]
    header = json.dumps({"inputs": described, "parameters": parameters}).encode()
    body = header + b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    return body, {HEADER_LENGTH: str(len(header))}


def post(body: dict[str, Any], url: str = INFER) -> Response:
    return Client(make_app()).post(url, json=body)


def get(url: str, pool: FakePool | None = None) -> Response:
    return Client(make_app(pool)).get(url)


def message(response: Response) -> str:
    """The protocol's error is one string."""
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert isinstance(error, str)
    return error


def test_server_metadata_names_the_binary_extension() -> None:
    assert get("/v2").json()["extensions"] == ["binary_tensor_data"]


def test_is_live_and_ready_with_a_release() -> None:
    assert get("/v2/health/live").status_code == 200
    assert get("/v2/health/ready").status_code == 200
    assert get("/v2/models/beats/ready").status_code == 200


def test_is_live_but_not_ready_without_a_release() -> None:
    assert get("/v2/health/live", FakePool()).status_code == 200
    assert get("/v2/health/ready", FakePool()).status_code == 400
    assert get("/v2/models/beats/ready", FakePool()).status_code == 400


def test_model_metadata_gives_names_types_and_shapes() -> None:
    metadata = get("/v2/models/beats").json()
    assert metadata["versions"] == [make_release().name]
    assert metadata["inputs"][0] == {
        "name": "beat_mv",
        "datatype": "FP32",
        "shape": [-1, *INPUT_SHAPES["beat_mv"]],
    }
    assert metadata["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 5]}]


@pytest.mark.parametrize("version", ["1", make_release().name])
def test_serves_a_version_by_name_or_day(version: str) -> None:
    assert get(f"/v2/models/beats/versions/{version}").status_code == 200
    assert get(f"/v2/models/beats/versions/{version}/ready").status_code == 200
    response = post(infer_json(), f"/v2/models/beats/versions/{version}/infer")
    assert response.json()["model_version"] == make_release().name


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/beats/versions/9", "/v2/x"])
def test_unknown_things_are_404_with_a_string(path: str) -> None:
    response = get(path)
    assert response.status_code == 404
    assert isinstance(response.json()["error"], str)


def test_infers_from_json() -> None:
    answer = post({**infer_json(), "id": "7"}).json()
    output = answer["outputs"][0]
    assert answer["id"] == "7"
    assert output["shape"] == [2, 5]
    scores = np.array(output["data"]).reshape(2, 5)
    np.testing.assert_allclose(scores, make_model().scores(make_inputs()), atol=1e-6)


def test_infers_from_nested_lists() -> None:
    body = infer_json()
    body["inputs"][1]["data"] = make_inputs()["rr"].tolist()
    assert post(body).json() == post(infer_json()).json()


def test_infers_from_and_to_binary_tensors() -> None:
    body, headers = binary_body(binary_data_output=True)
    response = Client(make_app()).post(INFER, content=body, headers=headers)
    length = int(response.headers[HEADER_LENGTH])
    output = orjson.loads(response.content[:length])["outputs"][0]
    assert output["parameters"]["binary_data_size"] == len(response.content) - length == 40
    scores = np.frombuffer(response.content[length:], "<f4").reshape(2, 5)
    np.testing.assert_allclose(scores, make_model().scores(make_inputs()), atol=1e-6)


def test_an_output_may_be_asked_for_as_json() -> None:
    body = infer_json()
    body["parameters"] = {"binary_data_output": True}
    body["outputs"] = [{"name": "scores", "parameters": {"binary_data": False}}]
    assert len(post(body).json()["outputs"][0]["data"]) == 10


def test_an_empty_batch_gives_no_scores() -> None:
    assert post(infer_json(0)).json()["outputs"][0] == {
        "name": "scores",
        "datatype": "FP32",
        "shape": [0, 5],
        "data": [],
    }


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"name": "beat_mv"}, "given twice"),
        ({"name": "x"}, "unknown"),
        ({"datatype": "FP64"}, "datatype FP32"),
        ({"shape": [2, LAST - 1]}, "shape"),
        ({"shape": [-1, LAST]}, "shape"),
        ({"shape": [3, LAST]}, f"holds {2 * LAST} numbers"),
        ({"shape": [2147483648, LAST]}, f"holds {2 * LAST} numbers"),
        ({"data": [0.0] * (2 * LAST - 1)}, f"holds {2 * LAST - 1} numbers"),
        ({"data": ["0"] * 2 * LAST}, "regular list of numbers"),
        ({"data": [None] * 2 * LAST}, "regular list of numbers"),
        ({"data": [[0.0] * LAST, [0.0] * (LAST - 1)]}, "regular list"),
        ({"data": [1e39] * 2 * LAST}, "not finite"),
        ({"data": {"a": 1}}, "regular list of numbers"),
        ({"data": None}, "regular list of numbers"),
        ({"parameters": {"binary_data_size": 4}}, "both data and binary_data_size"),
        ({"parameters": {"binary_data_size": -1}}, "binary_data_size"),
    ],
)
def test_refuses_a_tensor_that_does_not_fit(changes: dict[str, Any], part: str) -> None:
    assert part in message(post(infer_json(**changes)))


@pytest.mark.parametrize("item", [b"[],", b"{},", b'"ab",'])
def test_refuses_json_that_would_fill_the_memory_before_parsing_it(item: bytes) -> None:
    body = b'{"inputs": [' + item * 260_000 + b"0]}"
    response = Client(make_app()).post(INFER, content=body)
    assert "too many" in message(response)


def test_turns_away_more_inferences_than_allowed() -> None:
    async def both() -> tuple[int, int]:
        begun, sent = asyncio.Event(), asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            begun.set()
            await sent.wait()
            yield json.dumps(infer_json()).encode()

        transport = ASGITransport(make_app(max_analyses=1))
        async with AsyncClient(transport=transport, base_url="http://api") as client:
            first = asyncio.create_task(client.post(INFER, content=held()))
            await begun.wait()
            second = await client.post(INFER, json=infer_json())
            sent.set()
            return (await first).status_code, second.status_code

    assert asyncio.run(both()) == (200, 429)


def test_refuses_inputs_of_different_batches() -> None:
    body = infer_json()
    body["inputs"][-1] |= {"shape": [1, LAST], "data": [0.0] * LAST}
    assert "number of rows" in message(post(body))


def test_refuses_a_missing_input() -> None:
    assert "the inputs are" in message(post({"inputs": infer_json()["inputs"][:1]}))


def test_refuses_an_unknown_output() -> None:
    assert "no output" in message(post(infer_json() | {"outputs": [{"name": "logits"}]}))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 5000, b'{"inputs": []}', b"\xff"])
def test_refuses_a_body_that_is_no_request(body: bytes) -> None:
    message(Client(make_app()).post(INFER, content=body))


@pytest.mark.parametrize("length", ["-1", "x", "999999", "²", ""])
def test_refuses_a_header_length_outside_the_body(length: str) -> None:
    body, _ = binary_body()
    headers = {HEADER_LENGTH: length.encode()}
    message(Client(make_app()).post(INFER, content=body, headers=headers))


@pytest.mark.parametrize("tail", [b"1", b"1234"])
def test_refuses_bytes_after_the_last_tensor(tail: bytes) -> None:
    body, headers = binary_body()
    response = Client(make_app()).post(INFER, content=body + tail, headers=headers)
    assert "follow the last" in message(response)


def test_refuses_a_truncated_binary_tensor() -> None:
    body, headers = binary_body()
    response = Client(make_app()).post(INFER, content=body[:-4], headers=headers)
    assert "bytes" in message(response)


def test_refuses_binary_numbers_that_are_not_finite() -> None:
    body, headers = binary_body()
    nan = np.array([np.nan], "<f4").tobytes()
    response = Client(make_app()).post(INFER, content=body[:-4] + nan, headers=headers)
    assert "not finite" in message(response)


def test_refuses_a_batch_over_the_limit() -> None:
    client = Client(make_app(infer_mib=1))
    response = client.post(INFER, content=b" " * ((1 << 20) + 1))
    assert response.status_code == 413
    assert "1 MiB" in response.json()["error"]
