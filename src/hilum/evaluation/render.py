"""The model card in Markdown, the page as PDF, and a report's folder made anew, from report.json alone."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from hilum.errors import HilumError
from hilum.evaluation.checklists import checklist
from hilum.evaluation.inputs import read_content
from hilum.evaluation.model import model_facts
from hilum.evaluation.page import PROTOCOLS, citation, limits, summary, write_report
from hilum.evaluation.sections import views
from hilum.evaluation.views import Cell, TableView, View, cell, count, plural, words
from hilum.files import unfinished, write_whole

_INTENDED = (
    "Research and teaching: comparing methods, reproducing published work, trying a model in a hospital's systems, on "
    "films that you may use for that.",
    "Frontal chest radiographs of adults, like those that it was trained on: the input quality check of "
    "`hilum predict` names others in the column `fit`.",
)
_NOT_INTENDED = (
    "Diagnosis, treatment or triage of patients, or any other decision about a person.",
    "Lateral films, children, other parts of the body, photographs of films, CT.",
    "Findings that it was not trained for, and the statement that a film is normal.",
    "Films of another source, before scores, calibration and thresholds were measured there "
    "(`hilum evaluate`, `hilum calibrate`).",
)


def model_card(report: dict[str, Any]) -> str:
    """The card of the model that a report evaluated: intended use, training, performance, limits.

    Raises:
        HilumError: if the report is of a file of scores, whose model is unknown.
    """
    model = report["model"]
    if not model:
        raise HilumError(
            f"model card must be of a bundle, but the report is of the scores {report['system']}. Evaluate the bundle: "
            "hilum evaluate RUN --films films.parquet --out REPORT"
        )
    protocol, meaning = PROTOCOLS.get(report["protocol"], PROTOCOLS[None])
    sections = [section for section in views(report) if section.on_card]
    evaluated = (
        f"Evaluated on {plural(report['films'], 'film')} of {plural(report['patients'], 'patient')}, split "
        f"{report['split']}. Intervals are 95 % intervals in which patients, not films, are the units; where too few "
        "patients have a finding, the reason stands in the interval's place."
    )
    parts = [
        f"# Model card: {model['recipe']}",
        f"**{report['disclaimer']}**",
        "Every number here is from the report.json that this card was made from, by `hilum evaluate RUN --films "
        "films.parquet --out REPORT`; `hilum report REPORT --card FILE` writes it anew.",
        "## What it is",
        _list(f"{name}: {fact}" for name, fact in {**model_facts(model), "findings": _named(model)}.items()),
        "## Use",
        "    hilum predict FOLDER_OF_THE_BUNDLE film.png --out predictions.csv",
        "Scores are probabilities only for films like those that they were calibrated on. `hilum calibrate` "
        "recalibrates on yours, and chooses the thresholds that `hilum predict --calls` applies.",
        "## Intended use",
        _list(_INTENDED),
        "## Not intended",
        _list(_NOT_INTENDED),
        "## What it learned from, and was evaluated on",
        f"{protocol}. {meaning}",
        f"Trained on the manifest {model['films_fingerprint'][:16] or '(not known)'}, evaluated on "
        f"{report['films_fingerprint'][:16]}.",
        "## Performance",
        evaluated,
        _list(summary(report)),
        _table(_performance(report)),
        *(part for section in sections for part in (f"## {section.title}", *_body(section))),
        "## What this does not show",
        _list(f"**{title}** {text}" for title, text in limits(report)),
        "## How to cite",
        _list(citation(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _named(model: dict[str, Any]) -> str:
    return ", ".join(words(name) for name in model["findings"])


def _performance(report: dict[str, Any]) -> TableView:
    mean = report["mean"]
    rows = [(Cell("Mean"), cell(mean["auroc"]), cell(mean["average_precision"]), Cell(""), Cell(""))]
    rows += [
        (
            Cell(words(name)),
            cell(one["auroc"]),
            cell(one["average_precision"]),
            Cell(count(one["films"]), plural(one["patients"], "patient")),
            Cell(count(one["positives"]), plural(one["positive_patients"], "patient")),
        )
        for name, one in report["findings"].items()
    ]
    return TableView("Per finding", ("Finding", "AUROC", "Average precision", "Films", "With the finding"), tuple(rows))


def _body(section: View) -> list[str]:
    return [
        _list(section.sentences),
        *(part for table in section.tables for part in (f"### {table.title}", _table(table))),
        *([section.legend] if section.legend else []),
    ]


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(sentence)}" for sentence in sentences)


def _table(table: TableView) -> str:
    header = [_plain(name) for name in table.header]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    lines += [[_plain(one.text + (f" ({one.small})" if one.small else "")) for one in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown takes for neither a table's border nor HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
"""Programs that print pages as Chromium does."""

_TIMEOUT_S = 120


def render_saved(
    folder: Path, out: Path, *, card: Path | None = None, pdf: bool = False, checklists: Sequence[str] = ()
) -> list[Path]:
    """Write report.html, roc.png and a copy of report.json into `out`, and return what was written for people.

    Args:
        folder: of a report.
        out: may be the same folder.
        card: where the model card goes; none is written if None.
        pdf: write report.pdf too.
        checklists: claim, tripod-ai or stard-ai, each written as checklist-NAME.md.

    Raises:
        HilumError: if the folder holds no report of this version, it is of no model and a card is asked for, or a PDF
            is and there is no browser.
    """
    report = read_content(folder)
    browser = _browser() if pdf else ""
    try:
        text = model_card(report) if card is not None else ""
        filled = {out / f"checklist-{name}.md": checklist(report, name) for name in checklists}
        write_report(report, out)
    except (KeyError, UndefinedError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        got = f"one without {error}" if isinstance(error, KeyError | UndefinedError) else f"another value: {error}"
        raise HilumError(
            f"report.json must be of Hilum's present form, got {got} in {folder}. Evaluate again: "
            "hilum evaluate RUN|PREDICTIONS --films films.parquet --out REPORT"
        ) from None
    written = [out / "report.html", out / "roc.png"]
    if card is not None:
        write_whole(card, text.encode())
        written.append(card)
    for path, lines in filled.items():
        write_whole(path, lines.encode())
        written.append(path)
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
            f"PDF needs Chromium or a like browser, got none of {', '.join(BROWSERS)} on PATH. Install it, on Debian "
            "with: apt-get install chromium. Or open report.html in any browser and print it"
        )
    return found[0]
