"""The page in a headless Chromium: it loads nothing, says nothing on the console, and axe-core
finds nothing that keeps people from reading it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from chromium import Chromium, find_chromium
from effbert.runtime.commands import effbert

pytestmark = pytest.mark.slow
AXE = Path(__file__).resolve().parents[2] / "browser/node_modules/axe-core/axe.min.js"
REQUIRED = "EFFBERT_BROWSER_TESTS"  # set by .ci/run: then nothing here may be skipped
SIZES = [(1280, False), (1280, True), (390, False), (390, True)]
VIOLATIONS = """
axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(
    each => `${each.impact} ${each.id}: ${each.nodes.map(node => node.html).join(" | ")}`))
"""

INTRUDER = """
window.ran = 0;
document.body.insertAdjacentHTML(
    "beforeend", '<img src="http://127.0.0.1:9/x.png" onerror="window.ran = 1">');
new Promise(done => setTimeout(done, 200))
"""


def require(there: object, what: str) -> None:
    """Skip the test without what it needs; fail where that must be there."""
    if there:
        return
    if os.environ.get(REQUIRED):
        pytest.fail(f"there is no {what}")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    require(program, "Chromium (apt-get install chromium)")
    assert program is not None
    with Chromium(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(
    reported: Callable[[str], tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The address of a page that shows everything."""
    bundle, data = reported("entropy")
    path = tmp_path_factory.mktemp("page") / "page.html"
    command = ["report", str(bundle), "--data", str(data), "--output", str(path), "--threads", "1"]
    assert CliRunner().invoke(effbert, command).exit_code == 0
    return path.as_uri()


@pytest.mark.parametrize("width, dark", SIZES)
def test_the_page_opens_quietly_and_asks_for_nothing(
    width: int, dark: bool, browser: Chromium, page: str
) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.show(page, width, 800, dark)
    drawn = browser.evaluate("[...document.images].map(each => each.naturalWidth)")
    assert len(drawn) == 6
    assert min(drawn) > 0
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("data:image/")} == {page}
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_the_policy_of_the_page_stops_what_should_not_be_there(
    browser: Chromium, page: str
) -> None:
    browser.show(page, 1280, 800)
    browser.requests.clear()
    browser.evaluate(INTRUDER)
    assert browser.evaluate("window.ran") == 0
    assert any("Content Security Policy" in each for each in browser.complaints)
    browser.complaints.clear()


@pytest.mark.parametrize("width, dark", SIZES)
def test_axe_finds_nothing_serious(width: int, dark: bool, browser: Chromium, page: str) -> None:
    require(AXE.exists(), "axe-core (npm ci --prefix tests/browser)")
    browser.show(page, width, 800, dark)
    browser.evaluate(AXE.read_text(encoding="utf-8"))
    assert browser.evaluate(VIOLATIONS) == []


def test_a_dark_screen_gets_dark_plots_and_paper_light_ones(browser: Chromium, page: str) -> None:
    shown = "getComputedStyle(document.body).backgroundColor + document.images[0].currentSrc"
    browser.show(page, 1280, 800, dark=True)
    dark = browser.evaluate(shown)
    browser.show(page, 1280, 800)
    light = browser.evaluate(shown)
    assert dark != light
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.send("Emulation.setEmulatedMedia", media="print", features=features)
    browser.evaluate("new Promise(done => setTimeout(done, 200))")
    assert browser.evaluate(shown) == light
