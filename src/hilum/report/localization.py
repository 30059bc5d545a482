"""The page's section on localisation."""

from typing import Any

from hilum.published import MEAN
from hilum.report.sections import Cell, Section, TableView, cell
from hilum.report.words import decimal, interval, listed, plural, signed_interval, words

_SYSTEMS = ("model", "random", "centre")
_CALLED = {"pointing": "Point", "centre": "Box's centre", "iou": "IoU", "iobb": "IoBB"}


def localization_view(report: dict[str, Any]) -> Section:
    """Whether the heatmaps find what people drew boxes around, beside both controls."""
    section = report["localization"]
    mean, findings = section["mean"], section["findings"]
    model, random, centre = (mean[name]["pointing"] for name in _SYSTEMS)
    ahead = mean["model_minus_centre"]["pointing"]
    sentences = [
        f"{plural(section['films_with_findings'], 'finding')} on films of {plural(section['patients'], 'patient')} "
        "have true boxes. The share of them in which the strongest place of the heatmap lies in a box, averaged over "
        f"kinds of finding, is {decimal(model['value'])} ({interval(model)}); a random point reaches "
        f"{decimal(random['value'])}, always pointing at the film's centre {decimal(centre['value'])}.",
        f"Heatmap minus the film's centre: {ahead['value']:+.3f} ({signed_interval(ahead)}). {_verdict(ahead)}",
    ]
    behind = [k for k, one in findings.items() if _pointing(one, "model") <= _pointing(one, "centre")]
    if behind:
        sentences.append(f"Pointed at no better than by the film's centre: {listed(behind)}.")
    if section["flat_maps"]:
        sentences.append(f"{plural(section['flat_maps'], 'map')} had one value everywhere, and found nothing.")
    wang = section["published"]
    tables = [
        _table(section, "Is the point in the box, and the centre of the drawn box?", ("pointing", "centre")),
        _table(section, "Boxes that agree by more than 0.1", ("iou_0.1", "iobb_0.1")),
        _table(section, "Boxes that agree by more than 0.25", ("iou_0.25", "iobb_0.25")),
        _table(section, "Boxes that agree by more than 0.5", ("iou_0.5", "iobb_0.5")),
    ]
    return Section(
        "localization",
        "Does the heatmap find the finding?",
        tuple(sentences),
        tables=tuple(tables),
        legend=(
            "Shares of findings on films, with 95 % intervals from resampled patients. The drawn box surrounds the "
            f"largest connected region of what lies above {100 * section['box_threshold']:.0f} % of the map's own "
            "range, a rule that was fixed before any box was looked at. Random: a point anywhere, or "
            "a box of the drawn one's size anywhere; centre: the film's centre, and such a box there. IoU: "
            "intersection over union; IoBB: over the drawn box. Of several true boxes the best counts. "
            f"{wang['system']}: {wang['caveat']}"
        ),
    )


def _pointing(finding: dict[str, Any], system: str) -> float:
    return float(finding[system]["pointing"]["value"])


def _verdict(ahead: dict[str, Any]) -> str:
    if ahead["low"] is None or ahead["low"] <= 0 <= ahead["high"]:
        return "These films cannot tell whether it knows more than where films have their middle."
    if ahead["low"] > 0:
        return "It knows more than where films have their middle."
    return "It points worse than someone who always points at the middle: do not take these heatmaps for places."


def _table(section: dict[str, Any], title: str, measures: tuple[str, str]) -> TableView:
    header, published = ["Finding"], section["published"]
    for measure in measures:
        header += [f"{_CALLED[measure.partition('_')[0]]}: heatmap", "random", "centre"]
        header += [published["system"]] if measure.startswith("iobb") else []
    rows = [(Cell("Mean"), *_cells(MEAN, section["mean"], measures, published["iobb"]))]
    for name, one in section["findings"].items():
        of = f"{plural(one['films'], 'film')}, {plural(one['patients'], 'patient')}"
        rows.append((Cell(words(name), of), *_cells(name, one, measures, published["iobb"])))
    return TableView(title, tuple(header), tuple(rows))


def _cells(
    name: str, values: dict[str, Any], measures: tuple[str, str], published: dict[str, dict[str, float]]
) -> tuple[Cell, ...]:
    cells = []
    for measure in measures:
        kind, _, least = measure.partition("_")
        cells += [cell(values[system][measure]) for system in _SYSTEMS]
        if kind == "iobb":
            printed = published[least].get(name)
            cells.append(Cell("none" if printed is None else decimal(printed)))
    return tuple(cells)
