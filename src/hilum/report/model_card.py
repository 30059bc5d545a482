"""A model card in Markdown, from report.json and from nothing else."""

from collections.abc import Iterable
from typing import Any

from hilum.errors import HilumError
from hilum.report.limits import citation, limits
from hilum.report.model import model_facts
from hilum.report.page import PROTOCOLS, plain_sections
from hilum.report.sections import Cell, Section, TableView, cell
from hilum.report.summary import control_sentences, summary
from hilum.report.words import count, plural, words

_INTENDED = (
    "Research and teaching: to compare methods, to reproduce published work, to try how such a model would stand in a "
    "hospital's systems, on films that you may use for that.",
    "Frontal chest radiographs of adults, like those that it was trained on: `hilum predict` says in the column `fit` "
    "where a film is not.",
)
_NOT_INTENDED = (
    "Diagnosis, treatment or triage of patients, or any other decision about a person.",
    "Lateral films, children, other parts of the body, photographs of films, CT.",
    "Findings that it was not trained for, and the statement that a film is normal.",
    "Films of another source, before scores, calibration and thresholds were measured there "
    "(`hilum evaluate`, `hilum calibrate`).",
)


def model_card(report: dict[str, Any]) -> str:
    """The card of the model that a report judged: what it is and is not for, what it learned from, what it reaches.

    Raises:
        HilumError: if the report is of a file of scores, whose model nobody knows.
    """
    model = report["model"]
    if not model:
        raise HilumError(
            f"model card must be of a bundle, but the report is of the scores {report['system']}. Judge the bundle: "
            "hilum evaluate RUN --films films.parquet --out REPORT"
        )
    protocol, meaning = PROTOCOLS.get(report["protocol"], PROTOCOLS[None])
    sections = {section.name: section for section in plain_sections(report)}
    films = sections.pop("films", None)
    judged = (
        f"Judged on {plural(report['films'], 'film')} of {plural(report['patients'], 'patient')}, split "
        f"{report['split']}. Intervals are 95 % intervals from {count(report['draws'])} resamples of the patients."
    )
    parts = [
        f"# Model card: {model['recipe']}",
        f"**{report['disclaimer']}**",
        "Every number here stands in the report.json that this card was made from, by `hilum evaluate RUN --films "
        "films.parquet --out REPORT`; `hilum report REPORT --card FILE` writes it anew.",
        "## What it is",
        _list(f"{name}: {fact}" for name, fact in {**model_facts(model), "findings": _named(model)}.items()),
        "## Use",
        "    hilum predict FOLDER_OF_THE_BUNDLE film.png --out predictions.csv",
        "Scores are probabilities only for films like those that they were calibrated on. `hilum calibrate` does it "
        "anew on yours, and chooses the thresholds that `hilum predict --calls` applies.",
        "## Intended use",
        _list(_INTENDED),
        "## Not intended",
        _list(_NOT_INTENDED),
        "## What it learned from, and was judged on",
        f"{protocol}. {meaning}",
        f"Trained on the manifest {model['films_fingerprint'][:16]}, judged on {report['films_fingerprint'][:16]}.",
        *(_body(films) if films else ()),
        "## Performance",
        judged,
        _list(summary(report)),
        _table(_performance(report)),
        *([_list(control_sentences(report))] if report["controls"] else []),
        *(part for section in sections.values() for part in (f"## {section.title}", *_body(section))),
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


def _body(section: Section) -> list[str]:
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
