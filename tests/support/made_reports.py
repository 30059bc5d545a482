"""Reports of nobody, in the form of report.json."""

from dataclasses import asdict
from typing import Any

from hilum import DISCLAIMER
from hilum.evaluation.published import WANG_LOCALIZATION
from hilum.evaluation.sections import Section
from hilum.evaluation.views import View
from hilum.findings import CHESTXRAY14
from hilum.metrics.localization import MEASURES as LOCATED
from hilum.metrics.subgroups import MEASURES, UNDIAGNOSED

PICTURE = "data:image/jpeg;base64,/9j/4AAQSkZJRg=="


def shown(section: Section, report: dict[str, Any]) -> View:
    """What a section shows, where it shows something."""
    view = section.view(report)
    assert view is not None
    return view


def estimate(value: float | None, undefined: int = 0) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.03, value + 0.02)
    return {"value": value, "low": low, "high": high, "undefined": undefined}


def some_report(protocol: str | None = "official", **changes: Any) -> dict[str, Any]:
    curve = {
        "false_positive_rate": [0.0, 0.25, 1.0],
        "true_positive_rate": [0.0, 0.75, 1.0],
        "precision": [None, 0.290323, 0.12],
        "threshold": [None, 0.4, 0.1],
    }
    empty: dict[str, list[float]] = {name: [] for name in curve}
    counts = {"films": 100, "patients": 40, "positives": 12, "positive_patients": 9}
    findings = {
        name: {"auroc": estimate(0.7 + i / 100), "average_precision": estimate(0.3), **counts, "curve": curve}
        for i, name in enumerate(CHESTXRAY14)
    }
    findings["Hernia"] |= {"auroc": estimate(None, 50), "average_precision": estimate(None, 50), "curve": empty}
    peer = {"system": "Wang 2017", "protocol": "official", "source": "arXiv", "erratum": "", "mean": 0.7451}
    other = {"system": "AM_DenseNet + focal", "protocol": "image", "source": "paper", "erratum": "", "mean": 0.8537}
    values = {"findings": dict.fromkeys(CHESTXRAY14, 0.7123)}
    report = {
        "hilum": "0.1.0",
        "system": "AM_DenseNet",
        "protocol": protocol,
        "split": "test",
        "films": 100,
        "patients": 40,
        "seed": 0,
        "draws": 50,
        "films_fingerprint": "ab" * 32,
        "manifest_films": 500,
        "mean": {"auroc": estimate(0.765, 2), "average_precision": estimate(0.3)},
        "findings": findings,
        "undefined_findings": ["Hernia"],
        "not_judged": [],
        "missing_films": [],
        "shared_patients": 0,
        "films_with_siblings_in_training": 0,
        "controls": {},
        "calibration": {"undefined": "Scores outside [0, 1] are no probabilities."},
        "localization": {},
        **dict.fromkeys(("operating_points", "confusions", "manifest", "model")),
        **{name: {} for name in ("subgroups", "reference", "shift")},
        "gallery": [],
        "notes": [],
        "disclaimer": DISCLAIMER,
        "published": [peer | values] if protocol == "official" else [],
        "published_incomparable": "",
        "published_elsewhere": [other | values],
    }
    return report | changes


def full_report(**changes: Any) -> dict[str, Any]:
    """With all that a bundle's report has beyond `some_report`."""
    share = {"value": 0.75, "low": 0.5, "high": 0.9, "undefined": 0}
    called = dict.fromkeys(("sensitivity", "specificity", "ppv", "npv", "alarms_per_100", "unsure"), share)
    threshold = {"threshold": 0.4, "unsure_from": 0.3, "unsure_to": 0.5, "at_prevalence": None}
    cells = {"Mass": {"films": 20, "called": 4}, "Edema": {"films": 12, "called": 9}}
    split = {"films": 50, "patients": 20, "views": {"PA": 30, "AP": 20, "LATERAL": 0, "unknown": 0}}
    split |= {"known": dict.fromkeys(CHESTXRAY14, 50), "positives": dict.fromkeys(CHESTXRAY14, 6)}
    film = {
        "film": "a.png",
        "finding": "Mass",
        "score": 0.25,
        "hit": True,
        "point": [0.25, 0.5],
        "width": 8,
        "height": 4,
    }
    film |= {"drawn": [0.0, 0.25, 0.5, 0.5], "boxes": [[0.25, 0.25, 0.5, 0.5]], "picture": PICTURE}
    contrast = {"group": share, "rest": share, "difference": estimate(-0.05), "p_value": 0.2, "p_value_holm": 0.9}
    contrast |= {"findings": 9, "too_small": ""}
    nothing = contrast | {"group": estimate(None), "difference": estimate(None), "p_value_holm": None}
    groups = [
        {
            "attribute": "sex",
            "name": name,
            "films": 60,
            "patients": 20,
            **dict.fromkeys((*MEASURES, UNDIAGNOSED), one),
            "findings": {},
        }
        for name, one in (("F", contrast), ("unknown", nothing))
    ]
    shares = {name: dict.fromkeys(LOCATED, share) for name in ("model", "random", "centre")}
    ahead = {f"model_minus_{name}": dict.fromkeys(LOCATED, estimate(0.01)) for name in ("random", "centre")}
    made: dict[str, Any] = {
        "subgroups": {
            "fewest_patients": 10,
            "operating_point": "youden",
            "not_measured": {},
            "single": {"source": "nih"},
            "groups": groups,
        },
        "localization": {
            "box_threshold": 0.7059,
            "films_with_findings": 2,
            "patients": 2,
            "flat_maps": 1,
            "mean": shares | ahead,
            "findings": {"Mass": {"films": 1, "patients": 1, **shares}},
            "published": asdict(WANG_LOCALIZATION),
        },
        "operating_points": {"youden": dict.fromkeys(CHESTXRAY14, called | threshold)},
        "confusions": {
            "point": "youden",
            "true": {"Mass": cells, "Edema": cells, "none": cells | {"Edema": cells["Mass"]}},
        },
        "manifest": {
            "films": 100,
            "patients": 40,
            "splits": [{"split": "train", **split}, {"split": "test", **split}],
            "problems": {"missing": 7, "same_name": 0, "unlisted": None, "age": 0, "unsplit": 0},
            "shared_patients": {"train/val": 0, "train/test": 3, "val/test": 0},
            "copies": {"groups": 2, "across_splits": 1, "first": [["a.png", "b.png"]]},
        },
        "model": {
            "recipe": "nih-small",
            "about": "A small one.",
            "network": "am-densenet",
            "parameters": 7_005_236,
            "preprocessing": {"size": 224, "interpolation": "area", "channels": 1},
            "loss": "bce",
            "weights_before": "phantom",
            "protocol": "official",
            "findings": list(CHESTXRAY14),
            "films_fingerprint": "ab" * 32,
            "weights_sha256": "cd" * 32,
            "calibration": "scores are not calibrated: they are no probabilities",
            "training": {"epochs": 2, "val_auroc": 0.68999},
            "history": [{"epoch": 1, "loss": 2}, {"epoch": 2, "loss": 1}],
        },
        "gallery": [film, film | {"hit": False, "point": None, "drawn": None, "finding": "Edema"}],
    }
    return some_report(**made) | changes


def some_controls(**difference: Any) -> dict[str, Any]:
    above = {"value": 0.02, "low": -0.01, "high": 0.04, "undefined": 0} | difference
    findings = {name: {"auroc": estimate(0.6)} for name in CHESTXRAY14} | {"Hernia": {"auroc": estimate(None, 50)}}
    one = {"mean": {"auroc": estimate(0.745), "difference": above}, "findings": findings}
    return {"identity": one, "view_age_sex": one | {"mean": {"auroc": estimate(0.62), "difference": above}}}
