"""A report's folder made anew from report.json."""

import json
import shutil
from pathlib import Path

import pytest
from commands import Hilum
from made_reports import full_report, some_report

from hilum.errors import HilumError
from hilum.evaluation.page import write_report
from hilum.evaluation.render import BROWSERS, print_page, render_saved

SEEN = next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_report(full_report(), tmp_path / "report")
    return tmp_path / "report"


def test_the_same_page_comes_from_report_json_alone(folder: Path, tmp_path: Path, hilum: Hilum) -> None:
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    out, card = tmp_path / "again", tmp_path / "CARD.md"
    said = hilum("report", folder, "--out", out, "--card", card)
    assert (said.code, said.out) == (0, "")
    assert (out / "report.html").read_bytes() == page
    assert (out / "report.json").read_bytes() == (folder / "report.json").read_bytes()
    assert card.read_text().startswith("# Model card: nih-small")
    assert not (folder / "report.html").exists()
    assert "not a medical device" in said.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "report must be a folder with report.json"),
        ("no JSON", "report.json must be JSON"),
        ("[]", "report.json must have 'system'"),
    ],
)
def test_no_report(tmp_path: Path, hilum: Hilum, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    said = hilum("report", tmp_path)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("key", ["films", "mean", "controls"])
def test_a_value_that_no_report_has_is_a_line(tmp_path: Path, hilum: Hilum, key: str) -> None:
    (tmp_path / "report.json").write_text(json.dumps({**some_report(), key: [7]}))
    said = hilum("report", tmp_path)
    assert said.code == 2
    assert "report.json must be of Hilum's present form, got another value" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_report_without_its_mean_must_be_made_again(tmp_path: Path) -> None:
    older = some_report()
    del older["mean"]
    (tmp_path / "report.json").write_text(json.dumps(older))
    with pytest.raises(HilumError, match=r"report\.json must be of Hilum's present form, got one without 'mean'"):
        render_saved(tmp_path, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_without_a_browser_the_remedy_is_named_and_nothing_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hilum: Hilum
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = hilum("report", folder, "--pdf", "--out", tmp_path / "out")
    assert said.code == 2
    assert "PDF needs Chromium" in said.err
    assert "open report.html in any browser and print it" in said.err
    assert not (tmp_path / "out").exists()


def test_a_browser_that_fails_is_named_with_its_last_word(folder: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho first >&2\necho no display >&2\nexit 1\n")
    browser.chmod(0o755)
    with pytest.raises(HilumError, match="wrote no PDF: no display"):
        print_page(folder / "report.html", tmp_path / "report.pdf", browser=str(browser))
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.slow
@pytest.mark.skipif(SEEN is None, reason="no Chromium: apt-get install chromium")
def test_the_page_on_paper(folder: Path, hilum: Hilum) -> None:
    said = hilum("report", folder, "--pdf")
    assert said.code == 0, said.err
    content = (folder / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") + content.count(b"/Type /Page/") >= 3
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
