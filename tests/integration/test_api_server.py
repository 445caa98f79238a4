"""The API as clients meet it: a real process, a real pool, Triton's own client."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from cloud.api.answers import NO_BEATS
from cloud.model_file import make_session
from common.ecg.beats import INPUT_SHAPES
from common.ecg.records import read_record
from tests.builders.api_process import ROOT, ApiProcess, command, make_config, put_release, serving
from tests.builders.serving import make_onnx, make_release, make_strip
from tests.real_data import mitdb_root

MATCH_S = 0.15
RAW = {"Content-Type": "application/octet-stream", "X-Lead": "MLII"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    root = tmp_path_factory.mktemp("api")
    config = make_config(root)
    put_release(config, day=1)
    with serving(config, root / "api.log") as process:
        yield process


@pytest.fixture
def client(api: ApiProcess) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(api.url.removeprefix("http://"))
    yield client
    client.close()


def make_inputs(num: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal((num, *shape), dtype=np.float32)
        for name, shape in INPUT_SHAPES.items()
    }


def triton_input(name: str, array: np.ndarray, binary: bool) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def post_json(url: str, ecg_mv: np.ndarray, fs_hz: float) -> httpx.Response:
    numbers = ", ".join(map(str, np.asarray(ecg_mv).tolist()))  # httpx would refuse NaN itself
    body = f'{{"ecg_mv": [{numbers}], "fs_hz": {fs_hz}, "lead": "MLII"}}'
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{url}/v1/ecg/analyze", content=body, headers=headers, timeout=240)


def post_raw(url: str, ecg_mv: np.ndarray, fs_hz: float) -> httpx.Response:
    headers = {**RAW, "X-Fs-Hz": str(fs_hz)}
    content = np.asarray(ecg_mv, "<f4").tobytes()
    return httpx.post(f"{url}/v1/ecg/analyze", content=content, headers=headers, timeout=240)


def test_tritonclient_reads_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("beats")
    assert client.is_model_ready("beats", make_release().name)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("beats")
    assert {spec["name"] for spec in metadata["inputs"]} == set(INPUT_SHAPES)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("num", [1, 700])
def test_tritonclient_infers_what_onnxruntime_does(
    client: triton.InferenceServerClient, binary_in: bool, binary_out: bool, num: int
) -> None:
    arrays = make_inputs(num)
    tensors = [triton_input(name, array, binary_in) for name, array in arrays.items()]
    wanted = [triton.InferRequestedOutput("scores", binary_data=binary_out)]
    answer = client.infer("beats", tensors, outputs=wanted, request_id="a")
    (expected,) = make_session(make_onnx(premature_weight=21.0)).run(None, arrays)
    np.testing.assert_allclose(answer.as_numpy("scores"), expected, atol=1e-6)
    assert answer.get_response()["model_version"] == make_release().name


def test_tritonclient_shows_the_servers_error(client: triton.InferenceServerClient) -> None:
    tensors = [triton_input("rr", np.zeros((1, *INPUT_SHAPES["rr"]), np.float32), binary=True)]
    with pytest.raises(triton.InferenceServerException, match="the inputs are"):
        client.infer("beats", tensors)


def test_record_100_has_its_annotated_beats(api: ApiProcess) -> None:
    record = read_record(mitdb_root(), "100")
    answer = post_raw(api.url, record.ecg_mv, record.fs_hz).json()
    found = np.array([beat["sample"] for beat in answer["beats"]])
    distance = np.abs(found[:, None] - record.r_idx).min(axis=0) / record.fs_hz
    assert (distance <= MATCH_S).mean() >= 0.99
    assert len(found) <= 1.01 * len(record.r_idx)


def test_an_hour_at_360_hz_goes_through_as_json(api: ApiProcess) -> None:
    ecg_mv, fs_hz = make_strip(3600)
    body = {"ecg_mv": ecg_mv.astype(float).tolist(), "fs_hz": fs_hz, "lead": "I"}
    response = httpx.post(f"{api.url}/v1/ecg/analyze", json=body, timeout=120)
    assert response.status_code == 200
    assert response.json()["analyzed_s"] == 3600


def with_nan() -> np.ndarray:
    ecg_mv = make_strip(20)[0].astype(float)
    ecg_mv[1000] = np.nan
    return ecg_mv


WRONG = {
    "empty": (np.empty(0), 360.0),
    "flat": (np.zeros(7200), 360.0),
    "flat_after_a_step": (np.repeat([0.0, 1e-3], 3600), 360.0),
    "nan": (with_nan(), 360.0),
    "three_samples": (np.array([0.1, 0.9, 0.2]), 360.0),
    "rate_of_zero": (make_strip(20)[0], 0.0),
    "negative_rate": (make_strip(20)[0], -360.0),
    "rate_of_a_megahertz": (make_strip(20)[0], 1e6),
    "rate_of_a_day_in_three_samples": (np.array([0.1, 0.9, 0.2]), 3 / 86400),
}


@pytest.mark.parametrize("post", [post_json, post_raw])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_ecg_is_refused_with_a_sentence(
    api: ApiProcess, case: str, post: Callable[[str, np.ndarray, float], httpx.Response]
) -> None:
    response = post(api.url, *WRONG[case])
    assert response.status_code in (400, 422)
    assert response.json()["error"]["message"]
    assert "Traceback" not in api.log.read_text()


def test_a_strip_without_beats_is_answered_with_none(api: ApiProcess) -> None:
    drift = np.linspace(0, 0.1, 10 * 360)
    response = post_raw(api.url, drift, 360)
    assert response.status_code == 200
    answer = response.json()
    assert answer["beats"] == []
    assert answer["beats_note"] == NO_BEATS
    assert answer["heart_rate_bpm"] is None
    assert set(answer["counts"].values()) == {0}


def test_a_day_at_360_hz_goes_through_as_raw_samples(api: ApiProcess) -> None:
    ecg_mv, fs_hz = make_strip(3600)
    response = post_raw(api.url, np.tile(ecg_mv, 24), fs_hz)
    assert response.status_code == 200
    answer = response.json()
    assert answer["analyzed_s"] == 24 * 3600
    assert answer["beats"][-1]["time_s"] > 24 * 3600 - 5


def test_more_raw_samples_than_a_day_are_refused(api: ApiProcess) -> None:
    response = post_raw(api.url, np.zeros(26 * 3600 * 360, np.float32), 360)
    assert response.status_code == 413
    assert "in parts" in response.json()["error"]["message"]


def test_a_day_as_json_is_refused_before_it_is_sent(api: ApiProcess) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/ecg/analyze HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            b"Content-Length: 150000000\r\n\r\n"
        )
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")


def test_health_answers_while_a_strip_is_analyzed(api: ApiProcess) -> None:
    ecg_mv, fs_hz = make_strip(3600)
    answers: list[httpx.Response] = []
    day = np.tile(ecg_mv, 6)
    thread = threading.Thread(target=lambda: answers.append(post_raw(api.url, day, fs_hz)))
    thread.start()
    waits = []
    while thread.is_alive():
        started = time.monotonic()
        assert httpx.get(f"{api.url}/healthz", timeout=20).status_code == 200
        waits.append(time.monotonic() - started)
    assert answers[0].status_code == 200
    assert len(waits) > 3
    assert np.median(waits) < 0.5


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/ecg/analyze HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"ecg_mv": [0.1',
        b"\x16\x03\x01\x00\xff nonsense\r\n\r\n",
        b"POST /v2/models/beats/infer HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_a_client_that_breaks_off_leaves_no_traceback(api: ApiProcess, sent: bytes) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent)
    assert httpx.get(f"{api.url}/healthz").status_code == 200
    assert "Traceback" not in api.log.read_text()


def test_a_new_release_comes_into_service_without_a_restart(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with serving(config, tmp_path / "api.log") as api:
        assert httpx.get(f"{api.url}/v2/health/ready").status_code == 400
        for day in (1, 2):
            name = put_release(config, day)
            wait_for_release(api, name)
        older = httpx.get(f"{api.url}/v2/models/beats/versions/1/ready")
        assert older.status_code == 200


def test_a_release_with_other_bytes_than_signed_never_serves(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    name = put_release(config, day=1)
    model = config.pool_dir / name / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with serving(config, tmp_path / "api.log") as api:
        health = httpx.get(f"{api.url}/healthz")
        assert health.status_code == 503
        assert "signature" in health.json()["refused"]
        assert post_raw(api.url, *make_strip(10)).status_code == 503


def wait_for_release(api: ApiProcess, name: str) -> None:
    deadline = time.monotonic() + 20
    while httpx.get(f"{api.url}/healthz").json()["release"] != name:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    with serving(make_config(tmp_path), tmp_path / "api.log") as api:
        assert api.stop() == 0
        assert "Traceback" not in api.log.read_text()


@pytest.mark.parametrize("listen", ["taken", "203.0.113.7:80"])
def test_an_address_that_cannot_be_had_ends_with_2_and_one_line(
    tmp_path: Path, listen: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        if listen == "taken":
            listen = f"127.0.0.1:{other.getsockname()[1]}"
        line = command(make_config(tmp_path), listen)
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert listen.partition(":")[0] in done.stderr
    assert "Traceback" not in done.stderr
