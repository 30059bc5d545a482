"""What a report does not show, and how to cite it: for the page and the model card."""

from typing import Any


def limits(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What stays open, each as a few words and their explanation."""
    found = [
        (
            "Whether the labels are right.",
            "ChestX-ray14's labels were mined from report texts and are wrong in a part of the films. A value here "
            "says how well such a label is guessed.",
        ),
        (
            "What happens elsewhere.",
            "Films from another hospital, machine or time differ; so do the patients. Values, calibration and calls "
            "must be measured there before they are believed.",
        ),
        (
            "What happens to patients.",
            "Nobody read films with this system, and no decision was made by it. Ranking films well is not helping "
            "people.",
        ),
        (
            "What was not looked for.",
            "A film without any of these findings may show others. Side, extent and change are not judged.",
        ),
    ]
    if report["localization"]:
        found.append(
            (
                "Why a score is what it is.",
                "A heatmap shows where the network's evidence lies. On films without boxes nobody checked it.",
            )
        )
    else:
        found.append(("Where the system looked.", "There were no heatmaps, or no true boxes, to judge it by."))
    if not report["subgroups"]:
        found.append(("Whether it serves all alike.", "The films were not judged by sex, age or view."))
    return found


def citation(report: dict[str, Any]) -> list[str]:
    """What to name: the software with this report, the paper, the data."""
    return [
        f"The Hilum developers. Hilum {report['hilum']}: open software for chest X-ray classification. Report of "
        f"{report['system']}, protocol {report['protocol'] or 'unknown'}, split {report['split']}, manifest "
        f"{report['films_fingerprint'][:12]}.",
        "AM_DenseNet: Zhao et al., “A deep learning method for classification of chest X-ray images”, J. Phys.: Conf. "
        "Ser. 1848 (2021) 012030.",
        "ChestX-ray14: Wang et al., “ChestX-ray8”, CVPR 2017, arXiv 1705.02315; images by the NIH Clinical Center.",
    ]
