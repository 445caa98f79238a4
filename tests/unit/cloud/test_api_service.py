from __future__ import annotations

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cloud.api.examples import busiest_start_s
from cloud.api.server import bind, is_loopback, url_of
from cloud.inference.model import OnnxSession
from cloud.release import Release
from common.ecg.synthetic import synthesize
from common.errors import ConfigError, ContractError
from common.notice import MEANING_OF_N, NOTICE
from tests.builders.asgi import Client
from tests.builders.serving import FakePool, make_app, make_release, open_small_model, strip_json

WEB = Path(__file__).parents[3] / "cloud" / "web"


def client(pool: FakePool | None = None) -> Client:
    return Client(make_app(pool))


def test_redirects_nobody_to_a_host_that_the_client_names() -> None:
    assert client().get("http://elsewhere.example/v1/releases/").status_code == 404


def refuse_day_1(release: Release) -> OnnxSession:
    if release.day == 1:
        raise ContractError("the signature of day 1 does not fit")
    return open_small_model(release)


def test_health_names_the_release() -> None:
    response = client().get("/healthz")
    assert response.status_code == 200
    assert response.json()["release"] == make_release().name


def test_waiting_for_the_first_release_is_healthy() -> None:
    response = client(FakePool()).get("/healthz")
    assert (response.status_code, response.json()["release"]) == (200, None)


def test_health_says_why_a_release_was_refused() -> None:
    response = Client(make_app(opened=refuse_day_1)).get("/healthz")
    assert response.status_code == 503
    assert "signature" in response.json()["refused"]


def test_a_version_that_does_not_verify_is_a_503_that_says_why() -> None:
    pool = FakePool([make_release(day=1), make_release(day=2)])
    api = Client(make_app(pool, opened=refuse_day_1))
    assert api.get("/v2/models/beats/versions/2").status_code == 200
    response = api.get("/v2/models/beats/versions/1")
    assert response.status_code == 503
    assert "signature of day 1" in response.json()["error"]
    assert api.get("/v2/models/beats/versions/1/ready").status_code == 400


def test_metrics_count_requests_by_route_not_by_path() -> None:
    api = client()
    api.get("/v1/examples/nobody")
    api.get("/no/such/path")
    text = api.get("/metrics").text
    assert 'route="/v1/examples/{name}",status="404"' in text
    assert 'route="unknown",status="404"' in text
    assert "nobody" not in text


def test_logs_a_request_without_samples_labels_or_lead() -> None:
    with capture_logs() as lines:
        response = client().post("/v1/ecg/analyze", json=strip_json(lead="V5"))
    line = next(line for line in lines if line["event"] == "request")
    assert line["request_id"] == response.headers["X-Request-Id"]
    assert set(line) == {"event", "log_level", "request_id", "method", "route", "status", "ms"}
    assert "V5" not in str(lines)


def test_a_fault_of_ours_is_a_500_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("cloud.api.analyze.analyze", broken)
    response = client().post("/v1/ecg/analyze", json=strip_json())
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["X-Request-Id"] in response.json()["error"]["message"]


def test_every_answer_has_a_strict_content_security_policy() -> None:
    for path in ("/", "/web/main.js", "/healthz", "/nothing"):
        policy = client().get(path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_show_the_notices_without_script(path: str) -> None:
    text = client().get(path).text
    assert NOTICE in text
    assert MEANING_OF_N.replace('"', "&quot;") in text
    assert "{{" not in text


def test_pages_use_nothing_from_elsewhere_and_no_inline_script() -> None:
    for path in WEB.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|innerHTML|insertAdjacentHTML|eval\(| on\w+=|<script>", text
        )


def test_pages_never_say_normal_or_sinus() -> None:
    for path in WEB.iterdir():
        assert not re.search(r"\b(normal|sinus)\b", path.read_text("utf-8"), re.IGNORECASE)


def test_openapi_describes_the_answer_and_both_bodies() -> None:
    route = client().get("/openapi.json").json()["paths"]["/v1/ecg/analyze"]["post"]
    assert set(route["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert "AnalyzeAnswer" in str(route["responses"]["200"])


def test_lists_releases() -> None:
    pool = FakePool([make_release(day=1), make_release(day=2)])
    listed = client(pool).get("/v1/releases").json()
    assert [release["day"] for release in listed["releases"]] == [1, 2]


def test_gives_the_card_of_a_release(tmp_path: Path) -> None:
    release = make_release()
    (tmp_path / release.name).mkdir()
    (tmp_path / release.name / "card.md").write_text("# the card")
    api = client(FakePool([release], tmp_path))
    assert api.get(f"/v1/releases/{release.name}/card").text == "# the card"
    assert api.get(f"/v1/releases/{release.name}/card?format=json").status_code == 404
    assert api.get(f"/v1/releases/{release.name}/card?format=exe").status_code == 422


@pytest.mark.parametrize("name", ["nobody", "..", "%2e%2e%2fsecret"])
def test_gives_no_card_outside_the_pool(name: str) -> None:
    assert client().get(f"/v1/releases/{name}/card").status_code == 404


def test_an_example_without_data_is_synthetic_and_says_so() -> None:
    api = client()
    listed = api.get("/v1/examples").json()
    assert listed["synthetic"] is True
    example = api.get(f"/v1/examples/{listed['examples'][0]}?seconds=10").json()
    assert "SYNTHETIC" in example["source"]
    assert len(example["ecg_mv"]) == 10 * example["fs_hz"]


def test_an_example_can_be_analyzed() -> None:
    api = client()
    example = api.get("/v1/examples/syn23?seconds=10&start_s=5").json()
    body = {key: example[key] for key in ("ecg_mv", "fs_hz", "lead")}
    assert api.post("/v1/ecg/analyze", json=body).status_code == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [("seconds=1", 422), ("seconds=nan", 422), ("start_s=-1", 422), ("start_s=1799", 422)],
)
def test_refuses_an_example_that_is_not_there(query: str, status: int) -> None:
    response = client().get(f"/v1/examples/syn23?{query}")
    assert response.status_code == status
    assert response.json()["error"]["code"] == "invalid_value"


def test_the_busiest_part_has_most_ectopic_beats() -> None:
    record = synthesize("syn03", duration_s=120)
    start_s = busiest_start_s(record, 30)
    ectopic_s = record.r_idx[[symbol in "AV" for symbol in record.symbols]] / record.fs_hz
    inside = [((ectopic_s >= s) & (ectopic_s < s + 30)).sum() for s in range(91)]
    assert inside[int(start_s)] == max(inside)


def test_binds_a_free_port() -> None:
    with bind("127.0.0.1:0") as listener:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url_of(listener))


def test_a_port_in_use_is_a_configuration_error() -> None:
    with bind("127.0.0.1:0") as listener:
        taken = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{taken}") as fault:
            bind(f"127.0.0.1:{taken}")
    assert fault.value.exit_code == 2


def test_an_address_of_another_machine_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="listen"):
        bind("203.0.113.7:1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db", False)],
)
def test_knows_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
