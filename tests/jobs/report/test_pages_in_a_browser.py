"""Both reports as a browser shows them: whole, without an error, wide and narrow, light and dark."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.bench.results import save
from jobs.compare import compare
from jobs.report import write_report
from tests.jobs.bench.made import result, save_three, setup
from tests.jobs.report.recorded import A, B, record, summary, ticks

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium on this machine")

VIEWS = list(itertools.product((1280, 400), ("light", "dark")))

_LOOK = """() => {
  const box = each => each.getBoundingClientRect();
  const seen = each => box(each).width > 0 && box(each).height > 0;
  const colours = getComputedStyle(document.body);
  return {
    wide: document.documentElement.scrollWidth,
    charts: [...document.querySelectorAll('svg')].filter(svg => svg.querySelector('path.line')).length,
    empty: [...document.querySelectorAll('svg')]
      .filter(svg => ![...svg.querySelectorAll('path.line, path.bar')].some(each => box(each).width > 0))
      .map(svg => svg.getAttribute('aria-label')),
    bars: [...document.querySelectorAll('path.bar')].filter(seen).length,
    outside: [...document.querySelectorAll('path, text')]
      .filter(each => box(each).right > box(each.ownerSVGElement).right + 1
        || box(each).left < box(each.ownerSVGElement).left - 1)
      .map(each => each.outerHTML),
    same: [...document.querySelectorAll('svg [id]')].length,
    ink: colours.color, page: colours.backgroundColor,
    text: document.body.innerText,
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=_CHROMIUM)
        yield browser
        browser.close()


def show(browser: Any, page: Path, width: int, scheme: str) -> dict[str, Any]:
    """What the page looks like; fails if it says anything on the console or asks for anything."""
    shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("request", lambda request: complaints.append(request.url) if request.url != page.as_uri() else None)
    shown.goto(page.as_uri())
    found: dict[str, Any] = shown.evaluate(_LOOK)
    shown.close()
    assert not complaints
    assert found["wide"] <= width, "the page itself does not scroll sideways"
    assert not found["empty"], "a chart without a mark"
    assert not found["outside"], "a mark or a word that is cut off"
    assert not found["same"], "an id that another chart may have too"
    light_ink, light_page = (sum(map(int, found[each][4:-1].split(","))) for each in ("ink", "page"))
    assert (light_ink < light_page) is (scheme == "light")
    return found


def test_the_report_of_a_run(browser: Any, tmp_path: Path) -> None:
    record(tmp_path, ticks(30, A, B))
    write_report(tmp_path, summary(), {"Machine": {"memory": "24 GiB"}})
    for width, scheme in VIEWS:
        found = show(browser, tmp_path / "report.html", width, scheme)
        assert found["charts"] == 6
        assert "PAR1" not in found["text"], "the empty part at the page's end is a comment"


@pytest.mark.parametrize("count", [0, 1, 50])
def test_the_comparison(browser: Any, tmp_path: Path, count: int) -> None:
    if count == 1:
        save(tmp_path, "sync_1", result("sync", 500.0))
    for number in range(count // 3):
        save_three(tmp_path, f"2026-11-{1 + number:02} 03:36:56 UTC", f"{number:02}")
    for number in range(count % 3 if count > 1 else 0):
        of = setup(f"2026-11-24 0{number}:00:00 UTC", model="a-model-with-quite-a-long-name/" * 3)
        save(tmp_path, f"async_more_{number}", result("async", 100.0, 900.0, of=of))
    compare(tmp_path, tmp_path / "page.html")
    for width, scheme in VIEWS:
        found = show(browser, tmp_path / "page.html", width, scheme)
        assert f"{count} result" in found["text"]
        assert found["bars"] == {0: 0, 1: 2, 50: 2 * (2 * 16 + 2)}[count]
        assert found["charts"] == 6 * min(count, 4)
