"""Reporting checklists: what a report answers of CLAIM, TRIPOD+AI and STARD, where it stands, and what stays open."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hilum.errors import HilumError
from hilum.evaluation.sections import views
from hilum.evaluation.views import count, decimal, interval, plural, words

Report = dict[str, Any]
Answer = Callable[[Report], str]


class Item(NamedTuple):
    """One item of a checklist, in our own words.

    Attributes:
        answer: what the report knows of it, empty if nothing; None if no report can know it.
        anchor: the section of the report's page that says it.
    """

    number: str
    asks: str
    answer: Answer | None = None
    anchor: str = ""


def _text(fixed: str) -> Answer:
    return lambda report: fixed


def _films(report: Report) -> str:
    return (
        f"{count(report['films'])} films of {count(report['patients'])} patients, split {report['split']}, of a "
        f"manifest of {count(report['manifest_films'])} films (fingerprint {report['films_fingerprint'][:12]})."
    )


def _parted(report: Report) -> str:
    protocol = report["protocol"] or "unknown"
    shared = report["shared_patients"]
    apart = (
        f"{plural(shared, 'evaluated patient')} also in training"
        if shared
        else "no evaluated patient has a film in training"
    )
    return f"Protocol {protocol}; {apart}."


def _flow(report: Report) -> str:
    missing, unfit = len(report["missing_films"]), len(report.get("unfit_films") or {})
    return f"{plural(missing, 'film')} of the split without a score, {unfit:,} that the input quality check refuses."


def _missing(report: Report) -> str:
    return (
        f"Films with an unknown label are left out for that finding; {plural(len(report['missing_films']), 'film')} "
        f"without a score; undefined findings: {', '.join(map(words, report['undefined_findings'])) or 'none'}."
    )


def _accuracy(report: Report) -> str:
    mean = report["mean"]["auroc"]
    return (
        f"Mean AUROC {decimal(mean['value'])} ({interval(mean)}); each finding with its interval and positive patients."
    )


def _model(report: Report) -> str:
    model = report["model"]
    if not model:
        return ""
    size = model["preprocessing"]["size"]
    return f"{model['network']}, {model['parameters']:,} parameters, input {size} x {size} px, loss {model['loss']}."


def _training(report: Report) -> str:
    model = report["model"]
    if not model:
        return ""
    logged = plural(len(model["history"]), "epoch")
    return f"Recipe {model['recipe']}; starting weights {model['weights_before']}; {logged} logged."


def _start(report: Report) -> str:
    return f"Weights before training: {report['model']['weights_before']}." if report["model"] else ""


def _processing(report: Report) -> str:
    if not report["model"]:
        return ""
    return ", ".join(f"{words(name)} {value}" for name, value in report["model"]["preprocessing"].items()) + "."


def _points(report: Report) -> str:
    points = report["operating_points"]
    if not points:
        return ""
    return f"Operating points {', '.join(points)}. {report.get('thresholds_from') or 'Chosen on validation films.'}"


def _unclear(report: Report) -> str:
    return "Scores within a threshold's interval are indeterminate, and counted." if report["operating_points"] else ""


def _calibrated(report: Report) -> str:
    section = report["calibration"]
    return (
        section["undefined"]
        or f"Calibration error, Brier score and slope per finding. {section.get('how', '')}".strip()
    )


def _groups(report: Report) -> str:
    groups = (report["subgroups"] or {}).get("groups", [])
    return (
        f"{plural(len(groups), 'subgroup')} beside the rest of the films, corrected for their number." if groups else ""
    )


def _heat(report: Report) -> str:
    return "Heatmaps against true boxes, beside the image centre." if report.get("localization") else ""


def _external(report: Report) -> str:
    shift = report.get("shift")
    return f"Set against a report on {count(shift['report']['films'])} other films." if shift else ""


def _second(report: Report) -> str:
    return "Against a second reader's labels of some of the films." if report.get("reference") else ""


def _several(report: Report) -> str:
    runs = report.get("runs")
    return f"{plural(len(runs['runs']), 'training')} as a random effect." if runs else ""


def _decisions(report: Report) -> str:
    return "Net benefit over thresholds." if (report.get("decision_curves") or {}).get("findings") else ""


def _characters(report: Report) -> str:
    return "Patients, films, views and prevalence by split." if report["manifest"] else ""


def _crossed(report: Report) -> str:
    if not report["operating_points"]:
        return ""
    return "True and false calls of each finding as counts (report.json, operating_points) and as rates."


def _confused(report: Report) -> str:
    return "Which finding is called where another one is true." if report["confusions"] else ""


def _software(report: Report) -> str:
    return (
        f"Hilum {report['hilum']}; versions of the training in the bundle."
        if report["model"]
        else f"Hilum {report['hilum']}."
    )


_ERRORS = _text(
    "95 % intervals in which patients are the units; Holm's correction within each table; a word where patients are "
    "too few."
)
_LIMITS = _text("What the report does not show, in its own list; the authors' own limitations are to be added.")

CLAIM = (
    Item("1", "Title: names the kind of AI method"),
    Item("2", "Abstract: structured, with design, methods, results, conclusions"),
    Item("3", "Background, intended use and clinical role"),
    Item("4", "Aims and hypotheses"),
    Item("5", "Prospective or retrospective"),
    Item("6", "Goal of the study"),
    Item("7", "Where the data come from", _films, "films"),
    Item("8", "Which patients and films were taken, and which not"),
    Item("9", "How the data were processed before use", _processing, "training"),
    Item("10", "Parts of the data that were selected"),
    Item("11", "How identities were removed"),
    Item("12", "What was done about missing data", _missing, "method"),
    Item("13", "How images were acquired"),
    Item("14", "What the reference standard is, and how it was obtained"),
    Item("15", "Why this reference standard"),
    Item("16", "Who made the reference labels", _second, "reference"),
    Item("17", "How the test set was labelled", _second, "reference"),
    Item("18", "How far labellers agree, with others and themselves"),
    Item("19", "How data were assigned to training, validation and test", _parted, "protocol"),
    Item("20", "At what level the parts are disjoint", _parted, "protocol"),
    Item("21", "Intended sample size and its reason"),
    Item("22", "The model in detail", _model, "training"),
    Item("23", "Software", _software, "method"),
    Item("24", "How parameters were initialized", _start, "training"),
    Item("25", "How it was trained", _training, "training"),
    Item("26", "How the final model was chosen"),
    Item("27", "Ensembles", _several, "runs"),
    Item(
        "28", "Measures of performance", _text("AUROC, average precision, calibration, calls at thresholds."), "method"
    ),
    Item("29", "Uncertainty and significance", _ERRORS, "method"),
    Item("30", "Robustness or sensitivity analyses", _groups, "subgroups"),
    Item("31", "Explainability, and how it was checked", _heat, "localization"),
    Item("32", "Evaluation on internal data", _accuracy, "findings"),
    Item("33", "Evaluation on external data", _external, "shift"),
    Item("34", "Registration of a trial"),
    Item("35", "Numbers of patients taken and left out", _flow, "summary"),
    Item("36", "Characteristics of the patients in each part", _characters, "films"),
    Item("37", "Performance with its uncertainty, in each part", _accuracy, "findings"),
    Item("38", "Diagnostic performance with its precision", _points, "calls"),
    Item("39", "Errors looked at", _confused, "confusions"),
    Item("40", "Limitations", _LIMITS, "limits"),
    Item("41", "What it means for practice"),
    Item("42", "Where the full protocol is"),
    Item("43", "Whether software, model and data can be had"),
    Item("44", "Funding and its role"),
)
"""Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update", Radiology: AI 6."""

TRIPOD_AI = (
    Item("1", "Title: model developed or evaluated, population, outcome"),
    Item("2", "Abstract, by its own checklist"),
    Item("3a", "Health care context, and why a model"),
    Item("3b", "Target population, purpose, users"),
    Item("3c", "Known inequalities in health"),
    Item("4", "Objectives: development, evaluation or both"),
    Item("5a", "Sources of the data, apart for development and evaluation", _films, "films"),
    Item("5b", "Dates of the data"),
    Item("6a", "Setting and centres"),
    Item("6b", "Eligibility"),
    Item("6c", "Treatments received"),
    Item("7", "How data were prepared and checked", _processing, "training"),
    Item("8a", "The outcome, and how it is assessed"),
    Item("8b", "Who assessed it", _second, "reference"),
    Item("8c", "Blinding of who assessed it"),
    Item("9a", "Choice of predictors", _text("The pixels of the film alone."), "method"),
    Item("9b", "Predictors and how they are measured", _processing, "training"),
    Item("9c", "Who assessed predictors that need judgement", _text("None needs it."), "method"),
    Item("10", "How the study size came about"),
    Item("11", "Missing data", _missing, "method"),
    Item("12a", "How data were used for development and evaluation", _parted, "protocol"),
    Item("12b", "How predictors enter the model", _processing, "training"),
    Item("12c", "Type of model, how it was built and internally validated", _model, "training"),
    Item("12d", "Heterogeneity between clusters", _several, "runs"),
    Item("12e", "Measures of performance", _text("AUROC, average precision, calibration, net benefit."), "method"),
    Item("12f", "Updating of the model", _calibrated, "calibration"),
    Item("12g", "How predictions were computed for evaluation", _software, "method"),
    Item("13", "Class imbalance, and recalibration after it", _calibrated, "calibration"),
    Item("14", "Fairness", _groups, "subgroups"),
    Item("15", "Output of the model, and thresholds", _points, "calls"),
    Item("16", "Differences between development and evaluation data", _external, "shift"),
    Item("17", "Ethical approval and consent"),
    Item("18a", "Funding"),
    Item("18b", "Conflicts of interest"),
    Item("18c", "Where the protocol is"),
    Item("18d", "Registration"),
    Item("18e", "Whether data can be had"),
    Item("18f", "Whether code can be had", _software, "cite"),
    Item("19", "Involvement of patients and the public"),
    Item("20a", "Flow of participants", _flow, "summary"),
    Item("20b", "Characteristics of participants", _characters, "films"),
    Item("20c", "Comparison of development and evaluation data", _characters, "films"),
    Item("21", "Participants and outcomes in each analysis", _films, "findings"),
    Item("22", "The model in full", _model, "training"),
    Item("23a", "Performance with intervals, and in subgroups", _accuracy, "findings"),
    Item("23b", "Heterogeneity of performance", _several, "runs"),
    Item("24", "Results of updating", _calibrated, "calibration"),
    Item("25", "Interpretation, with fairness and earlier studies"),
    Item("26", "Limitations", _LIMITS, "limits"),
    Item("27a", "Poor or missing input at use", _flow, "summary"),
    Item("27b", "What users must do and know"),
    Item("27c", "Next steps"),
)
"""TRIPOD+AI: Collins et al., "TRIPOD+AI statement", BMJ 385, 2024."""

STARD_AI = (
    Item("1", "Title: a study of diagnostic accuracy, with a measure of it"),
    Item("2", "Abstract: structured"),
    Item("3", "Background, intended use and role of the test"),
    Item("4", "Objectives and hypotheses"),
    Item("5", "Data collected before or after the test was planned"),
    Item("6", "Eligibility"),
    Item("7", "How eligible patients were found"),
    Item("8", "Where and when"),
    Item("9", "Consecutive, random or convenience series"),
    Item("10a", "The index test, so that it can be repeated", _model, "training"),
    Item("10b", "The reference standard, so that it can be repeated"),
    Item("11", "Why this reference standard"),
    Item("12a", "Thresholds of the index test, and whether they were stated before", _points, "calls"),
    Item("12b", "Categories of the reference standard"),
    Item(
        "13a",
        "What was known when the index test was read",
        _text("The model sees the pixels of the film alone."),
        "method",
    ),
    Item("13b", "What was known when the reference standard was made"),
    Item("14", "How accuracy was estimated and compared", _ERRORS, "method"),
    Item("15", "Indeterminate results", _unclear, "calls"),
    Item("16", "Missing data", _missing, "method"),
    Item("17", "Variability of accuracy, and which of it was planned", _groups, "subgroups"),
    Item("18", "Intended sample size and its reason"),
    Item("19", "Flow of participants", _flow, "summary"),
    Item("20", "Characteristics of participants", _characters, "films"),
    Item("21a", "Severity in those with the finding"),
    Item("21b", "Other diagnoses in those without", _confused, "confusions"),
    Item("22", "Time and treatment between the tests"),
    Item("23", "Results of the test against those of the reference", _crossed, "calls"),
    Item("24", "Accuracy with its precision", _accuracy, "findings"),
    Item("25", "Harm by the tests"),
    Item("26", "Limitations", _LIMITS, "limits"),
    Item("27", "What it means for practice", _decisions, "decisions"),
    Item("28", "Registration"),
    Item("29", "Where the protocol is"),
    Item("30", "Funding and its role"),
    Item("AI", "Data of training, validation and test: sources, parts, overlap", _parted, "protocol"),
    Item("AI", "Processing of the input and software", _processing, "training"),
    Item("AI", "Fairness: accuracy in subgroups", _groups, "subgroups"),
    Item("AI", "Errors and failures of the model", _confused, "confusions"),
    Item("AI", "Whether code, model and data can be had", _software, "cite"),
)
"""STARD 2015 (Bossuyt et al., Radiology 277, 2015), and what STARD-AI (2025) adds, under AI, not by its own numbers."""

_TITLES = {
    "claim": ("CLAIM 2024", CLAIM, ""),
    "tripod-ai": ("TRIPOD+AI 2024", TRIPOD_AI, ""),
    "stard-ai": (
        "STARD-AI",
        STARD_AI,
        "Numbers are those of STARD 2015; what STARD-AI adds stands under AI, without the numbers of its own list.",
    ),
}

_OPEN = "**open: to be written by the authors**"


def checklist(report: Report, name: str) -> str:
    """A checklist in Markdown, filled with what a report.json knows; the rest is visibly open.

    Args:
        name: claim, tripod-ai or stard-ai.

    Raises:
        HilumError: if there is no such checklist.
    """
    if name not in _TITLES:
        raise HilumError(f"checklist must be one of {', '.join(_TITLES)}, got {name!r}")
    title, items, note = _TITLES[name]
    titles = {view.name: view.entry for view in views(report)} | _FIXED
    rows = [_row(item, report, titles) for item in items]
    known = sum(_OPEN not in row for row in rows)
    return "\n".join(
        [
            f"# {title}: {report['system']}",
            "",
            f"**{report['disclaimer']}**",
            "",
            f"{known} of {len(rows)} items have something in the report; it may not be all that the item asks for. The "
            f"items are in our own words: the published checklist holds. {note}".rstrip(),
            "",
            "| item | asks for | the report says | where |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


_FIXED = {
    "summary": "In plain words",
    "protocol": "What the split means",
    "findings": "Finding by finding",
    "method": "How this was computed",
    "limits": "What this does not show",
    "cite": "How to cite",
}


def _row(item: Item, report: Report, titles: dict[str, str]) -> str:
    answer = item.answer(report).strip() if item.answer else ""
    where = ""
    if answer and item.anchor in titles:
        where = f"report.html#{item.anchor}: {titles[item.anchor]}"
    cells = (item.number, item.asks, answer or _OPEN, where)
    return f"| {' | '.join(cell.replace('|', ' ').replace('<', '&lt;') for cell in cells)} |"
