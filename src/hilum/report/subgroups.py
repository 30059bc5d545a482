"""The page's section on groups of patients."""

from typing import Any

from hilum.report.forest import forest
from hilum.report.operating import POINTS
from hilum.report.sections import Cell, Forest, Section, TableView, cell
from hilum.report.words import count, listed, plural, shown_p, signed_interval, words

ATTRIBUTES = {
    "sex": "sex",
    "age": "age",
    "view": "view",
    "films_per_patient": "films per patient",
    "source": "source",
}
"""What each attribute is called."""

MEASURES = {
    "auroc": "AUROC",
    "excess": "Mean score minus share",
    "missed": "Missed findings",
    "undiagnosed": "Undiagnosed films",
}
"""What each measure is called."""

LEVEL = 0.05
"""Differences whose corrected p-value lies below are named."""

_SHOWN_FINDINGS = 20


def subgroups_view(report: dict[str, Any]) -> Section:
    """Who is served worse: sentences, a table of all groups, and one of single findings in which a group differs."""
    section, title = report["subgroups"], "Groups of patients: who is served worse"
    groups = section["groups"]
    sentences = [f"All films have one {ATTRIBUTES[name]} ({value})." for name, value in section["single"].items()]
    if not groups:
        return Section("subgroups", title, ("These films cannot be divided into groups.", *sentences))
    clear = [
        f"{_name(group)}: {MEASURES[measure]} {group[measure]['difference']['value']:+.3f}"
        for group in groups
        for measure in MEASURES
        if _below(group[measure]["p_value_holm"])
    ]
    sentences = [
        f"Differences from the rest of the films that chance does not explain: {'; '.join(clear)}."
        if clear
        else "No group differs from the rest of the films, over all findings, by more than chance explains. That is no "
        "proof that it is served as well: the intervals show what these films cannot rule out.",
        *dict.fromkeys(section["not_measured"].values()),
        *sentences,
    ]
    small = [_name(group) for group in groups if group["auroc"]["group"]["value"] is None]
    if small:
        sentences.append(f"Too small to be judged: {listed(small)}.")
    measures = [name for name in MEASURES if name not in section["not_measured"]]
    tables = [TableView("Each group beside the rest of the films", *_table(groups, measures))]
    found = _single_findings(groups, measures)
    if found:
        tables.append(TableView("Single findings in which a group differs", _FINDING_HEADER, found))
    return Section(
        "subgroups",
        title,
        tuple(sentences),
        tables=tuple(tables),
        forests=_forests(groups, measures),
        legend=_legend(section),
    )


def _forests(groups: list[dict[str, Any]], measures: list[str]) -> tuple[Forest, ...]:
    """For each measure the groups' differences from their rest, one below the other."""
    names = [
        Cell(group["name"], f"{ATTRIBUTES[group['attribute']]}, {count(group['films'])} films") for group in groups
    ]
    found = (
        forest(
            f"{MEASURES[measure]}: group minus the rest",
            [(name, group[measure]["difference"]) for name, group in zip(names, groups, strict=True)],
            nothing="too small",
        )
        for measure in measures
    )
    return tuple(plot for plot in found if plot)


_FINDING_HEADER = ("Group", "Finding", "Measure", "Group", "Rest", "Difference", "With the finding")


def _table(groups: list[dict[str, Any]], measures: list[str]) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    header = ["Group", "Films"]
    for name in measures:
        header += [MEASURES[name], "minus the rest"]
    rows = []
    for group in groups:
        row = [Cell(group["name"], ATTRIBUTES[group["attribute"]])]
        row.append(Cell(count(group["films"]), plural(group["patients"], "patient")))
        for name in measures:
            row += _cells(group[name], group[name]["findings"] if name != "undiagnosed" else None)
        rows.append(tuple(row))
    return tuple(header), tuple(rows)


def _cells(contrast: dict[str, Any], findings: int | None) -> list[Cell]:
    if contrast["group"]["value"] is None:
        return [Cell("too small"), Cell("")]
    shown = cell(contrast["group"])
    if findings is not None:
        shown = Cell(shown.text, f"{shown.small}, {plural(findings, 'finding')}")
    return [shown, _difference(contrast)]


def _difference(contrast: dict[str, Any]) -> Cell:
    gap = contrast["difference"]
    if gap["value"] is None:
        return Cell("rest too small")
    return Cell(f"{gap['value']:+.3f}", f"{signed_interval(gap)}, p {shown_p(contrast['p_value_holm'])}")


def _single_findings(groups: list[dict[str, Any]], measures: list[str]) -> tuple[tuple[Cell, ...], ...]:
    """The clearest differences of single findings, the smallest p-values first."""
    found = [
        (finding[measure]["p_value_holm"], group, name, measure, finding)
        for group in groups
        for name, finding in group["findings"].items()
        for measure in measures
        if measure in finding and _below(finding[measure]["p_value_holm"])
    ]
    found.sort(key=lambda one: float(one[0]))
    return tuple(
        (
            Cell(group["name"], ATTRIBUTES[group["attribute"]]),
            Cell(words(name)),
            Cell(MEASURES[measure]),
            cell(finding[measure]["group"]),
            cell(finding[measure]["rest"]),
            _difference(finding[measure]),
            Cell(count(finding["positives"]), plural(finding["positive_patients"], "patient")),
        )
        for _, group, name, measure, finding in found[:_SHOWN_FINDINGS]
    )


def _legend(section: dict[str, Any]) -> str:
    fewest, point = section["fewest_patients"], section["operating_point"]
    missed = (
        " Missed findings: the share of films with a finding in which it is not called, a mean over findings; "
        "undiagnosed films: the share of films with any finding in which none is called; both at "
        f"{POINTS[point].lower()}."
        if point
        else ""
    )
    return (
        "AUROC and mean score minus share of films with the finding are means over the findings that at least "
        f"{fewest} patients have, and {fewest} do not, in the group and in the rest; so groups compare with their "
        f"rest, not with each other. Above 0 the scores are too high for the group.{missed} Intervals and p-values "
        "take patients, not films, as independent; p is corrected (Holm) for all groups, measure by measure, and in "
        f"the table of single findings, which shows the {_SHOWN_FINDINGS} clearest, for all groups and findings. A "
        "group may differ because its films are harder, not because it is served worse."
    )


def _name(group: dict[str, Any]) -> str:
    return f"{ATTRIBUTES[group['attribute']]} {group['name']}"


def _below(p_value: float | None) -> bool:
    return p_value is not None and p_value < LEVEL
