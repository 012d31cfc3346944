"""The page that compares results: the right numbers, whatever the folder holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.errors import UserError
from jobs.bench.results import save
from jobs.bench.vectors import Agreement, Difference
from jobs.compare import compare
from tests.jobs.bench.made import compared, result, save_three, setup
from tests.jobs.report.pages import BARS, Element, Page, points


def page_of(folder: Path) -> Page:
    compare(folder, folder / "page.html")
    return Page((folder / "page.html").read_text("utf-8"))


def rows(page: Page, title: str) -> list[list[str]]:
    """The cells of the table that follows this headline."""
    found: list[list[str]] = []
    inside = False
    for element in page.elements:
        if element.tag == "h2":
            inside = element.text.startswith(title)
        elif inside and element.tag == "tr":
            found.append([])
        elif inside and element.tag == "td":
            found[-1].append(" ".join(element.text.split()))
    return [row for row in found if row]


def bars(page: Page, title: str) -> list[tuple[str, float]]:
    """What is said beside each bar, and its share of the width."""
    values, looks, (track, *_) = (page.drawn(f"{title} {BARS}", look) for look in ("value", "bar", "track"))
    return [(value.text, _width(bar) / _width(track)) for value, bar in zip(values, looks, strict=True)]


def _width(path: Element) -> float:
    x = [x for x, _ in points(path)]
    return max(x) - min(x)


def test_the_latest_comparison_comes_first(tmp_path: Path) -> None:
    save_three(tmp_path)
    page = page_of(tmp_path)
    assert page.all("strong")[0].text == "Async embeds 8.5 times as many rows a second, 8.0 to 9.0"
    assert "Median of 2 pairs of runs; their range holds the true one with 50% confidence." in page.text
    assert "GPU utilisation 25% with sync, 98% with async." in page.text
    assert "Vectors: the same in both, bit for bit (15,000 rows)." in page.text
    assert rows(page, "Comparisons") == [
        [
            *("2026-11-24 03:36", "15,000", "1,0501,000 to 1,100", "8,9008,800 to 9,000", "8.58.0 to 9.0"),
            *("8.58.0 to 9.0", "2", "25%", "98%", "the same"),
        ]
    ]
    share = partial(pytest.approx, abs=0.001)
    assert bars(page, "Rows per second") == [("1,050", share(0.1167)), ("8,900", share(0.9889))]
    assert bars(page, "GPU utilisation") == [("25%", share(0.25)), ("98%", share(0.98))]
    slow, fast = page.drawn(f"Rows per second {BARS}", "spread")
    whole = _width(page.drawn(f"Rows per second {BARS}", "track")[0])
    assert (_width(slow) / whole, _width(fast) / whole) == (share(100 / 9000), share(200 / 9000))
    batch = ["Texts in one request", "Tokens in one request"]
    charts = ["Rows per second", "Requests in flight", *batch, "GPU utilisation", "Latency in ms"]
    assert page.charts() == 2 * charts
    assert "24 GiB" in page.text
    assert "vLLM" in page.text


def test_an_empty_folder(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert page.all("strong")[0].text == "No results yet"
    assert "0 results" in page.text
    assert not page.all("table")
    assert page_of(tmp_path).text == page.text, "the page itself is no result"


def test_one_result(tmp_path: Path) -> None:
    save(tmp_path, "async_1", result("async", 500.0, gpu=None))
    page = page_of(tmp_path)
    assert page.all("strong")[0].text == "Nothing is compared yet"
    assert bars(page, "Rows per second") == [("500", 1.0)]
    assert len(page.all("svg")) == len(page.charts()) + 1, "no bars of GPU utilisation: none was seen"
    assert len(rows(page, "Results")) == 1


def test_fifty_results(tmp_path: Path) -> None:
    for number in range(50):
        memory = {"memory": f"{[24, 64][number % 2]} GiB"}
        of = setup(f"2026-11-{1 + number // 5:02} {number % 5:02}:00:00 UTC", machine=memory)
        save(tmp_path, f"async_{number:02}", result("async", 1000.0 + number, of=of))
    page = page_of(tmp_path)
    assert "50 results" in page.text
    table = rows(page, "Results")
    assert len(table) == 50
    assert [row[1] for row in table[:2]] == ["2026-11-10 04:00", "2026-11-10 03:00"]
    assert [row[-1] for row in table[:2]] == ["2", "1"], "which of the two machines"
    assert len(page.charts()) == 4 * 6
    assert "Time lines of 4 of 50 results are drawn" in page.text
    assert (tmp_path / "page.html").stat().st_size < 400_000


def test_of_very_many_results_the_latest_have_bars(tmp_path: Path) -> None:
    for number in range(70):
        of = setup(f"2026-11-24 {number // 60:02}:{number % 60:02}:00 UTC")
        save(tmp_path, f"sync_{number:02}", result("sync", 1000.0, of=of, seconds=1.0))
    assert "the latest 60 of 70" in page_of(tmp_path).text


def test_other_vectors_are_shouted(tmp_path: Path) -> None:
    wrong = Agreement(rows=9, identical=8, differing=1, least_cosine=0.1, worst=(Difference(id=7, cosine=0.1),))
    save(tmp_path, "comparison_1", compared(result("sync", 1.0), result("async", 2.0), wrong))
    page = page_of(tmp_path)
    assert "NOT the same: 1 of 9 rows have another vector" in page.text
    assert rows(page, "Comparisons")[0][-1] == "NOT the same"


HOSTILE = """$\\frac$ 向量\x1b</style><script>alert("1")</script>&amp;'"<b onclick=x>{{ 7 * 7 }}"""


def test_names_are_text_wherever_they_appear(tmp_path: Path) -> None:
    save_three(
        tmp_path,
        started=HOSTILE,
        name=HOSTILE.replace("/", ""),
        model=HOSTILE,
        corpus=HOSTILE,
        machine={HOSTILE: HOSTILE},
        servers={HOSTILE: {HOSTILE: HOSTILE}},
    )
    (tmp_path / HOSTILE.replace("/", "")).write_text("x")
    page = page_of(tmp_path)
    assert not {"script", "img", "link"} & {element.tag for element in page.elements}
    assert not [element for element in page.elements if "onclick" in element.attributes]
    assert HOSTILE in [element.attributes.get("title") for element in page.elements] + [
        element.text for element in page.elements
    ]
    assert page.drawn(f"Rows per second {BARS}", "more")[0].text == "15k rows, $\\frac$ 向量\ufffd</styl…"
    assert len(rows(page, "Skipped")) == 1


def test_needs_nothing_from_outside(tmp_path: Path) -> None:
    save_three(tmp_path)
    page = page_of(tmp_path)
    loading = {"src", "href", "xlink:href", "srcset", "data", "action"}
    assert not [element for element in page.elements if loading & element.attributes.keys()]
    assert not re.search(r"@import|url\(", page.all("style")[0].text)


def test_the_command_says_where_it_is(rayembed: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "quick_test_results"
    save_three(folder)
    (folder / "half.json").write_text('{"schema"')
    command = rayembed("compare", own_ray=True)
    assert command.wait() == 0, command.err
    assert command.out == f"report: {(tmp_path / 'comparison_report.html').as_uri()} (3 results)\n"
    assert command.err == "skipped 'half.json': not whole: Input data was truncated\n"
    assert (tmp_path / "comparison_report.html").stat().st_size > 10_000
    command = rayembed("compare", "quick_test_results", "-o", "other.html", "--json", own_ray=True)
    assert command.wait() == 0, command.err
    said = json.loads(command.out)
    assert said["report"].endswith("/other.html")
    assert len(said["results"]) == 3
    assert list(said["skipped"]) == ["half.json"]


def test_no_folder_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rayembed bench --mode both makes one"):
        compare(tmp_path / "nowhere", tmp_path / "page.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot read the folder"):
        compare(tmp_path / "file", tmp_path / "page.html")
    with pytest.raises(UserError, match="cannot write"):
        compare(tmp_path, tmp_path / "file" / "page.html")
