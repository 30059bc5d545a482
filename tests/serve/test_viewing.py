"""The viewer in a real browser: what is done to a film, and that regions and rulers lie where they should."""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import DONE, box, canvas, open_films, opened_page, sent
from dicom_files import written
from PIL import Image
from servers import png, wait_until

pytestmark = pytest.mark.slow

FILM = "#pane-a .canvas"
MM = 0.5
WHERE = """() => {
  const seen = document.querySelector("#pane-a canvas"), place = seen.getBoundingClientRect();
  const matrix = document.querySelector("#pane-a .regions g").getAttribute("transform");
  const [a, , , , e] = matrix.match(/[-\\d.e]+/g).map(Number);
  const row = seen.getContext("2d").getImageData(0, seen.height >> 1, seen.width, 1).data;
  const bright = [...Array(seen.width).keys()].filter((k) => row[4 * k] > 0);
  const at = (pixel) => place.left + (pixel * place.width) / seen.width;
  return [at(bright[0]), at(bright.at(-1) + 1), place.left + e, place.left + e + a];
}"""


def greys() -> np.ndarray:
    """A 16-bit film whose left half is at 25 % and whose right half is at 75 % of full."""
    pixels = np.full((256, 256), 16384, dtype=np.uint16)
    pixels[:, 128:] = 49152
    return pixels


def ramp() -> bytes:
    file = io.BytesIO()
    Image.fromarray(greys()).save(file, format="PNG")
    return file.getvalue()


def halves(page: Any, pane: str = "#pane-a") -> tuple[int, int]:
    """The greys in the middle of the film's two halves, as they are shown."""
    seen = canvas(page, f"{pane} canvas")
    middle = seen[seen.shape[0] // 2]
    centre = len(middle) // 2
    return int(middle[centre - 40]), int(middle[centre + 40])


def becomes(what: Callable[[], Any], wanted: Any) -> None:
    wait_until(lambda: bool(what() == wanted))


def regions_lie_on_film(page: Any) -> bool:
    where = page.evaluate(WHERE)
    return bool(where[2:] == pytest.approx(where[:2], abs=1.5))


def dragged(page: Any, across: int, down: int = 0) -> None:
    """Drag over the film, a little left of its middle."""
    film = box(page, FILM)
    x, y = film["x"] + film["width"] / 2 - 60, film["y"] + film["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + across, y + down, steps=4)
    page.mouse.up()


def test_windowing_changes_pixels_as_computed(page: Any) -> None:
    open_films(page, sent("ramp.png", ramp()))
    becomes(lambda: halves(page), pytest.approx((0, 255), abs=2))  # auto: from the 1st to the 99th percentile
    assert page.locator("#preset").input_value() == "auto"
    page.keyboard.press("2")
    becomes(lambda: halves(page), pytest.approx((64, 191), abs=2))
    page.keyboard.press("i")
    becomes(lambda: halves(page), pytest.approx((191, 64), abs=2))
    page.keyboard.press("i")
    page.locator("#pane-a").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")  # 8 % narrower each time
    half = 0.5 * 0.92**5
    low = 0.5 - half
    becomes(lambda: halves(page), pytest.approx([255 * (share - low) / (2 * half) for share in (0.25, 0.75)], abs=2))
    assert page.locator("#preset").input_value() == "custom"
    page.locator("#preset").select_option("full")
    becomes(lambda: halves(page), pytest.approx((64, 191), abs=2))
    before = page.locator("#pane-a .window").inner_text()
    dragged(page, 60, 40)
    wait_until(lambda: page.locator("#pane-a .window").inner_text() != before)


def test_a_film_is_moved_turned_and_enlarged_as_the_keys_say(page: Any) -> None:
    open_films(page, sent("ramp.png", ramp()))
    page.keyboard.press("2")
    page.locator(".finding.located").first.click()
    wait_until(lambda: regions_lie_on_film(page))
    left, right = page.evaluate(WHERE)[2:]
    page.locator("#pane-a").focus()
    page.keyboard.press("Shift+ArrowRight")
    becomes(lambda: page.evaluate(WHERE)[2:], pytest.approx([left + 30, right + 30], abs=1.5))
    page.keyboard.press("f")
    page.keyboard.press("-")
    edge = (right - left) * 0.1
    becomes(lambda: page.evaluate(WHERE)[2:], pytest.approx([left + edge, right - edge], abs=1.5))
    page.keyboard.press("o")
    page.keyboard.press("o")
    becomes(lambda: halves(page), pytest.approx((191, 64), abs=2))


@pytest.mark.parametrize("ratio", [1.25, 2])
def test_regions_lie_on_the_film_on_a_fine_screen(browser: Any, url: str, ratio: float) -> None:
    page = opened_page(browser, device_scale_factor=ratio)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    open_films(page, sent("ramp.png", ramp()))
    page.keyboard.press("2")  # black is then beside the film alone
    page.locator(".finding.located").first.click()
    wait_until(lambda: regions_lie_on_film(page))
    narrow = page.evaluate(WHERE)
    film = box(page, FILM)
    page.mouse.move(film["x"] + film["width"] / 2, film["y"] + film["height"] / 2)
    page.mouse.wheel(0, 300)
    wait_until(lambda: page.evaluate(WHERE)[2] != narrow[2])
    wait_until(lambda: regions_lie_on_film(page))
    assert page.complaints == []
    page.close()


def measured(text: str) -> float:
    found = re.search(r"[\d.]+(?= mm)", text)
    return float(found[0]) if found else 0.0


def test_a_ruler_is_laid_by_mouse_and_by_keyboard(page: Any, tmp_path: Path) -> None:
    film = written(tmp_path / "film.dcm", greys(), PixelSpacing=[MM, MM]).read_bytes()
    open_films(page, sent("plain.png", png()))
    assert "in pixels" in page.locator("[data-tool=ruler]").get_attribute("aria-label")
    page.set_input_files("#files", [sent("film.dcm", film)])
    page.locator(DONE).nth(1).click()
    page.wait_for_selector("#pane-a[aria-label*='film.dcm, 256 by 256']")
    each = 256 * MM / min(box(page, FILM)["height"], box(page, FILM)["width"])  # mm of a pixel of the page
    page.keyboard.press("r")
    text = page.locator(f"{FILM} svg")
    dragged(page, 100)
    becomes(lambda: measured(text.text_content()), pytest.approx(100 * each, rel=0.02))
    page.locator("#pane-a").focus()
    page.keyboard.press("Delete")
    becomes(text.text_content, "")
    for key in ["Enter", "ArrowLeft", "ArrowLeft", "Enter", *["ArrowRight"] * 8, "Shift+ArrowRight"]:
        page.keyboard.press(key)
    assert measured(page.locator("#said").inner_text()) == pytest.approx(81 * each, rel=0.02)
    page.keyboard.press("Enter")
    assert "The ruler is set" in page.locator("#said").inner_text()
    becomes(lambda: measured(text.text_content()), pytest.approx(81 * each, rel=0.02))
    with page.expect_download() as download:
        page.locator("#save-dicom").click()
    with zipfile.ZipFile(Path(download.value.path())) as objects:
        assert len(objects.namelist()) == 2


@pytest.mark.parametrize("ratio", [1, 2])
def test_the_magnifier_shows_what_is_under_it(browser: Any, url: str, ratio: int) -> None:
    page = opened_page(browser, device_scale_factor=ratio)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    open_films(page, sent("ramp.png", ramp()))
    page.keyboard.press("2")
    page.keyboard.press("m")
    film = box(page, FILM)
    x, y = film["x"] + film["width"] / 2, film["y"] + film["height"] / 2
    glass = "#pane-a .magnifyTool canvas"
    for _ in range(2):  # it can be used again
        page.mouse.move(x - 100, y)
        page.mouse.down()
        page.wait_for_selector(glass)
        becomes(lambda: int(np.median(canvas(page, glass))), pytest.approx(64, abs=2))
        page.mouse.move(x + 100, y, steps=3)
        becomes(lambda: int(np.median(canvas(page, glass))), pytest.approx(191, abs=2))
        page.mouse.up()
        page.wait_for_selector(glass, state="detached")
    assert page.complaints == []
    page.close()


def windowed_together(page: Any, before: tuple[int, int]) -> bool:
    return before != halves(page) == halves(page, "#pane-b")


def test_two_films_have_one_window_from_either_side(page: Any) -> None:
    open_films(page, sent("a.png", ramp()), sent("b.png", ramp()))
    page.locator(DONE).nth(1).wait_for()
    page.keyboard.press("2")
    page.locator("#pane-a").focus()
    page.keyboard.press("ArrowRight")
    wait_until(lambda: halves(page) != pytest.approx((64, 191), abs=2))
    page.keyboard.press("c")
    page.wait_for_selector("#pane-b[aria-label^='Chest film']")
    wait_until(lambda: halves(page) == halves(page, "#pane-b"))
    for pane in ("#pane-b", "#pane-a"):
        before = halves(page)
        page.locator(pane).focus()
        page.keyboard.press("ArrowRight")
        wait_until(partial(windowed_together, page, before))
        becomes(page.locator("#findings-of").inner_text, page.locator(f"{pane} .title").inner_text())
    together = halves(page)
    page.locator("#linked").click()
    page.locator("#pane-b").focus()
    page.keyboard.press("2")
    becomes(lambda: halves(page, "#pane-b"), pytest.approx((64, 191), abs=2))
    assert halves(page) == together


def touched(page: Any) -> Callable[..., None]:
    """A function that puts fingers on the page, by kind and places."""
    client = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": across, "y": down, "id": k} for k, (across, down) in enumerate(points)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    return touch


@pytest.fixture
def phone(browser: Any, url: str) -> Iterator[Any]:
    """The page on a phone, with a film."""
    page = opened_page(
        browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    open_films(page, sent("ramp.png", ramp()))
    yield page
    assert page.complaints == []
    page.close()


def test_fingers_window_zoom_and_move(phone: Any) -> None:
    page, touch = phone, touched(phone)
    film = box(page, FILM)
    x, y = film["x"] + film["width"] / 2, film["y"] + film["height"] / 2
    said = page.locator("#pane-a .window").inner_text
    window, zoom = said().split("·")
    touch("touchStart", (x, y))
    for k in range(1, 8):
        touch("touchMove", (x + 8 * k, y + 8 * k))
    touch("touchEnd")
    wait_until(lambda: said().split("·")[0] != window)
    touch("touchStart", (x - 30, y))
    touch("touchStart", (x - 30, y), (x + 30, y))
    for k in range(1, 8):
        touch("touchMove", (x - 30 - 6 * k, y), (x + 30 + 6 * k, y))
    touch("touchEnd")
    wait_until(lambda: float(said().split()[-2]) > 1.2 * float(zoom.split()[-2]))
    page.locator("#fit").tap()
    page.keyboard.press("2")
    page.locator(".finding.located").first.evaluate("button => button.click()")
    wait_until(lambda: regions_lie_on_film(page))
    left = page.evaluate(WHERE)[2]
    touch("touchStart", (x - 40, y))
    touch("touchStart", (x - 40, y), (x, y))
    for k in range(1, 9):
        touch("touchMove", (x - 40 + 6 * k, y), (x + 6 * k, y))
    touch("touchEnd")
    becomes(lambda: page.evaluate(WHERE)[2], pytest.approx(left + 48, abs=8))


def test_a_finger_that_rests_magnifies_and_asks_what_a_button_is(phone: Any) -> None:
    page, touch = phone, touched(phone)
    page.keyboard.press("2")
    film = box(page, FILM)
    x, y = film["x"] + film["width"] / 2, film["y"] + film["height"] / 2 + 60
    glass = "#pane-a .magnifyTool canvas"
    before = page.locator("#pane-a .window").inner_text()
    for _ in range(2):
        touch("touchStart", (x - 90, y))
        page.wait_for_selector(glass)
        becomes(lambda: int(np.median(canvas(page, glass))), pytest.approx(64, abs=2))
        for k in range(1, 10):
            touch("touchMove", (x - 90 + 20 * k, y))
        becomes(lambda: int(np.median(canvas(page, glass))), pytest.approx(191, abs=2))
        touch("touchEnd")
        page.wait_for_selector(glass, state="detached")
    assert page.locator("#pane-a .window").inner_text() == before
    assert page.locator("[data-tool=window]").get_attribute("aria-checked") == "true"
    invert = box(page, "#invert")
    touch("touchStart", (invert["x"] + 15, invert["y"] + 15))
    wait_until(lambda: page.locator("#tip").is_visible())
    assert page.locator("#tip").inner_text() == "Invert (I)"
    touch("touchEnd")
    assert page.locator("#invert").get_attribute("aria-pressed") == "false"
    page.locator("#invert").tap()
    becomes(lambda: page.locator("#invert").get_attribute("aria-pressed"), "true")


def test_a_film_is_shown_as_it_was_left_also_after_a_reload(page: Any, url: str) -> None:
    films = [sent("a.png", ramp()), sent("b.png", png())]
    open_films(page, *films)
    page.locator(DONE).nth(1).wait_for()
    page.locator(".finding").nth(3).click()
    said = page.locator("#pane-a .window").inner_text
    page.keyboard.press("3")
    wait_until(lambda: "lungs" in said())
    page.keyboard.press("i")
    fitted = said()
    page.keyboard.press("+")
    wait_until(lambda: said() != fitted)  # it is drawn a frame later
    page.keyboard.press("o")
    name = page.locator(".finding[aria-pressed=true] .name").inner_text()
    left = said()
    assert "lungs" in left

    def is_as_left() -> bool:
        pressed = page.locator(".finding[aria-pressed=true] .name")
        return bool(
            said() == left
            and page.locator("#invert").get_attribute("aria-pressed") == "true"
            and pressed.count() == 1
            and pressed.inner_text() == name
        )

    page.keyboard.press("n")
    page.wait_for_selector("#pane-a[aria-label^='Chest film b.png']")
    wait_until(lambda: "auto" in said())
    page.keyboard.press("b")
    page.wait_for_selector("#pane-a[aria-label^='Chest film a.png']")
    wait_until(is_as_left)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    open_films(page, *films)
    page.wait_for_selector("#pane-a[aria-label^='Chest film a.png']")
    wait_until(is_as_left)
    page.keyboard.press("0")
    wait_until(lambda: "auto" in said())
    assert page.locator("#invert").get_attribute("aria-pressed") == "false"


SHOWN_IN = """() => new Promise((done) => {
  const pane = document.getElementById("pane-a"), before = pane.getAttribute("aria-label"), start = performance.now();
  const shown = () => {
    const label = pane.getAttribute("aria-label");
    if (label === before || !label.startsWith("Chest film")) return;
    pane.querySelector(".canvas").removeEventListener("CORNERSTONE_IMAGE_RENDERED", shown);
    watch.disconnect();
    done(performance.now() - start);
  };
  const watch = new MutationObserver(() => requestAnimationFrame(shown)); // drawn in the frame before
  watch.observe(pane, { attributes: true });
  pane.querySelector(".canvas").addEventListener("CORNERSTONE_IMAGE_RENDERED", shown);
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
})"""
MOST_MS = 50


def test_the_next_film_was_fetched_before_it_is_asked_for(page: Any) -> None:
    open_films(page, *[sent(f"{k}.png", png(512, seed=k)) for k in range(4)])
    page.locator(DONE).nth(3).wait_for()
    asked: list[str] = []
    page.wait_for_load_state("networkidle")
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(SHOWN_IN)
    page.wait_for_load_state("networkidle")
    assert (
        len([one for one in asked if one.endswith("/v1/pixels")]) <= 1
    )  # that after the next, and no wait for the next


def test_the_next_film_is_shown_at_once(page: Any) -> None:
    """In less than 50 ms of the page's processor time, as others may use the processor; that on the wall is printed."""
    open_films(page, *[sent(f"{k}.png", png(1024, seed=k)) for k in range(6)])
    page.locator(DONE).nth(5).wait_for()
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked_s() -> float:
        metrics = client.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    worked, waited = [], []
    for _ in range(6):
        page.wait_for_load_state("networkidle")
        before = worked_s()
        waited.append(page.evaluate(SHOWN_IN))
        worked.append(1000 * (worked_s() - before))
    print(f"the next film was shown in {sorted(worked)} ms of work, {sorted(waited)} ms on the wall")
    assert min(worked) < MOST_MS


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far two pictures are apart on the mean, of 255 greys; panes may differ by a pixel."""
    rows, columns = np.minimum(one.shape, other.shape)
    return float(np.abs(one[:rows, :columns] - other[:rows, :columns]).mean())


def test_two_films_are_zoomed_and_moved_together(page: Any) -> None:
    open_films(page, sent("a.png", ramp()), sent("b.png", ramp()))
    page.locator(DONE).nth(1).wait_for()
    page.keyboard.press("c")
    page.wait_for_selector("#pane-b[aria-label^='Chest film']")
    panes = [page.locator(f"{pane} .window") for pane in ("#pane-a", "#pane-b")]
    fitted = panes[0].inner_text()
    page.locator("#pane-b").focus()
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowLeft")
    wait_until(lambda: panes[0].inner_text() == panes[1].inner_text() != fitted)
    wait_until(lambda: apart(canvas(page), canvas(page, "#pane-b canvas")) < 4)
    page.locator("#pane-a").dblclick()  # fits both
    wait_until(lambda: panes[0].inner_text() == panes[1].inner_text() == fitted)
