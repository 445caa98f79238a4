"""The Grafana dashboard asks only for metrics that an edge node has, and shows all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from edge.archivist import Archivist
from edge.broker_watch import BrokerMeters
from edge.disk import Limits
from edge.ledger import Ledger
from edge.metrics import Meters
from edge.overview import OverviewMeters

DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "edge.json"
METRIC = re.compile(r"\bpulsering_[a-z_]+\b")
SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def registry(folder: Path) -> CollectorRegistry:
    """As `edge.service` fills it."""
    made = Meters().registry
    OverviewMeters(made, Limits(0, 0))
    BrokerMeters(made)
    ledger = Ledger(folder)
    Archivist(ledger, 1, folder, made)
    ledger.close()
    return made


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


def asked(dashboard: dict[str, Any]) -> set[str]:
    return {name for text in expressions(dashboard) for name in METRIC.findall(text)}


def exposed(folder: Path) -> set[str]:
    """Names of samples, as /metrics would show them; of labelled metrics without children too."""
    names = set()
    for family in registry(folder).collect():
        names.add(family.name + ("_total" if family.type == "counter" else ""))
        if family.type == "histogram":
            names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def test_every_metric_that_a_panel_asks_for_exists(
    dashboard: dict[str, Any], tmp_path: Path
) -> None:
    assert asked(dashboard) <= exposed(tmp_path)


def test_every_metric_is_on_a_panel(dashboard: dict[str, Any], tmp_path: Path) -> None:
    shown = {SUFFIX.sub("", name) for name in asked(dashboard)}
    assert {SUFFIX.sub("", name) for name in exposed(tmp_path)} <= shown


def test_labels_that_a_panel_selects_exist(dashboard: dict[str, Any], tmp_path: Path) -> None:
    known = {"instance", "le"}
    for family in registry(tmp_path)._collector_to_names:  # labels of metrics without children
        known |= set(getattr(family, "_labelnames", ()))
    used = {
        label
        for text in expressions(dashboard)
        for label in re.findall(r"by \((\w+)\)|[{,](\w+)[=!]", text)
        for label in label
        if label
    }
    assert used <= known


def test_panels_have_what_grafana_needs_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] >= 36  # Grafana 10 reads these and migrates
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["refId"] for target in panel["targets"])


def test_queries_have_balanced_brackets(dashboard: dict[str, Any]) -> None:
    for text in expressions(dashboard):
        for opening, closing in ("()", "[]", "{}"):
            assert text.count(opening) == text.count(closing), text
