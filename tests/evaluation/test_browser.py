"""The page in a browser: sorting, the slider, widths, both colour schemes, accessibility, and that it loads nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from made_reports import full_report, some_controls
from playwright.sync_api import Browser, Page, sync_playwright

from hilum.evaluation.page import write_report

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = full_report(controls=some_controls())
    report["findings"]["Mass"]["curve"] = {
        "false_positive_rate": [0.0, 0.0, 0.25, 1.0],
        "true_positive_rate": [0.0, 0.5, 0.75, 1.0],
        "precision": [None, 1.0, 0.290323, 0.12],
        "threshold": [None, 0.6, 0.4, 0.1],
    }
    folder = tmp_path_factory.mktemp("report")
    write_report(report, folder)
    return folder / "report.html"


def opened(browser: Browser, file: Path, *, width: int = 1280, **context: Any) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, **context)
    page.goto(file.as_uri())
    return page


def column(page: Page, number: int) -> list[str]:
    rows = "section[aria-labelledby=findings] tbody tr:not(.mean)"
    texts = page.locator(f"{rows} > :nth-child({number})").all_inner_texts()
    return [text.split("\n")[0].strip() for text in texts]


def test_it_asks_for_nothing_and_says_no_error(browser: Browser, file: Path) -> None:
    asked: list[str] = []
    faults: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(file.as_uri())
    page.locator("#slider-threshold").press("ArrowRight")
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert faults == []


def test_a_column_is_sorted_by_mouse_and_by_key(browser: Browser, file: Path) -> None:
    page = opened(browser, file)
    heading = page.locator("section[aria-labelledby=findings] thead th").nth(1)
    first = column(page, 1)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    values = column(page, 2)
    known = [float(value) for value in values if value != "undefined"]
    assert known == sorted(known, reverse=True)
    assert values[-1] == "undefined"
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    values = column(page, 2)
    assert [float(value) for value in values[:-1]] == sorted(known)
    assert values[-1] == "undefined"  # last whichever way
    names = page.locator("section[aria-labelledby=findings] thead th").nth(0)
    names.locator("button").press("Space")
    assert column(page, 1) == sorted(first)
    assert heading.get_attribute("aria-sort") is None
    top = page.locator("section[aria-labelledby=findings] tbody tr").first
    assert top.locator("th").inner_text() == "Mean"
    page.close()


def test_the_slider_says_what_its_threshold_does(browser: Browser, file: Path) -> None:
    page = opened(browser, file)
    page.locator("#slider-finding").select_option("Mass")

    def said() -> list[str]:
        return [text.split("\n")[0].strip() for text in page.locator("#slider dd .big").all_inner_texts()]

    assert page.locator("#slider output").inner_text() == "0.4000"
    assert said() == ["0.750", "0.750", "0.290", "0.957", "31.0"]  # 9 of 12, 66 of 88, 9 of 31, 66 of 69
    page.locator("#slider-threshold").press("ArrowRight")
    assert page.locator("#slider output").inner_text() == "0.6000"
    assert said() == ["0.500", "1.000", "1.000", "0.936", "6.0"]  # 6 of 12, 88 of 88, 6 of 6, 88 of 94
    page.locator("#slider-threshold").press("Home")
    assert said() == ["1.000", "0.000", "0.120", "undefined", "100.0"]
    assert page.locator("#slider-threshold").get_attribute("aria-valuetext") == "0.1000"
    assert not page.locator(".unscripted").is_visible()
    page.close()


def test_without_scripts_and_on_paper_there_is_a_table_instead(browser: Browser, file: Path) -> None:
    page = opened(browser, file, java_script_enabled=False)
    assert not page.locator("#slider").is_visible()
    assert page.locator(".unscripted").is_visible()
    page.close()
    page = opened(browser, file)
    page.emulate_media(media="print")
    assert not page.locator("#slider").is_visible()
    assert page.locator(".unscripted").is_visible()
    page.close()


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, file: Path, width: int) -> None:
    page = opened(browser, file, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, file: Path, scheme: str) -> None:
    page = opened(browser, file, width=390, color_scheme=scheme)
    found = Axe().run(page)
    page.close()
    assert found.violations_count == 0, found.generate_report()
