"""The page's section on label noise, and its table on the command line."""

from typing import Any

from hilum.report.sections import Cell, Section, TableView, cell
from hilum.report.words import count, decimal, interval, listed, plural, signed_interval, words

_HEADER = (
    "Finding",
    "Films",
    "With it, by the reference",
    "With it, by the manifest",
    "AUROC by the reference",
    "AUROC by the manifest",
    "Difference",
)
_PARTS = {
    "sensitivity": ("true_positives", "false_negatives"),
    "specificity": ("true_negatives", "false_positives"),
    "ppv": ("true_positives", "false_positives"),
    "npv": ("true_negatives", "false_negatives"),
}
"""Each rate's films, and those that make them whole."""

_LABELS_HEADER = ("Finding", "Sensitivity", "Specificity", "PPV", "NPV", "AUROC")


def reference_view(report: dict[str, Any]) -> Section:
    """The scores against both labels, and the manifest's labels against the reference."""
    section = report["reference"]
    mean, labels = section["mean"], [one["labels"]["auroc"]["value"] for one in section["findings"].values()]
    sentences = [
        f"{section['file']} holds labels of {plural(section['films'], 'judged film')} of "
        f"{plural(section['patients'], 'patient')}. On these films alone, the same scores are judged by them and by "
        "the manifest's labels."
    ]
    if mean["difference"]["value"] is not None:
        sentences.append(
            f"Mean AUROC by the reference: {decimal(mean['auroc']['value'])} ({interval(mean['auroc'])}), by the "
            f"manifest: {decimal(mean['manifest_auroc']['value'])} ({interval(mean['manifest_auroc'])}), difference "
            f"{mean['difference']['value']:+.3f} ({signed_interval(mean['difference'])})."
        )
    known = [value for value in labels if value is not None]
    if known:
        sentences.append(
            "Taken as a yes or no by a reader of these films, the manifest's labels themselves reach an AUROC of "
            f"{decimal(sum(known) / len(known))} by the reference, on average over {plural(len(known), 'finding')}."
        )
    sentences += [f"Not compared: {words(name)} ({why})." for name, why in section["not_compared"].items()]
    rows = tuple(
        (
            Cell(words(name)),
            Cell(count(one["films"]), plural(one["patients"], "patient")),
            Cell(count(one["positives"])),
            Cell(count(one["manifest_positives"])),
            cell(one["auroc"]),
            cell(one["manifest_auroc"]),
            cell(one["difference"], signed=True),
        )
        for name, one in section["findings"].items()
    )
    by_labels = tuple(
        (Cell(words(name)), *(_rate(one["labels"], measure) for measure in _PARTS), cell(one["labels"]["auroc"]))
        for name, one in section["findings"].items()
    )
    composites = [
        f"{name} is any of {listed(one['made_of'])}, scored by the largest of their scores"
        for name, one in section["findings"].items()
        if len(one["made_of"]) > 1
    ]
    return Section(
        "reference",
        "Label noise: a second opinion on the same films",
        tuple(sentences),
        tables=(
            TableView("The scores, by both labels", _HEADER, rows),
            TableView("The manifest's labels, by the reference", _LABELS_HEADER, by_labels),
        ),
        legend=". ".join([*composites, "PPV and NPV hold for the share of films with the finding among these."]),
    )


def reference_table(section: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows for the command line."""
    rows = [
        [
            words(name),
            f"{decimal(one['auroc']['value'])} [{interval(one['auroc'])}]",
            decimal(one["manifest_auroc"]["value"]),
            decimal(one["labels"]["auroc"]["value"]),
            f"{one['positives']:,} of {one['films']:,}",
        ]
        for name, one in section["findings"].items()
    ]
    title = f"By {section['file']}: {section['films']:,} of these films"
    return title, ["finding", "AUROC by it [95 %]", "by manifest", "labels by it", "positives"], rows


def _rate(labels: dict[str, Any], measure: str) -> Cell:
    """A rate with its interval and the films behind it."""
    part, other = (labels[name] for name in _PARTS[measure])
    whole = part + other
    shown = cell(labels[measure])
    return Cell(shown.text, f"{shown.small}, {count(part)} of {count(whole)}") if whole else shown
