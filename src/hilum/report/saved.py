"""A report's folder made anew from its report.json: the page, the picture, the model card, and the page on paper."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from jinja2 import UndefinedError

from hilum.errors import HilumError
from hilum.files import unfinished, write_whole
from hilum.judging.stored import read_content
from hilum.report.model_card import model_card
from hilum.report.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
"""What Chromium and its kin are called."""

_TIMEOUT_S = 120


def render_saved(folder: Path, out: Path, *, card: Path | None = None, pdf: bool = False) -> list[Path]:
    """Write report.html, roc.png and a copy of report.json into `out`, and return what was written for people.

    Args:
        folder: of a report.
        out: may be the same folder.
        card: where the model card goes; none is written if None.
        pdf: write report.pdf too.

    Raises:
        HilumError: if the folder holds no report of this version, it is of no model and a card is asked for, or a PDF
            is and there is no browser.
    """
    report = read_content(folder)
    browser = _browser() if pdf else ""
    try:
        text = model_card(report) if card is not None else ""
        write_report(report, out)
    except (KeyError, UndefinedError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        got = f"one without {error}" if isinstance(error, KeyError | UndefinedError) else f"another value: {error}"
        raise HilumError(
            f"report.json must be of Hilum's present form, got {got} in {folder}. Judge again: "
            "hilum evaluate RUN|PREDICTIONS --films films.parquet --out REPORT"
        ) from None
    written = [out / "report.html", out / "roc.png"]
    if card is not None:
        write_whole(card, text.encode())
        written.append(card)
    if pdf:
        print_page(out / "report.html", out / "report.pdf", browser=browser)
        written.append(out / "report.pdf")
    return written


def print_page(page: Path, out: Path, *, browser: str) -> None:
    """Print a page into a PDF file, as the browser would on paper.

    Args:
        browser: the program.

    Raises:
        HilumError: if the browser makes none.
    """
    with unfinished(out) as beside, tempfile.TemporaryDirectory() as profile:
        beside.unlink()  # so that a file there is one that the browser wrote
        command = [browser, "--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has none
        command += [f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={beside.resolve()}"]
        try:
            ended = subprocess.run(
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
            reason = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        if not beside.is_file():
            raise HilumError(
                f"{browser} must print the page, but wrote no PDF: {reason}. Open {page} in a browser and print it"
            )


def _browser() -> str:
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        raise HilumError(
            f"PDF needs Chromium or one of its kin, got none of {', '.join(BROWSERS)} on PATH. Install it, on Debian "
            "with: apt-get install chromium. Or open report.html in any browser and print it"
        )
    return found[0]
