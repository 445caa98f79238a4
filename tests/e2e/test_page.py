"""The page in a real browser, over a real API process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from cloud.api.answers import NO_BEATS
from common.notice import MEANING_OF_N, NOTICE
from tests.builders.api_process import ApiProcess, make_config, put_release, serving
from tests.builders.serving import make_release, strip_json

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DARK = "px => { let n = 0; for (let i = 0; i < px.length; i += 4) n += px[i] < 60; return n }"
COUNT_DARK = f"""canvas => ({DARK})(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    root = tmp_path_factory.mktemp("page")
    config = make_config(root)
    put_release(config, day=1, data_source="synthetic")
    with serving(config, root / "api.log") as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.is_file():
        pytest.skip(f"the browser lacks: no {CHROMIUM} (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, api: ApiProcess) -> Iterator[Page]:
    """The page with its first example open; fails on any error in the browser's console."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: assert_local(request.url, api))
    page.goto(api.url)
    expect(page.locator("#report")).to_be_visible(timeout=20_000)
    yield page
    page.close()
    assert [fault for fault in faults if "status of 422" not in fault] == []


def assert_local(url: str, api: ApiProcess) -> None:
    assert url.startswith((api.url, "data:", "blob:")), url


def open_strip(page: Page, **changes: Any) -> None:
    body = json.dumps(strip_json(**changes)).encode()
    page.locator("#file").set_input_files(
        {"name": "strip.json", "mimeType": "application/json", "buffer": body}
    )
    expect(page.locator("#status")).to_contain_text("strip.json:")


def doubt_every_beat(page: Page) -> None:
    """Let the API answer that every beat is V at 52 %, which is inconclusive."""

    def change(route: Route) -> None:
        answer = route.fetch().json()
        for beat in answer["beats"]:
            beat |= {"label": "V", "probability": 0.52, "inconclusive": True}
        answer["counts"] = dict.fromkeys(answer["counts"], 0)
        answer["num_inconclusive_beats"] = len(answer["beats"])
        route.fulfill(json=answer)

    page.route("**/v1/ecg/analyze", change)


def facts(page: Page) -> Locator:
    return page.locator("#facts")


def test_the_notice_stays_in_view(page: Page) -> None:
    notice = page.locator("#notice")
    expect(notice).to_contain_text(NOTICE)
    page.mouse.wheel(0, 5000)
    expect(notice).to_be_in_viewport()


def test_says_what_n_is_and_what_each_mark_means(page: Page) -> None:
    expect(page.locator("footer")).to_contain_text(MEANING_OF_N)
    legend = page.locator("#legend")
    for meaning in ("not ectopic", "supraventricular", "ventricular", "fusion", "unclassifiable"):
        expect(legend).to_contain_text(meaning)


def test_the_legend_tells_inconclusive_from_unreadable(page: Page) -> None:
    for letter, meaning in (
        ("?", "inconclusive: the model may well be wrong here"),
        ("×", "beat in a second that cannot be read"),
    ):
        mark = page.locator("#legend > span", has_text=meaning)
        expect(mark.locator("b")).to_have_text(letter)


def test_an_example_is_drawn_and_says_that_it_is_synthetic(page: Page) -> None:
    expect(facts(page)).to_contain_text("SYNTHETIC ECG")
    assert page.locator("#paper").evaluate(COUNT_DARK) > 2000


def test_states_speed_gain_and_lead(page: Page) -> None:
    scale = page.locator("#scale")
    expect(scale).to_contain_text("25 mm/s, 10 mm/mV")
    open_strip(page, lead="I")
    expect(scale).to_contain_text("Lead I.")


def test_never_says_normal_or_sinus(page: Page) -> None:
    page.locator("#all-beats").check()
    said = page.locator("body").inner_text().lower()
    assert not re.search(r"\b(normal|sinus)\b", said)


def test_an_example_that_is_not_there_gets_a_sentence(page: Page, api: ApiProcess) -> None:
    page.goto(f"{api.url}/?example=nobody")
    expect(page.locator("#status.fault")).to_contain_text("There is no example “nobody”")
    expect(page.locator("#report")).to_be_hidden()


def test_a_file_is_analyzed_drawn_and_listed(page: Page) -> None:
    open_strip(page)
    expect(page.locator("#status")).to_have_text(re.compile(r"strip\.json: \d+ beats\."))
    expect(facts(page)).to_contain_text("/min")
    page.locator("#all-beats").check()
    num_beats = int(re.findall(r"\d+", page.locator("#status").inner_text())[0])
    expect(page.locator("#beats tr")).to_have_count(num_beats)
    assert "V" in page.locator("#beats").inner_text()
    assert page.locator("#paper").evaluate(COUNT_DARK) > 2000


def test_a_strip_without_beats_is_drawn_and_says_so_in_a_sentence(page: Page) -> None:
    open_strip(page, ecg_mv=np.linspace(0, 0.1, 3600).tolist())
    expect(page.locator("#status")).to_have_text(f"strip.json: {NO_BEATS}")
    expect(page.locator("#beats-note")).to_have_text(NO_BEATS)
    expect(facts(page)).to_contain_text("cannot be told")
    page.get_by_role("button", name="ectopic ▶").click()
    assert page.locator("#paper").evaluate(COUNT_DARK) > 500


def test_names_release_and_model_and_links_the_card(page: Page) -> None:
    release = make_release()
    expect(facts(page)).to_contain_text(release.name)
    expect(facts(page)).to_contain_text(release.model_digest[:16])
    facts(page).get_by_role("link", name="card").click()
    expect(page.locator("body")).to_contain_text(f"# {release.name}")


def test_warns_of_synthetic_training_and_of_a_lead_not_validated(page: Page) -> None:
    open_strip(page, lead="I")
    warning = page.locator("#warning")
    expect(warning).to_contain_text("Not validated on lead I")
    expect(warning).to_contain_text("synthetic")


def test_noise_is_told_as_unreadable(page: Page) -> None:
    body = strip_json()
    noise = np.random.default_rng(0).normal(0, 3, 3 * 360)
    body["ecg_mv"][1800:2880] = noise.round(3).tolist()
    open_strip(page, ecg_mv=body["ecg_mv"])
    expect(facts(page)).to_contain_text("85 %")
    first = page.locator("#beats tr.unread").first
    expect(first).to_contain_text("cannot be read")
    expect(first).to_contain_text("×")


def test_an_inconclusive_beat_is_named_with_what_it_may_be_and_is_no_ectopic_beat(
    page: Page,
) -> None:
    doubt_every_beat(page)
    open_strip(page)
    num_beats = int(re.findall(r"\d+", page.locator("#status").inner_text())[0])
    listed = page.locator("#beats tr.unsure")
    expect(listed).to_have_count(num_beats)
    expect(listed.first).to_contain_text(re.compile(r"inconclusive \(V\s52 %\)"))
    expect(facts(page)).to_contain_text(f"{num_beats} more inconclusive")
    summary = page.locator("#paper").get_attribute("aria-label") or ""
    assert re.search(r": (\d+) beats, 0 labelled ectopic, \1 inconclusive", summary)


def test_keys_move_the_strip(page: Page) -> None:
    open_strip(page, **strip_json(120))
    window = page.locator("#window")
    expect(window).to_contain_text("0:00 to")
    page.locator("#paper").press("ArrowRight")
    expect(window).to_contain_text("0:01 to")
    page.locator("#paper").press("End")
    expect(window).to_contain_text("to 2:00 of 2:00")
    page.locator("#paper").press("Home")
    expect(window).to_contain_text("0:00 to")
    before = page.locator("#paper").screenshot()
    page.get_by_role("button", name="ectopic ▶").click()
    assert page.locator("#paper").screenshot() != before


def test_fits_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    expect(page.locator("#window")).not_to_contain_text("to 0:30 of")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 420


def test_a_csv_with_times_gives_its_own_rate(page: Page) -> None:
    strip = strip_json(10)
    lines = ["time_s,ecg_mv", *(f"{i / 360:.6f},{mv}" for i, mv in enumerate(strip["ecg_mv"]))]
    page.locator("#file").set_input_files(
        {"name": "strip.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}
    )
    expect(page.locator("#status")).to_contain_text("strip.csv:")
    expect(facts(page)).to_contain_text("of 0:10 analysed")


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_text_can_be_pasted_and_a_file_dropped(page: Page, kind: str) -> None:
    page.evaluate(
        """([kind, text]) => {
            const carried = new DataTransfer();
            if (kind === "paste") carried.setData("text/plain", text);
            else carried.items.add(new File([text], "dropped.json"));
            const event = kind === "paste"
                ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true })
                : new DragEvent("drop", { dataTransfer: carried, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        [kind, json.dumps(strip_json(10))],
    )
    expected = "pasted text: " if kind == "paste" else "dropped.json: "
    expect(page.locator("#status")).to_contain_text(expected)
    expect(facts(page)).to_contain_text("of 0:10 analysed")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "one column"),
        (b"a,b,c\n1,2,3", "one column"),
        (b"{", "no JSON"),
        (b'{"fs_hz": 250}', "ecg_mv"),
        (b'{"ecg_mv": [0, 0, 0], "fs_hz": 250, "lead": "I"}', "too short"),
        (b'{"ecg_mv": [1], "fs_hz": 250, "lead": "<img src=x onerror=alert(1)>"}', "lead"),
    ],
)
def test_a_file_that_is_no_strip_gets_a_sentence(page: Page, content: bytes, sentence: str) -> None:
    page.locator("#file").set_input_files(
        {"name": "bad.json", "mimeType": "application/json", "buffer": content}
    )
    expect(page.locator("#status.fault")).to_contain_text(sentence)
    expect(page.locator("#report")).to_be_hidden()


def test_the_api_reader_works_offline(page: Page, api: ApiProcess) -> None:
    page.goto(f"{api.url}/docs")
    expect(page.locator("#routes")).to_contain_text("POST /v1/ecg/analyze")
