"""The report in plain sentences."""

from typing import Any

from hilum.report.words import decimal, interval, listed, plural, were, words

CONTROLS = {
    "identity": ("Patient identity", "the labels of the same patient's training films"),
    "view_age_sex": ("View, age, sex", "the view and the patient's age and sex"),
}
"""What each control that sees no pixel is called, and what it knows instead."""


def summary(report: dict[str, Any]) -> list[str]:
    """The report in plain sentences."""
    findings, mean = report["findings"], report["mean"]["auroc"]
    defined = {name: finding["auroc"] for name, finding in findings.items() if finding["auroc"]["value"] is not None}
    if not defined:
        return ["No finding occurs both present and absent among these films, so nothing can be ranked."]
    share = f"{100 * mean['value']:.0f} times out of 100"
    sentences = [
        f"Shown a film with a finding and one without, {report['system']} gives the first the higher score about "
        f"{share}, on average over {plural(len(defined), 'finding')}; guessing would be right 50 times."
    ]
    if len(defined) > 1:
        ranked = sorted(defined, key=lambda name: float(defined[name]["value"]))
        best, weakest = ranked[-1], ranked[0]
        sentences.append(
            f"Best ranked is {words(best)} ({decimal(defined[best]['value'])}), weakest {words(weakest)} "
            f"({decimal(defined[weakest]['value'])})."
        )
    unclear = [
        name for name, auroc in defined.items() if auroc["low"] is not None and auroc["low"] <= 0.5 <= auroc["high"]
    ]
    if unclear:
        sentences.append(f"No better than chance as far as these films can tell: {listed(unclear)}.")
    if report["localization"]:
        model, centre = (report["localization"]["mean"][name]["pointing"]["value"] for name in ("model", "centre"))
        sentences.append(
            "Of 100 findings with a true box, each kind counted alike, its heatmaps point into the box for "
            f"{100 * model:.0f}; always pointing at the film's centre does so for {100 * centre:.0f}."
        )
    undefined = report["undefined_findings"]
    if undefined:
        is_or_are = "is" if len(undefined) == 1 else "are"
        sentences.append(
            f"{listed(undefined)} {is_or_are} undefined, because these films do not show both presence and absence; "
            "the mean leaves this out."
        )
    if report["not_judged"]:
        sentences.append(f"Not judged, because the system gave no scores: {listed(report['not_judged'])}.")
    missing = report["missing_films"]
    if missing:
        sentences.append(f"{plural(len(missing), 'film')} of the split had no score and {were(missing)} left out.")
    return sentences + list(report["notes"])


def control_sentences(report: dict[str, Any]) -> list[str]:
    """What the controls reach and where the system stands, a sentence for each control."""
    sentences = []
    for name, control in report["controls"].items():
        auroc, difference, knows = control["mean"]["auroc"], control["mean"]["difference"], CONTROLS[name][1]
        if auroc["value"] is None:
            sentences.append(f"A control that knows only {knows} could not be judged: no finding defines it.")
            continue
        reached = f"reaches a mean AUROC of {decimal(auroc['value'])} ({interval(auroc)})"
        sentence = f"A control that sees no pixel and knows only {knows} {reached}"
        if difference["value"] is None:
            sentences.append(f"{sentence}; it shares no defined finding with {report['system']}.")
            continue
        above = f"{abs(difference['value']):.3f} {'above' if difference['value'] >= 0 else 'below'} it"
        ends = "no interval" if difference["low"] is None else f"{difference['low']:+.3f} to {difference['high']:+.3f}"
        sentences.append(f"{sentence}; {report['system']} lies {above} ({ends}).")
    return sentences
