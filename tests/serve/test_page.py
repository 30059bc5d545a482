"""The page in a real browser: what a reader sees and does. Debian's chromium, on loopback."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest
from browsing import DONE, REFUSED, open_films, opened_page, run_axe, sent
from PIL import Image
from servers import opened, png, running, wait_until

pytestmark = pytest.mark.slow

REGION = "#pane-a .regions path.line"


def test_a_film_is_shown_with_its_findings_and_regions(page: Any) -> None:
    open_films(page, sent("one.png", png(200)))
    assert page.locator("#disclaimer").is_visible()
    assert page.locator(".finding").count() == 14
    assert page.locator(".finding.present").count() == 7
    assert page.locator(".finding.absent .call").first.inner_text() == "below threshold"
    labels = page.locator("#pane-a .tag").all_inner_texts()
    assert page.locator(REGION).count() == len(labels) == page.locator(".finding.present.located").count() > 0
    assert page.locator(".finding.absent.located").count() == 0
    assert all(
        re.fullmatch(r"[\w ]+ \d\.\d\d · (left|right|both|central,) (upper|mid|lower) zones?", one) for one in labels
    )
    page.locator(".finding.located").first.click()
    assert page.locator(REGION).count() == 1
    name = page.locator(".finding[aria-pressed=true] .name").inner_text()
    assert page.locator("#pane-a .tag").inner_text().startswith(name)
    assert page.locator("#pane-a .chosen").inner_text().startswith(name)
    assert "% of the film" in page.locator("#detail").inner_text()
    assert page.locator("#pane-a .doubt").inner_text() == "Regions were never validated on boxes."
    page.locator(".finding.absent").first.click()
    assert page.locator(REGION).count() == 0
    assert "Below threshold: no region" in page.locator("#detail").inner_text()


def test_no_row_moves_under_the_mouse(page: Any) -> None:
    open_films(page, sent("one.png", png(200)))
    rows = page.locator(".finding")
    rows.nth(13).wait_for()
    before = [row.bounding_box() for row in rows.all()]
    for k in (0, 5, 13):
        rows.nth(k).hover()
        assert [row.bounding_box() for row in rows.all()] == before
        rows.nth(k).click()
        assert [row.bounding_box() for row in rows.all()] == before


@pytest.mark.parametrize(("width", "height"), [(1600, 900), (1100, 800), (390, 844)])
def test_the_film_comes_first(page: Any, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    open_films(page, sent("one.png", png(200)))
    film = page.locator("#pane-a").bounding_box()
    side = min(film["width"], film["height"])
    assert side >= (0.9 * height if width > 1000 else 0.85 * width)
    others = [page.locator(place).bounding_box() for place in ("#findings", "#worklist", "header")]
    if width > 1000:
        assert all(side**2 > one["width"] * one["height"] for one in others if one)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    disclaimer = page.locator("#disclaimer").bounding_box()
    assert disclaimer["height"] < 30  # one line
    if width > 1000:
        for key in "ld":
            page.keyboard.press(key)
        assert not page.locator("#findings").is_visible()
        wait_until(lambda: page.locator("#pane-a").bounding_box()["width"] > film["width"])


def test_findings_are_sorted_as_asked(page: Any) -> None:
    open_films(page, sent("one.png", png(200)))

    def shown(part: str) -> list[str]:
        return [one.inner_text() for one in page.locator(f".finding .{part}").all()]

    page.locator(".finding").nth(13).wait_for()
    assert shown("name") == sorted(shown("name"))
    page.locator("#sort").select_option("call")
    calls = shown("call")
    assert calls == sorted(calls, key=["above threshold", "indeterminate", "below threshold"].index)
    assert not page.locator("#triage").is_visible()
    page.locator("#sort").select_option("triage")
    assert "never validated" in page.locator("#triage").inner_text()
    page.locator("#sort").select_option("score")
    assert [float(score) for score in shown("score")] == sorted(
        (float(score) for score in shown("score")), reverse=True
    )


def test_the_keyboard_is_enough(page: Any) -> None:
    page.keyboard.press("Tab")
    while page.evaluate("() => document.activeElement.id") != "examples":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#pane-a[aria-label^='Chest film']")
    page.locator(DONE).nth(5).wait_for()
    first = page.locator("#pane-a .title").inner_text()
    page.keyboard.press("n")
    wait_until(lambda: page.locator("#pane-a .title").inner_text() != first)
    page.locator(".finding.located").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(REGION).count() == 1
    page.keyboard.press("h")
    assert page.locator(REGION).count() == 0
    page.keyboard.press("h")
    page.keyboard.press("c")
    page.wait_for_selector("#pane-b[aria-label^='Chest film']")
    auto = page.locator("#pane-a .window").inner_text().split("·")[0]
    page.keyboard.press("3")
    windows = [page.locator(f"{pane} .window") for pane in ("#pane-a", "#pane-b")]
    wait_until(lambda: len({one.inner_text().split("·")[0] for one in windows} - {auto}) == 1)
    page.keyboard.press("c")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    for key in "ofzpmw+-t0jkvldld":
        page.keyboard.press(key)


def test_fifty_films_at_once_and_a_refused_one(page: Any) -> None:
    films = [sent(f"{k}.png", png(seed=k)) for k in range(49)]
    open_films(page, *films, sent("=cmd.txt", b"no film"))
    page.locator(DONE).nth(48).wait_for()
    wait_until(lambda: page.locator("#tally").inner_text() == "49 scored, 1 refused")
    assert "must be a PNG, JPEG or DICOM" in page.locator(REFUSED).text_content()
    page.locator(REFUSED).click()
    assert "was refused" in page.locator("#pane-a").get_attribute("aria-label")
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 51
    assert lines[-1].startswith("'=cmd.txt,")
    page.locator(DONE).first.click()
    page.wait_for_selector("#pane-a[aria-label^='Chest film']")
    with page.expect_download() as download:
        page.locator("#save-png").click()
    with Image.open(Path(download.value.path())) as picture:
        assert picture.size[0] > 200


def packed(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, name in enumerate(names):
            archive.writestr(name, png(seed=k) if name.endswith(".png") else b"no film")
    return file.getvalue()


def test_films_of_an_archive_are_shown_like_any_other(page: Any) -> None:
    whole = packed("a/one.png", "a/two.png", "notes.txt")
    torn = bytearray(packed("three.png", "four.png"))
    torn[200] ^= 255
    open_films(page, sent("films.zip", whole), sent("torn.zip", bytes(torn)), sent("no.zip", b"PK\3\4" + bytes(200)))
    wait_until(lambda: page.locator("#tally").inner_text() == "3 scored, 3 refused")
    rows = page.locator("#films button")
    assert [row.split("\n")[0] for row in rows.all_inner_texts()] == [
        *("one.png", "two.png", "notes.txt", "three.png", "four.png", "no.zip")
    ]
    refused = page.locator(REFUSED).all_inner_texts()
    assert "must be a PNG, JPEG or DICOM" in refused[0]
    assert "must be intact in its archive" in refused[1]
    assert "archive must be an intact zip file" in refused[2]
    rows.nth(1).click()
    page.wait_for_selector("#pane-a[aria-label^='Chest film two.png']")
    page.locator(".finding.located").first.click()
    assert page.locator(REGION).count() == 1


def test_a_folder_is_dropped_with_all_that_lies_in_it(page: Any, tmp_path: Path) -> None:
    for k, name in enumerate(["films/one.png", "films/deep/two.png", "films/deep/deeper/three.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(seed=k))
    data = {"items": [], "files": [str(tmp_path / "films")], "dragOperationsMask": 1}
    client = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        client.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": data})
    page.locator(DONE).nth(2).wait_for()
    assert page.locator("#films .name").all_inner_texts().count("three.png") == 1


def test_a_film_that_the_model_does_not_know_has_a_warning(browser: Any, gated_run: Path, phantom_films: Any) -> None:
    page = opened_page(browser)
    film = phantom_films.path(0)
    turned = io.BytesIO()
    with Image.open(film) as picture:
        picture.rotate(180).save(turned, format="PNG")
    with opened(gated_run) as room:
        page.goto(room.url)
        page.wait_for_selector("body[data-ready]")
        open_films(page, sent("turned.png", turned.getvalue()), sent("fine.png", film.read_bytes()))
        page.locator(DONE).nth(1).wait_for()
        page.locator(DONE).first.click()
        page.wait_for_selector("#pane-a[aria-label*='turned.png']")
        warning = page.locator("#gate[role=alert]")
        assert "Not analysed. turned.png does not fit the model (turned): it looks like" in warning.inner_text()
        assert "not analysed: turned" in page.locator(DONE).first.inner_text()
        assert page.locator(".finding").count() == 0
        assert page.locator("#pane-a canvas").is_visible()  # the film itself is shown
        page.locator("#anyway").click()
        page.locator(".finding").first.wait_for()
        assert "Do not rely on these scores. turned.png does not fit" in warning.inner_text()
        assert "shown anyway, does not fit the model: turned" in page.locator(DONE).first.inner_text()
        assert not page.locator("#anyway").is_visible()
        page.locator(DONE).nth(1).click()
        warning.wait_for(state="hidden")
        page.wait_for_selector("#pane-a[aria-label*='fine.png']")
    assert page.complaints == []
    page.close()


def test_full_screen_keeps_the_disclaimer_and_clear_forgets_all(page: Any) -> None:
    open_films(page, sent("one.png", png()))
    page.keyboard.press("u")
    page.wait_for_function("() => document.fullscreenElement !== null")
    assert page.locator("#disclaimer").is_visible()
    page.keyboard.press("u")
    page.wait_for_function("() => !document.fullscreenElement")
    page.locator("#clear").click()
    page.locator("#clear-yes").click()
    wait_until(lambda: page.locator("#films li").count() == 0)
    assert page.locator("#drop").is_visible()
    open_films(page, sent("two.png", png(seed=2)))
    page.locator(".finding.located").first.click()
    assert page.locator(REGION).count() == 1


def test_a_server_that_stops_is_waited_for(browser: Any, calling_run: Path) -> None:
    page = opened_page(browser)
    with running(calling_run) as (url, _):
        page.goto(url)
        page.wait_for_selector("body[data-ready]")
        page.set_input_files("#files", [sent("a.png", png())])
        page.locator(DONE).nth(0).wait_for()
    page.set_input_files("#files", [sent("b.png", png(seed=1))])
    page.wait_for_selector("#away:not([hidden])")
    assert "does not answer" in page.locator("#away").inner_text()
    with running(calling_run, int(url.rsplit(":", 1)[1])):
        page.locator(DONE).nth(1).wait_for()
        assert not page.locator("#away").is_visible()
    page.close()


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_serious_fault(page: Any, theme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    if theme == "light":
        page.locator("#theme").click()
    faults = run_axe(page)
    open_films(page, sent("one.png", png()), sent("two.txt", b"no film"))
    page.locator(REFUSED).wait_for()
    page.locator(".finding.located").first.click()
    page.mouse.move(2, 2)
    faults += run_axe(page)
    assert faults == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


def test_the_first_paint_comes_within_a_second(browser: Any, url: str) -> None:
    page = opened_page(browser)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    painted = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted < 1000
    assert httpx2.get(f"{url}/health").status_code == 200
    page.close()
