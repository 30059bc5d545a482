"""Films read in a real browser: the worklist, the reader's own labels, what is taken along, keys, and trouble."""

import csv
import io
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import DONE, axe_faults, box, open_films, sent
from dicom_files import written
from pydicom import dcmread
from servers import png, wait_until

from hilum.evaluation.inputs import read_reference
from hilum.findings import CHESTXRAY14
from hilum.pacs.reading import Opinion, reading_in

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).resolve().parents[2] / "frontend" / "src"
ROWS = "#films li"


def dicom(folder: Path, name: str, seed: int, **elements: Any) -> dict[str, Any]:
    greys = np.random.default_rng(seed).integers(0, 1 << 16, (96, 96)).astype(np.uint16)
    study = f"1.2.3.{seed}"
    film = written(folder / name, greys, **{"StudyInstanceUID": study, "PatientAge": "074Y", **elements})
    return sent(name, film.read_bytes())


def names(page: Any) -> list[str]:
    return [str(one) for one in page.locator("#films .name").all_text_contents()]


def saved(page: Any, button: str) -> Path:
    with page.expect_download() as download:
        page.locator(button).click()
    return Path(download.value.path())


def test_the_worklist_groups_filters_and_finds_the_prior(page: Any, tmp_path: Path) -> None:
    open_films(
        page,
        dicom(tmp_path, "old.dcm", 1, PatientID="P-1", StudyDate="20200101"),
        sent("plain.png", png()),
        dicom(tmp_path, "new.dcm", 2, PatientID="P-1", StudyDate="20240203", ImagerPixelSpacing=[0.2, 0.2]),
        dicom(tmp_path, "side.dcm", 2, PatientID="P-1", StudyDate="20240203", ViewPosition="LL"),
    )
    page.locator(DONE).nth(3).wait_for(state="attached")
    wait_until(lambda: names(page) == ["new.dcm", "side.dcm", "old.dcm", "plain.png"])
    assert page.locator("#films .group:not([hidden])").all_text_contents() == ["P-1 · 3 films"]
    rows = page.locator(ROWS).all_text_contents()
    assert "prior" in rows[2]
    assert "lateral: viewed, not scored" in rows[1]
    page.locator("#films button").first.click()
    page.wait_for_selector("#pane-a[aria-label^='Chest film new.dcm']")
    assert page.locator("#pane-a .title").inner_text() == "new.dcm · PA · F · 74 y · 2024-02-03"
    page.keyboard.press("c")
    page.wait_for_selector("#pane-b[aria-label^='Chest film old.dcm']")
    page.keyboard.press("c")
    page.keyboard.press("/")
    page.keyboard.type("p-1")
    assert names(page) == ["new.dcm", "side.dcm", "old.dcm"]
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.press("Escape")
    page.locator("#show").select_option("misfit")
    assert names(page) == ["side.dcm"]
    page.locator("#show").select_option("all")
    page.locator("#order").select_option("name")
    assert names(page) == ["new.dcm", "old.dcm", "plain.png", "side.dcm"]


def test_a_reader_s_labels_are_kept_and_exported(page: Any, tmp_path: Path) -> None:
    open_films(page, sent("one.png", png(200)), sent("two.png", png(seed=1)))
    page.locator(DONE).nth(1).wait_for()
    page.locator(".finding.present").first.click()
    present = page.locator(".finding[aria-pressed=true]").get_attribute("data-finding")
    assert page.locator("#agree").inner_text() == "Agree: present"
    page.keyboard.press("x")
    assert page.locator("#disagree").get_attribute("aria-pressed") == "true"
    page.locator("#comment").fill("=a fold of skin, hxn")
    page.locator(".finding.absent").first.click()
    absent = page.locator(".finding[aria-pressed=true]").get_attribute("data-finding")
    assert page.locator("#agree").inner_text() == "Agree: absent"
    page.keyboard.press("g")
    assert "read" in page.locator(ROWS).first.inner_text()
    reference = read_reference(saved(page, "#save-reading").rename(tmp_path / "reading.csv"), CHESTXRAY14)
    assert reference.films == ("one.png",)
    labels = {name: column[0] for name, column in reference.labels.items() if not np.isnan(column[0])}
    assert labels == {present: 0, absent: 0}
    first, second = csv.DictReader(saved(page, "#save-csv").read_text().splitlines())
    assert first[f"read_{present}"] == "0"
    assert first[f"comment_{present}"] == "'=a fold of skin, hxn"
    assert second[f"read_{present}"] == ""
    assert first[f"call_{present}"] == "present"
    assert float(first[f"threshold_{present}"]) == 0.0001
    assert first["operating_point"] == "youden"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", first["exported"])
    assert first["model"]
    page.keyboard.press("y")
    drafted = page.locator("#draft").input_value()
    assert "Possible" in drafted
    assert present is not None
    assert f"Possible {present.lower()}" not in drafted  # the reader said that it is absent
    assert "=a fold of skin, hxn" in drafted
    assert "operating point balanced (Youden)" in drafted.splitlines()[-1]
    assert "not for diagnosis" in drafted.splitlines()[-1]


def test_a_reader_s_labels_are_saved_as_dicom_reports(page: Any, tmp_path: Path) -> None:
    films = [dicom(tmp_path, f"{name}.dcm", seed, PatientID=name) for seed, name in enumerate("ab", 1)]
    open_films(page, *films, sent("plain.png", png(200)))
    page.locator(DONE).nth(2).wait_for(state="attached")
    assert page.locator("#save-signed").is_disabled()
    said = {}
    for name in ("a.dcm", "b.dcm"):
        page.locator("#films button").nth(names(page).index(name)).click()
        page.wait_for_selector(f"#pane-a[aria-label^='Chest film {name}']")
        page.locator(".finding.present").first.click()
        page.keyboard.press("x")
        page.locator("#comment").fill(f"a nipple, {name}")
        said[name] = page.locator(".finding[aria-pressed=true]").get_attribute("data-finding")
    page.locator("#save-signed").click()
    assert "each of the 2 DICOM films" in page.locator("#signing-text").inner_text()
    assert axe_faults(page) == []
    page.locator("#signer").fill("Test^Reader")
    with zipfile.ZipFile(saved(page, "#sign-yes")) as archive:
        assert archive.namelist() == ["a.dcm.reading.sr.dcm", "b.dcm.reading.sr.dcm"]
        reports = [dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    for report, film in zip(reports, films, strict=True):
        finding = said[film["name"]]
        assert reading_in(report) == {finding: Opinion(False, f"a nipple, {film['name']}", "present")}
        source = dcmread(io.BytesIO(film["buffer"]))
        assert (report.StudyInstanceUID, report.PatientID) == (source.StudyInstanceUID, source.PatientID)
        assert "Test^Reader" in str(report)


def test_rulers_say_what_they_measure(page: Any, tmp_path: Path) -> None:
    open_films(
        page,
        sent("plain.png", png(256)),
        dicom(tmp_path, "film.dcm", 3, ImagerPixelSpacing=[2.0, 2.0]),
        dicom(tmp_path, "huge.dcm", 4, ImagerPixelSpacing=[20.0, 20.0]),
    )
    page.locator(DONE).nth(2).wait_for()
    said = {}
    for name in ("plain.png", "film.dcm", "huge.dcm"):
        page.locator("#films button").nth(names(page).index(name)).click()
        page.wait_for_selector(f"#pane-a[aria-label^='Chest film {name}']")
        page.keyboard.press("r")
        for key in ["Enter", "Enter", *["ArrowRight"] * 5, "Enter"]:
            page.keyboard.press(key)
        said[name] = page.locator("#said").inner_text()
    assert re.search(r"\d+ px\.", said["plain.png"])
    assert "mm at the detector." in said["film.dcm"]
    assert "doubtful" in said["huge.dcm"]
    page.keyboard.press("q")
    ratio = page.locator("#pane-a .window").inner_text
    wait_until(lambda: "Cardiothoracic ratio 0.40 (callipers not placed yet)" in ratio())
    film = box(page, "#pane-a .canvas")
    side = min(film["width"], film["height"])
    left, top = film["x"] + (film["width"] - side) / 2, film["y"] + (film["height"] - side) / 2
    for across, down, to in ((0.36, 0.62, 0.3), (0.15, 0.7, 0.1)):
        assert "not placed" in ratio()
        page.mouse.move(left + across * side, top + down * side)
        page.mouse.down()
        page.mouse.move(left + to * side, top + down * side, steps=4)
        page.mouse.up()
    wait_until(lambda: ratio().endswith("Cardiothoracic ratio 0.45"))
    page.keyboard.press("q")
    wait_until(lambda: "Cardiothoracic" not in page.locator("#pane-a .window").inner_text())


def test_films_are_kept_over_a_reload_if_allowed_and_clear_asks(page: Any) -> None:
    open_films(page, sent("one.png", png(200)), sent("two.png", png(seed=1)))
    page.locator(DONE).nth(1).wait_for()
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert names(page) == []
    open_films(page, sent("one.png", png(200)), sent("two.png", png(seed=1)))
    page.locator(DONE).nth(1).wait_for()
    page.locator("#keep").check()
    page.locator(".finding").first.click()
    page.keyboard.press("g")
    kept = "() => new Promise((done) => { const open = indexedDB.open('hilum-reading-room'); open.onsuccess = () => { const all = open.result.transaction('kept').objectStore('kept').getAll(); all.onsuccess = () => { open.result.close(); done((all.result[0] ?? []).filter((film) => Object.keys(film.reading).length).length); }; }; })"  # noqa: E501
    wait_until(lambda: bool(page.evaluate(kept) == 1))
    page.reload()
    page.locator(DONE).nth(1).wait_for()
    assert names(page) == ["one.png", "two.png"]
    assert "read" in page.locator(ROWS).first.inner_text()
    page.locator("#clear").click()
    page.keyboard.press("Escape")
    assert names(page) == ["one.png", "two.png"]
    page.locator("#clear").click()
    page.locator("#clear-yes").click()
    wait_until(lambda: names(page) == [])
    wait_until(lambda: bool(page.evaluate(kept) == 0))
    assert page.evaluate("() => Object.keys(sessionStorage).filter((key) => key.startsWith('hilum-view')).length") == 0


def test_a_film_opened_while_the_server_is_away_comes_when_it_is_back(page: Any) -> None:
    page.route("**/v1/pixels", lambda route: route.abort())
    page.set_input_files("#files", [sent("one.png", png())])
    page.wait_for_selector("#pane-a[aria-label*='does not answer']")
    page.unroute("**/v1/pixels")
    page.wait_for_selector("#pane-a[aria-label^='Chest film one.png']")
    page.complaints.clear()  # the browser's own line on what was cut off


def test_junk_of_an_archive_is_no_fault(page: Any) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("__MACOSX/._a.png", "films/.DS_Store", "Thumbs.db", "DICOMDIR"):
            archive.writestr(name, b"junk")
        archive.writestr("films/a.png", png())
    open_films(page, sent("films.zip", file.getvalue()))
    wait_until(lambda: page.locator("#tally").inner_text() == "1 scored")
    assert names(page) == ["a.png"]


def test_keys_work_wherever_the_focus_is_but_in_a_text_field(page: Any) -> None:
    open_films(page, sent("one.png", png()), sent("two.png", png(seed=1)))
    page.locator(DONE).nth(1).wait_for()
    inverted = page.locator("#invert")
    for place in ("#sort", "#preset", "#films button >> nth=0", ".finding >> nth=2", "#keep"):
        before = inverted.get_attribute("aria-pressed")
        page.locator(place).focus()
        page.keyboard.press("i")
        assert inverted.get_attribute("aria-pressed") != before, place
    before = inverted.get_attribute("aria-pressed")
    page.locator("#filter").focus()
    page.keyboard.press("i")
    assert inverted.get_attribute("aria-pressed") == before
    page.locator("#filter").fill("")
    page.locator("[data-tool=window]").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.dataset.tool") == "pan"
    assert page.locator("#tip").inner_text() == "Pan: drag the film (P)"
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.keyboard.press("End")
    assert page.evaluate("() => document.activeElement.id") == "full"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "preset"  # the toolbar is one stop
    order = page.evaluate("() => [...document.querySelectorAll('nav, aside')].map((one) => one.id)")
    assert order == ["worklist", "findings"]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_at_all(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(
        "theme => document.documentElement.dataset.theme === theme", arg=scheme
    )  # as the system asks
    open_films(page, sent("one.png", png(200)), sent("two.png", png(seed=1)))
    page.locator(DONE).nth(1).wait_for()
    page.locator(".finding.located").first.click()
    page.mouse.move(2, 2)
    assert axe_faults(page) == []
    page.set_viewport_size({"width": 640, "height": 400})  # as 1280 x 800 at 200 %
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    for opening in ("?", "y"):
        page.keyboard.press(opening)
        assert axe_faults(page) == []
        page.keyboard.press("Escape")


def test_forced_colours_keep_bars_thresholds_and_selection(page: Any) -> None:
    page.emulate_media(forced_colors="active")
    open_films(page, sent("one.png", png(200)))
    page.locator(".finding").first.click()
    colours = page.evaluate(
        """() => [".finding[aria-pressed=true]", ".finding .fill", ".finding .mark", ".finding .track", ".finding"].map(
            (place) => getComputedStyle(document.querySelector(`#list ${place}`)).backgroundColor)"""
    )
    chosen, bar, threshold, track, _ = colours
    assert len({bar, track}) == len({threshold, track}) == 2
    assert chosen != page.evaluate("() => getComputedStyle(document.querySelectorAll('.finding')[3]).backgroundColor")


ADD_500 = """async (name) => {
  const film = await (await fetch("/v1/examples/1")).blob();
  const form = new FormData();
  form.append("films", film, "film.png");
  form.append("regions", "true");
  const [answer] = (await (await fetch("/v1/predict", { method: "POST", body: form })).json()).films;
  const ask = fetch;
  let number = 0;
  window.fetch = async (path, options) => {
    if (path !== "/v1/predict") return ask(path, options);
    const k = number++;
    const header = { patient: `P-${k % 125}`, study: `1.2.${k}`, date: `2024-01-${10 + (k % 20)}`, view: "PA", sex: "F", age: "50 y", detector: true };
    return new Response(JSON.stringify({ films: [{ ...answer, film: options.body.get("films").name, header }], point: null }));
  };
  const files = new DataTransfer();
  for (let k = 0; k < 500; k++) files.items.add(new File([film], `${k}.png`));
  document.getElementById("files").files = files.files;
  document.getElementById("files").dispatchEvent(new Event("change"));
}"""  # noqa: E501
DRAWN = """() => [...document.querySelectorAll("#films .name")]
  .filter((one) => one.checkVisibility({ contentVisibilityAuto: true })).length"""
CHANGED_BY = """(key) => new Promise((done) => {
  const pane = document.getElementById("pane-a"), before = pane.getAttribute("aria-label"), rows = new Set();
  const watch = new MutationObserver((changes) => changes.forEach(({ target }) => rows.add((target.closest ? target : target.parentElement).closest("#films li"))));
  watch.observe(document.getElementById("films"), { attributes: true, childList: true, characterData: true, subtree: true });
  new MutationObserver((_, shown) => {
    const label = pane.getAttribute("aria-label");
    if (label === before || !label.startsWith("Chest film")) return;
    shown.disconnect();
    requestAnimationFrame(() => done(rows.size));
  }).observe(pane, { attributes: true });
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
})"""  # noqa: E501
FRAMES = """() => new Promise((done) => {
  const list = document.getElementById("worklist"), times = [];
  let last = performance.now();
  const frame = (now) => {
    times.push(now - last);
    last = now;
    list.scrollTop += 400;
    if (times.length < 40) requestAnimationFrame(frame);
    else done(times.sort((a, b) => a - b));
  };
  requestAnimationFrame(frame);
})"""


def test_five_hundred_films_are_a_list_that_moves_smoothly(page: Any) -> None:
    """What is drawn and changed is counted; the time of a frame is printed, since it is the machine's."""
    page.evaluate(ADD_500)
    page.locator(DONE).nth(499).wait_for(state="attached")
    page.wait_for_selector("#pane-a[aria-label^='Chest film']")
    assert len(names(page)) == 500
    assert page.locator("#films .group:not([hidden])").count() == 125
    wait_until(lambda: bool(page.evaluate(DRAWN) < 60))
    for key in ("n", "n", "b"):
        assert page.evaluate(CHANGED_BY, key) == 2  # the row that was open, and the one that is
    times = page.evaluate(FRAMES)
    print(f"a frame of scrolling 500 rows: {times[20]:.0f} ms at the median, {times[37]:.0f} ms at the 95th percentile")
    assert page.evaluate("() => document.getElementById('worklist').scrollTop") > 5000
    wait_until(lambda: bool(page.evaluate(DRAWN) < 60))
    page.locator("#filter").fill("p-77")
    assert len(names(page)) == 4


def test_twelve_films_are_read_by_keyboard_alone(page: Any) -> None:
    open_films(page, *[sent(f"{k:02}.png", png(96, seed=k)) for k in range(12)])
    page.locator(DONE).nth(11).wait_for()
    start = time.monotonic()
    for k in range(12):
        page.wait_for_selector(f"#pane-a[aria-label^='Chest film {k:02}.png']")
        page.keyboard.press("3")  # lungs
        page.keyboard.press("j")  # the first finding
        page.keyboard.press("g" if k % 2 else "x")
        page.keyboard.press("n")
    seconds = (time.monotonic() - start) / 12
    print(f"{seconds:.2f} seconds per film, by a script")
    page.locator("#show").select_option("read")
    assert len(names(page)) == 12


def test_all_words_of_the_page_come_from_the_catalogue() -> None:
    page = (SOURCES / "index.html").read_text()
    said = re.findall(r">([^<>]*[A-Za-z][^<>]*)<", page.split("<body", 1)[1].split(">", 1)[1])
    said += re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]+)"', page)
    assert {one for one in said if not re.fullmatch(r"(\s*\{\{\w+\}\}\s*)+", one)} <= {"1:1"}
    for module in SOURCES.glob("*.js"):
        if module.name != "words.js":
            sentences = re.findall(
                r'["`][A-Z][a-z]+ [a-z]+[^"`]*["`]', re.sub(r"^\s*(//|\*|/\*).*$", "", module.read_text(), flags=re.M)
            )
            assert sentences == [], module.name
