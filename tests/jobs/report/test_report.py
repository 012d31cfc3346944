"""The report: a whole page, with the right numbers, whatever was recorded and however things are named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.report import write_report
from jobs.report.charts import SHEET, Axis, lay_out
from jobs.report.page import Facts
from jobs.summary import Summary
from tests.jobs.report.pages import Element, Page, points, words
from tests.jobs.report.recorded import A, B, record, summary, tick, ticks

LAST = ("GPU utilisation", "Latency in ms")


NOTHING_LEFT = summary(
    rows_embedded=0,
    rows_resumed=1_000_000,
    rows_truncated=0,
    unique_texts=0,
    rows_fanned_out=0,
    tokens=0,
    seconds=0.0,
    rows_per_s=0.0,
    tokens_per_s=0.0,
    requests=0,
    retries=0,
    errors={},
    gpu_util_mean=None,
    gpu_util_p10=None,
    gpu_source=None,
    endpoints=(),
    bound_by=None,
    advice="every row was there already",
)


def report(out: Path, of: Summary | None = None, about: Facts | None = None) -> Page:
    write_report(out, of or summary(), about)
    return Page((out / "report.html").read_text("utf-8"))


def drawn(page: Page, chart: str) -> list[Element]:
    return page.drawn(chart, "line")


def px(axis: Axis, t: float) -> float:
    """Where a time of the first stretch is."""
    return SHEET.left + t / axis.whole * SHEET.across


def test_says_what_the_run_did(tmp_path: Path) -> None:
    record(tmp_path, ticks(30, A, B))
    page = report(tmp_path)
    assert page.all("h1")[0].text == "BAAI/bge-base-en-v1.5"
    assert page.all("title")[0].text == "BAAI/bge-base-en-v1.5: complete"
    assert page.all("strong")[0].text == "Bound by the server"
    assert "GPU 93% busy: the server is the limit." in page.text
    assert page.tiles() == {
        "Rows per second": "11,111 1,000,000 rows",
        "Tokens per second": "688,889 62M in 380k distinct texts",
        "Time": "1 min 30 s first lease to last part",
        "GPU utilisation": "93% mean; p10 88%; by nvml",
        "Requests": "1,234 7 retries",
        "Errors": "7 overloaded 5, transport 2",
        "Rejected rows": "0 of 1M",
        "CPU seconds": "24.5 24.5 per million rows",
    }
    table = [cell.text for cell in page.all("td")[:10]]
    assert table == [A, "600,000", "60%", "64", "1,024", B, "400,000", "40%", "32", "512"]
    assert page.charts() == [
        "Rows per second",
        "Requests in flight",
        "Texts in one request",
        "Tokens in one request",
        *LAST,
    ]


def test_needs_nothing_from_outside(tmp_path: Path) -> None:
    record(tmp_path, ticks(30, A, B))
    page = report(tmp_path)
    loading = {"src", "href", "xlink:href", "srcset", "data", "action"}
    assert not [element for element in page.elements if loading & element.attributes.keys()]
    assert not {"script", "link", "img", "iframe", "object"} & {element.tag for element in page.elements}
    assert not re.search(r"@import|url\(", page.all("style")[0].text)


@pytest.mark.parametrize(
    ("changes", "badge", "look"),
    [
        ({}, "complete", "good"),
        ({"rows_embedded": 999_988, "rows_rejected": 12}, "complete, 12 rejected", "fair"),
        ({"complete": False, "rows_embedded": 400_000}, "not complete", "poor"),
    ],
)
def test_outcome(tmp_path: Path, changes: dict[str, Any], badge: str, look: str) -> None:
    found = report(tmp_path, summary(**changes)).all("span", "badge")[0]
    assert (found.text, look in words(found)) == (badge, True)


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    page = report(tmp_path, summary(complete=False, rows_embedded=400_000, rows_resumed=100_000, rows_rejected=12))
    for said in ("400,000 embedded by this run", "100,000 already there", "12 rejected", "499,988 to do"):
        assert said in page.text
    assert "_rejects/" in page.text


def test_nothing_left_to_do_and_nothing_recorded(tmp_path: Path) -> None:
    page = report(tmp_path, NOTHING_LEFT)
    assert page.all("strong")[0].text == "Nothing was left to do"
    assert "Every row was there already." in page.text
    assert "nothing was recorded" in page.text
    assert not page.all("svg")
    assert not page.all("dl"), "a table of zeros says nothing"


def test_nothing_left_to_do_keeps_the_time_lines_of_the_runs_before(tmp_path: Path) -> None:
    record(tmp_path, ticks(30, A, B))
    assert len(report(tmp_path, NOTHING_LEFT).charts()) == 6


def test_a_single_tick_is_visible(tmp_path: Path) -> None:
    record(tmp_path, [tick(0.5, A)])
    (line,) = drawn(report(tmp_path), "Rows per second")
    (left, y), (right, same) = points(line)
    assert (right - left, same) == (pytest.approx(6, abs=0.2), y)


def test_no_input(tmp_path: Path) -> None:
    nothing = replace(NOTHING_LEFT, rows_total=0, rows_resumed=0)
    assert "0 rows → 768-dimensional vectors" in report(tmp_path, nothing).text


def test_no_gpu_seen(tmp_path: Path) -> None:
    record(tmp_path, ticks(10, A, gpu_util=None, gpu_source=None))
    page = report(tmp_path, summary(gpu_util_mean=None, gpu_util_p10=None, gpu_source=None))
    assert page.tiles()["GPU utilisation"].startswith("no GPU seen")
    assert "no GPU was seen" in [note.text for note in page.all("span")]
    assert "GPU utilisation" not in page.charts()


def test_a_run_too_short_for_a_mean_still_says_that_a_gpu_was_seen(tmp_path: Path) -> None:
    record(tmp_path, ticks(5, A))
    page = report(tmp_path, summary(gpu_util_mean=None, gpu_util_p10=None))
    assert page.tiles()["GPU utilisation"].startswith("seen by nvml")
    assert "GPU utilisation" in page.charts()


HOSTILE = """$\\frac$ 向量\x1b</style><script>alert("1")</script>&amp;'"<b onclick=x>{{ 7 * 7 }}"""


def test_names_are_text_wherever_they_appear(tmp_path: Path) -> None:
    out = tmp_path / 'it\'s <b>"quoted" & {{ out }}'
    out.mkdir()
    url = f"http://{HOSTILE}/v1"
    for name in ("first", HOSTILE.replace("/", "")):
        record(out, ticks(5, url, decision=HOSTILE, gpu_source=HOSTILE, errors={HOSTILE: 1}), name)
    endpoint = {"url": url, "rows": 5, "share": 1.0, "concurrency": 1, "batch_size": 1}
    page = report(
        out,
        summary(
            model=HOSTILE,
            advice=HOSTILE,
            bound_by=HOSTILE,
            gpu_source=HOSTILE,
            errors={HOSTILE: 1},
            endpoints=(endpoint,),
        ),
    )
    assert {element.tag for element in page.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer"),
        *("h1", "h2", "h3", "p", "span", "small", "strong", "b", "s", "i", "code", "pre"),
        *("div", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
        *("figure", "figcaption", "svg", "path", "text"),
    }
    assert not [element for element in page.elements if "onclick" in element.attributes]
    assert page.all("h1")[0].text == HOSTILE
    assert page.all("td", "url")[0].text == url
    assert page.all("td", "why")[0].text == HOSTILE
    assert [each.text for each in page.drawn("Rows per second", "start")] == ["$\\frac$ 向量\ufffd<style…", "first"]
    assert url in [element.attributes.get("title") for element in page.elements]
    assert str(out) in page.text


def test_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    out.mkdir()
    assert "caf\ufffd" in report(out).text


def test_the_code_reads_the_vectors(tmp_path: Path) -> None:
    out = tmp_path / 'it\'s "here"'
    out.mkdir()
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"id": [0, 1], "embedding": vectors}), out / "part-00000-000000000000.parquet")
    page = report(out)
    found: dict[str, Any] = {}
    exec(page.all("pre")[0].text, found)
    assert found["table"].column("id").to_pylist() == [0, 1]


def test_is_published_whole(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("an older one")
    report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    file = record(tmp_path, ticks(10, A, B))
    file.write_bytes(file.read_bytes()[:-40])
    assert len(report(tmp_path).charts()) == 6


@pytest.mark.parametrize("torn", [b"", b'{"t": 0.5, "endp', b"\xff\xfe\x00", b"[1]\n{}\n"])
def test_files_without_a_line(tmp_path: Path, torn: bytes) -> None:
    record(tmp_path, []).write_bytes(torn)
    assert "nothing was recorded" in report(tmp_path).text


def test_a_line_has_its_height(tmp_path: Path) -> None:
    record(tmp_path, ticks(30, A, gpu_util=0.25, inflight=8, limit=16))
    page = report(tmp_path)
    quarter = SHEET.floor - 0.25 * (SHEET.floor - SHEET.top)
    (gpu,) = drawn(page, "GPU utilisation")
    assert {y for _, y in points(gpu)} == {round(quarter, 1)}
    flying, limit = drawn(page, "Requests in flight")
    assert "dashed" in words(limit)
    assert "dashed" not in words(flying)
    half, whole = points(flying)[0][1], points(limit)[0][1]
    assert SHEET.floor - half == pytest.approx((SHEET.floor - whole) / 2, abs=0.1)


def test_each_endpoint_has_its_colour(tmp_path: Path) -> None:
    record(tmp_path, [*ticks(20, A, rows_per_s=3000.0, limit=4), *ticks(20, B, rows_per_s=1000.0, limit=8)])
    page = report(tmp_path)
    first, second, both = drawn(page, "Rows per second")
    assert words(both)[-1] == "whole"
    heights = [SHEET.floor - points(line)[0][1] for line in (first, second, both)]
    assert heights[1] == pytest.approx(heights[0] / 3, abs=0.1)
    assert heights[2] == pytest.approx(heights[0] + heights[1], abs=0.2)
    keys = {
        str(key.attributes["title"]): words(line)[-1]
        for key, line in zip(page.all("span", "name"), page.all("i", "line"), strict=True)
    }
    assert keys == {A: words(first)[-1], B: words(second)[-1]}
    assert len(set(keys.values())) == 2


def test_a_gpu_of_its_own_is_a_line_of_its_own(tmp_path: Path) -> None:
    record(tmp_path, [*ticks(20, A, gpu_util=0.2), *ticks(20, B, gpu_util=0.8)])
    assert len(drawn(report(tmp_path), "GPU utilisation")) == 2
    record(tmp_path, ticks(20, A, B))
    assert len(drawn(report(tmp_path), "GPU utilisation")) == 1


def test_failed_requests_are_marked_where_they_failed(tmp_path: Path) -> None:
    lines = [tick(t / 2, A, errors={"overloaded": 2} if t in (20, 21) else {}) for t in range(1, 101)]
    record(tmp_path, lines)
    (marks,) = report(tmp_path).all("path", "mark")
    axis = lay_out(["one"], [50.0])
    at = {x for x, _ in points(marks)}
    assert len(at) in (1, 2)
    assert all(x == pytest.approx(px(axis, 10.25), abs=5) for x in at)
    assert {y for _, y in points(marks)} == {SHEET.floor, min(y for _, y in points(marks))}
    record(tmp_path, ticks(50, A))
    assert not report(tmp_path).all("path", "mark")


def test_no_line_is_drawn_where_nothing_was_recorded(tmp_path: Path) -> None:
    record(tmp_path, [tick(t / 2, A) for t in range(1, 200) if not 60 < t < 120])
    for chart in ("Rows per second", "GPU utilisation"):
        (line,) = drawn(report(tmp_path), chart)
        assert (line.attributes["d"] or "").count("M") == 2


def test_latencies_have_their_heights_and_none_where_no_request_ended(tmp_path: Path) -> None:
    record(
        tmp_path,
        [tick(t / 2, A, p50_ms=None if t < 40 else 100.0, p99_ms=None if t < 40 else 400.0) for t in range(1, 80)],
    )
    usual, slowest = drawn(report(tmp_path), "Latency in ms")
    assert "dashed" in words(slowest)
    assert SHEET.floor - points(usual)[0][1] == pytest.approx((SHEET.floor - points(slowest)[0][1]) / 4, abs=0.1)
    axis = lay_out(["one"], [39.5])
    assert points(usual)[0][0] == pytest.approx(px(axis, 20), abs=1)
    record(tmp_path, ticks(30, A, p50_ms=None, p99_ms=None))
    assert "Latency in ms" not in report(tmp_path).charts()


def test_decisions_are_marked_when_they_were_made(tmp_path: Path) -> None:
    record(tmp_path, [tick(t / 2, A, limit=8 if t < 20 else 16) for t in range(1, 81)])
    page = report(tmp_path)
    marks = page.all("path", "turn")
    assert len(marks) == 3, "in the charts of what they changed"
    axis = lay_out(["one"], [40.0])
    _, _, (tip, _) = points(marks[0])
    assert tip == pytest.approx(px(axis, 10), abs=2)
    assert "▾ it changed a setting" in page.text
    limit = points(drawn(page, "Requests in flight")[1])
    assert len({y for _, y in limit}) == 2
    assert all(x == right or y == above for (x, y), (right, above) in pairwise(limit)), (
        "a setting holds, then jumps"
    )
    record(tmp_path, ticks(40, A))
    assert not report(tmp_path).all("path", "turn")


def test_machine_and_settings_stand_there_as_text(tmp_path: Path) -> None:
    page = report(tmp_path, about={"Machine": {"memory": "24 GiB"}, "Settings": {"mode": "<b>async</b>"}})
    assert "Machine and settings" in [title.text for title in page.all("h2")]
    assert "memory24 GiB" in page.text
    assert "<b>async</b>" in page.text


def test_runs_are_joined_with_a_gap(tmp_path: Path) -> None:
    record(tmp_path, ticks(40, A), "20261122T090000.000000Z")
    record(tmp_path, ticks(40, A), "20261123T140000.000000Z")
    page = report(tmp_path)
    assert "2 runs into this folder" in page.text
    assert [each.text for each in page.all("text", "start")[:2]] == ["2026-11-22 09:00", "2026-11-23 14:00"]
    before, after = (points(line) for line in drawn(page, "Rows per second"))
    assert before[-1][0] + 8 < after[0][0]
    assert [cell.text for cell in page.all("td") if cell.text.startswith("2026-")] == [
        "2026-11-22 09:00",
        "2026-11-23 14:00",
    ]


def test_of_very_many_runs_the_latest_are_drawn(tmp_path: Path) -> None:
    for day in range(1, 26):
        record(tmp_path, ticks(5, A), f"202611{day:02}T090000.000000Z")
    page = report(tmp_path)
    assert "20 runs into this folder" in page.text
    assert "the latest of 25" in page.text
    assert len(drawn(page, "Rows per second")) == 20


def test_decisions_are_the_changes_and_the_latest_of_them(tmp_path: Path) -> None:
    lines = [tick(t / 2, A, limit=8 + t // 10, decision=f"why {t // 10}") for t in range(1, 500)]
    record(tmp_path, lines)
    page = report(tmp_path)
    why = [cell.text for cell in page.all("td", "why")]
    assert why == [f"why {number}" for number in range(20, 50)]
    assert "the last 30 of 50 changes" in page.text
    assert "56 → 57" in page.text


def test_settings_that_never_move_are_listed_once(tmp_path: Path) -> None:
    record(tmp_path, ticks(50, A, B))
    assert len(report(tmp_path).all("td", "why")) == 2


def test_a_long_run_is_thinned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = iter(rng.uniform(0, 1, 100_000))
    long = (
        tick(step / 2, url, rows_per_s=9000 * next(noise), inflight=int(64 * next(noise)), gpu_util=next(noise))
        for step in range(1, 12_001)
        for url in (A, B)
    )
    record(tmp_path, long)
    page = report(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 150_000
    for chart in page.charts():
        for line in drawn(page, chart):
            assert len(points(line)) <= 301
    assert len(points(drawn(page, "Rows per second")[0])) >= 250
    (line, _), (band, _) = (page.drawn("GPU utilisation", look) for look in ("line", "band"))
    line_low, line_high, band_low, band_high = (
        each(y for _, y in points(of)) for of in (line, band) for each in (min, max)
    )
    assert band_low < line_low < line_high < band_high, "between the extremes of what a point stands for"


def test_many_endpoints_are_all_listed_and_the_busiest_drawn(tmp_path: Path) -> None:
    urls = [f"http://gpu-{number:02}:8000/v1" for number in range(40)]
    record(
        tmp_path,
        (
            tick(t / 2, url, rows_per_s=100.0 * (n % 13), limit=8 + t // 2)
            for t in range(1, 301)
            for n, url in enumerate(urls)
        ),
    )
    listed = tuple({"url": url, "rows": 1, "share": 0.025, "concurrency": 1, "batch_size": 1} for url in urls)
    page = report(tmp_path, summary(endpoints=listed))
    assert [cell.text for cell in page.all("td", "url")[:40]] == urls
    keys = {str(key.attributes["title"]) for key in page.all("span", "name")}
    assert {f"http://gpu-{number}:8000/v1" for number in (12, 25, 38, 11, 24, 37)} < keys
    assert len(keys) == 8
    assert "the 8 busiest of 40 endpoints" in page.text
    assert "Rows per second, all endpoints together" in page.charts()
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_only_who_draws_loads_matplotlib(tmp_path: Path) -> None:
    """Its import takes longer than all of the command's own modules."""
    code = "import sys, jobs.__main__, jobs.run, jobs.compare; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    record(tmp_path, ticks(5, A))
    report(tmp_path)
    assert {"matplotlib.figure"} <= sys.modules.keys()
    assert "matplotlib.pyplot" not in sys.modules
