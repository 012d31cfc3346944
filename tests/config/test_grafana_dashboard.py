"""The dashboard: what Grafana would load, every query of which names a metric that is told."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from actors.driver.metrics import METRICS

DASHBOARD = json.loads((Path(__file__).parents[2] / "config/grafana_dashboard.json").read_text("utf-8"))
EXPORTED = {metric.exported: metric for metric in METRICS.values()}
LABELS = {"output", "endpoint", "class", "quantile", "by"}


def queries() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [each["definition"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    return panels + variables


def test_every_query_names_a_metric_that_exists_and_every_metric_is_shown() -> None:
    named = {name for query in queries() for name in re.findall(r"\bray_\w+", query)}
    assert named == EXPORTED.keys()
    assert all(re.search(r"\bray_\w+", query) for query in queries())


def test_a_counter_is_shown_as_a_rate_and_nothing_else_is() -> None:
    for query in queries():
        for name in re.findall(r"\bray_\w+", query):
            assert (f"rate({name}{{" in query) is EXPORTED[name].counts, query


def test_labels_are_those_of_the_metric() -> None:
    for query in queries():
        (name,) = re.findall(r"\bray_\w+", query)
        grouped = [label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")]
        filtered = re.findall(r"(\w+)=~", query)
        assert set(grouped + filtered) <= {"output", *EXPORTED[name].tags}, query
        assert set(grouped + filtered) <= LABELS


def test_the_variables_that_are_used_are_there() -> None:
    names = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used - {"__rate_interval"} <= names


def test_panels_stand_beside_each_other() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
