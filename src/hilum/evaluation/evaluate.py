"""Judge scores on a split: every number that a report shows, with its interval and what it was computed from.

From a bundle or a table of scores to a report in a folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from hilum import DISCLAIMER, __version__
from hilum.data.films import Films
from hilum.errors import HilumError, PredictionsError, extras_named
from hilum.evaluation.calibration import calibration_section
from hilum.evaluation.cohort import manifest_section
from hilum.evaluation.controls import ControlReport, control_report, records
from hilum.evaluation.curves import curve_json
from hilum.evaluation.external import check_report, shift_section
from hilum.evaluation.inputs import Judged, judged_films, read_predictions, read_reference, read_report
from hilum.evaluation.localization import Boxed, boxed_maps, gallery_section, localization_section
from hilum.evaluation.operating_points import confusions_section, operating_section
from hilum.evaluation.page import write_report
from hilum.evaluation.published import MEAN, Published, others, peers
from hilum.evaluation.reference import reference_section
from hilum.evaluation.render import model_card
from hilum.evaluation.subgroups import subgroups_section
from hilum.evaluation.training import model_section
from hilum.files import write_whole
from hilum.findings import CHESTXRAY14
from hilum.messages import messages
from hilum.metrics.bootstrap import Estimate, bootstrap, estimate, estimate_json, macro_mean
from hilum.metrics.controls import Control, run_controls
from hilum.metrics.ranking import RocCurve, auroc_per_finding, average_precision_per_finding, roc_curve, thin
from hilum.model.engines import TorchEngine
from hilum.predict.scoring import score_films

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle

CURVE_POINTS = 200
CHESTXRAY14_FILMS = 112_120


@dataclass(frozen=True)
class FindingReport:
    """What is known of one finding; both measures are NaN if its films with known labels are of one class."""

    auroc: Estimate
    average_precision: Estimate
    films: int  # with a known label
    patients: int
    positives: int
    positive_patients: int
    curve: RocCurve

    def to_dict(self) -> dict[str, Any]:
        """The form of report.json; the curve of an undefined finding is empty."""
        return {
            "auroc": estimate_json(self.auroc),
            "average_precision": estimate_json(self.average_precision),
            "films": self.films,
            "patients": self.patients,
            "positives": self.positives,
            "positive_patients": self.positive_patients,
            "curve": curve_json(self.curve, self.films, self.positives),
        }


@dataclass(frozen=True)
class Report:
    """One system on one split. Means are over the findings that are neither `undefined` nor `not_judged`."""

    system: str
    protocol: str | None
    split: str
    films: int
    patients: int
    seed: int
    draws: int
    films_fingerprint: str
    manifest_films: int
    mean_auroc: Estimate
    mean_average_precision: Estimate
    findings: dict[str, FindingReport]
    undefined_findings: tuple[str, ...]
    not_judged: tuple[str, ...]
    missing_films: tuple[str, ...]
    shared_patients: int  # of this split, who also have films in training
    films_with_siblings_in_training: int
    controls: dict[str, ControlReport]  # empty where no patient can be on both sides
    calibration: dict[str, Any]
    localization: dict[str, Any]  # empty without maps and boxes
    notes: tuple[str, ...]  # what a reader should know about the scores, in sentences

    def to_dict(self) -> dict[str, Any]:
        """report.json: plain JSON in which NaN is null."""
        incomparable = self._incomparable()
        return {
            "hilum": __version__,
            "system": self.system,
            "protocol": self.protocol,
            "split": self.split,
            "films": self.films,
            "patients": self.patients,
            "seed": self.seed,
            "draws": self.draws,
            "films_fingerprint": self.films_fingerprint,
            "manifest_films": self.manifest_films,
            "mean": {
                "auroc": estimate_json(self.mean_auroc),
                "average_precision": estimate_json(self.mean_average_precision),
            },
            "findings": {name: finding.to_dict() for name, finding in self.findings.items()},
            "undefined_findings": list(self.undefined_findings),
            "not_judged": list(self.not_judged),
            "missing_films": list(self.missing_films),
            "shared_patients": self.shared_patients,
            "films_with_siblings_in_training": self.films_with_siblings_in_training,
            "controls": {name: control.to_dict() for name, control in self.controls.items()},
            "calibration": self.calibration,
            "localization": self.localization,
            # what follows comes with a bundle or with the manifest's files; see hilum.evaluation.evaluate
            **dict.fromkeys(("operating_points", "confusions", "unfit_films", "manifest", "model")),
            **{name: {} for name in ("subgroups", "reference", "shift")},
            "gallery": [],
            "notes": list(self.notes),
            "disclaimer": DISCLAIMER,
            "published": _systems(peers(self.protocol)),
            "published_incomparable": incomparable,
            "published_elsewhere": _systems(others(self.protocol)),
        }

    def _incomparable(self) -> str:
        """Why even values of the same protocol do not compare with this report; empty if they do."""
        if self.manifest_films < 0.99 * CHESTXRAY14_FILMS or tuple(self.findings) != CHESTXRAY14:
            return (
                f"Published values were measured on all {CHESTXRAY14_FILMS:,} films and 14 findings of ChestX-ray14; "
                f"here the manifest holds {self.manifest_films:,} films and {len(self.findings)} findings were judged."
            )
        if self.split != "test" or self.missing_films:
            return "Published values were measured on the whole test split, which this report did not judge."
        return ""


def judge(
    films: Films,
    scores: pd.DataFrame,
    *,
    split: str = "test",
    seed: int = 0,
    draws: int = 1000,
    system: str = "",
    allow_missing: bool = False,
    allow_unknown: bool = False,
) -> Report:
    """AUROC and average precision per finding and their means, with 95 % intervals from resampled patients.

    Args:
        scores: a column `film`, then a column per finding; any finite numbers that rise with the finding.
        split: which films are judged; scores of other films of the manifest are not looked at.
        system: what gave the scores, for the heading.
        allow_missing: judge the films that have scores, and name the others, where some have none.
        allow_unknown: leave out scores of films that the manifest does not hold.

    Raises:
        FilmsError: if the manifest has no such split.
        PredictionsError: if the scores cannot be judged, with file, row and column.
    """
    chosen = judged_films(films, scores, split=split, allow_missing=allow_missing, allow_unknown=allow_unknown)
    judged, numbers, labels, patients = chosen.findings, chosen.numbers, chosen.labels, chosen.patients
    drawn = bootstrap(numbers, labels, patients, draws=draws, seed=seed)
    values = auroc_per_finding(numbers, labels), average_precision_per_finding(numbers, labels)
    if len(set(patients)) < 2:  # resampling one patient gives that patient: no news, not certainty
        drawn.auroc[:], drawn.average_precision[:] = np.nan, np.nan
    findings = {
        name: FindingReport(
            auroc=estimate(float(values[0][i]), drawn.auroc[:, i]),
            average_precision=estimate(float(values[1][i]), drawn.average_precision[:, i]),
            films=int((~np.isnan(labels[:, i])).sum()),
            patients=len(set(patients[~np.isnan(labels[:, i])])),
            positives=int((labels[:, i] == 1).sum()),
            positive_patients=len(set(patients[labels[:, i] == 1])),
            curve=thin(roc_curve(numbers[:, i], labels[:, i]), CURVE_POINTS),
        )
        for i, name in enumerate(judged)
    }
    training = films.table[films.table["split"] == "train"]
    in_training = set(training["patient"]) if split != "train" else set()
    siblings = int(chosen.truth["patient"].isin(in_training).sum())
    controls: dict[str, Control] = {}
    if siblings or (films.notes.get("protocol") == "image" and len(training) and split != "train"):
        pair = (records(table, judged) for table in (training, chosen.truth))
        controls = run_controls(*pair, draws=draws, seed=seed)
    return Report(
        system=system or "unnamed system",
        protocol=films.notes.get("protocol"),
        split=split,
        films=len(chosen.truth),
        patients=len(set(patients)),
        seed=seed,
        draws=draws,
        films_fingerprint=films.fingerprint(),
        manifest_films=len(films),
        mean_auroc=estimate(*macro_mean(values[0], drawn.auroc)),
        mean_average_precision=estimate(*macro_mean(values[1], drawn.average_precision)),
        findings=findings,
        undefined_findings=tuple(name for name, value in zip(judged, values[0], strict=True) if np.isnan(value)),
        not_judged=tuple(name for name in films.findings if name not in judged),
        missing_films=chosen.missing,
        shared_patients=len(in_training & set(patients)),
        films_with_siblings_in_training=siblings,
        controls={name: control_report(control, judged, values[0], drawn.auroc) for name, control in controls.items()},
        calibration=calibration_section(chosen, draws=draws, seed=seed),
        localization={},
        notes=tuple(_notes(scores, chosen, findings, split)),
    )


def _notes(scores: pd.DataFrame, chosen: Judged, findings: dict[str, FindingReport], split: str) -> list[str]:
    """What is unusual about the scores, a sentence each."""
    notes, judged, numbers = [], chosen.findings, chosen.numbers
    if split != "test":
        notes.append(
            f"These are films of the split {split}, on which choices were made: the values flatter the system."
        )
    constant = _names(judged, np.ptp(numbers, axis=0) == 0)
    if constant:
        notes.append(f"All scores are equal, which is no ranking and gives an AUROC of 0.5: {constant}.")
    calls = _names(judged, ((numbers == 0) | (numbers == 1)).all(axis=0) & (np.ptp(numbers, axis=0) > 0))
    if calls:
        notes.append(f"The scores are only 0 and 1, calls or labels rather than scores: {calls}.")
    below = _names(judged, np.array([findings[name].auroc.high < 0.5 for name in judged]))
    if below:
        notes.append(f"Ranks worse than chance; are columns swapped or scores inverted? {below}.")
    if (numbers < 0).any() or (numbers > 1).any():
        notes.append(
            f"Scores lie outside [0, 1] (from {numbers.min():.4g} to {numbers.max():.4g}); AUROC and average precision "
            "use only their order."
        )
    affix = scores.attrs.get("affix", "*")
    if affix != "*":
        notes.append(f"The scores were read from the columns named {affix}, where * is the finding.")
    known = {"film", *judged}
    ignored = scores.attrs.get("ignored_columns", [str(name) for name in scores.columns if name not in known])
    if ignored:
        notes.append(f"Columns that are no scores were not used: {', '.join(ignored)}.")
    unknown = chosen.scores.attrs["unknown_films"]
    if unknown:
        notes.append(f"{len(unknown):,} films are not in the manifest and were left out, the first is {unknown[0]}.")
    return notes


def _names(judged: Sequence[str], which: Shaped[np.ndarray, " findings"]) -> str:
    return ", ".join(name for name, chosen in zip(judged, which, strict=True) if chosen)


def _systems(values: Sequence[Published]) -> list[dict[str, Any]]:
    """Published values, a dictionary per system."""
    systems: dict[str, dict[str, Any]] = {}
    for value in values:
        entry = asdict(value)
        finding, auroc, _ = entry.pop("finding"), entry.pop("auroc"), entry.pop("misprinted")
        system = systems.setdefault(value.system, {**entry, "mean": None, "findings": {}})
        if finding == MEAN:
            system["mean"] = auroc
        else:
            system["findings"][finding] = auroc
    return list(systems.values())


def evaluate_to_folder(
    model: Path,
    films: Films,
    out: Path,
    *,
    split: str = "test",
    draws: int = 1000,
    seed: int = 0,
    allow_missing: bool = False,
    allow_unknown: bool = False,
    prevalence: Mapping[str, float] | None = None,
    reference: Path | None = None,
    against: Path | None = None,
    gallery: bool = True,
) -> dict[str, Any]:
    """Judge a bundle or a file of scores, write the report, and return what report.json holds.

    The judged films' scores and truth are written too, as predictions.csv and judged.parquet, so that reports can be
    compared. A bundle that is judged on the test split of the manifest that it was trained on gets its model card made
    anew from the report. Other arguments as for `hilum.evaluation.evaluate.judge`.

    Args:
        prevalence: shares of films, by finding, for which PPV and NPV are computed once more.
        reference: table of labels of some of these films, to judge the same scores and the manifest's labels by.
        against: folder of a report of the same model on other films, to say what changed since.
        gallery: show some films, with their heatmaps and boxes, on the page and in report.json.

    Raises:
        FilmsError: if the manifest has no such split.
        BundleError, PredictionsError: if the model or its scores cannot be judged.
        HilumError: if the earlier report is of another model or of the same films.
    """
    if not model.exists():
        raise PredictionsError(
            f"model must be a bundle's folder or a file of scores, got {str(model)!r}, which is none. Check the path."
        )
    other_labels = None if reference is None else read_reference(reference)
    earlier = None if against is None else read_report(against)
    bundle = _loaded(model) if model.is_dir() else None
    if other_labels is not None:
        other_labels.of(films.select(split).table["film"].tolist())  # refused before films are scored
    if earlier is not None:
        weights = _weights_of(bundle) if bundle else None
        check_report(earlier, films_fingerprint=films.fingerprint(), split=split, weights=weights)
    scores = score_films(TorchEngine(bundle), films.select(split)) if bundle else read_predictions(model)
    report = judge(
        films,
        scores,
        split=split,
        seed=seed,
        draws=draws,
        system=f"{bundle.recipe.name} ({model.name})" if bundle else model.name,
        allow_missing=allow_missing,
        allow_unknown=allow_unknown,
    )
    boxed: list[Boxed] = []
    if bundle:
        boxed = boxed_maps(TorchEngine(bundle), films.select(split))
        report = replace(
            report,
            notes=(*report.notes, *_other_manifest(bundle, films), *_unfit(scores)),
            calibration={**report.calibration, "how": _how_calibrated(bundle, films.select(split))},
            localization=localization_section(boxed, draws=draws, seed=seed),
        )
    chosen = judged_films(films, scores, split=split, allow_missing=allow_missing, allow_unknown=allow_unknown)
    content = report.to_dict()
    points = bundle.thresholds if bundle else None
    content["operating_points"] = points and operating_section(
        chosen, points, prevalence=prevalence or {}, draws=draws, seed=seed
    )
    content["subgroups"] = subgroups_section(chosen, points)
    if other_labels is not None:
        content["reference"] = reference_section(chosen, other_labels, draws=draws, seed=seed)
    content["model"] = bundle and model_section(bundle, model)
    if earlier is not None:
        content["shift"] = shift_section(content, chosen, earlier)
    content["confusions"] = points and confusions_section(chosen, points)
    content["unfit_films"] = scores.attrs.get("unfit")
    content["manifest"] = manifest_section(films, look=bundle is not None)
    if bundle and gallery:
        content["gallery"] = gallery_section(boxed, films, scores, bundle.description, seed=seed)
    chosen.write(out)
    write_report(content, out)
    if bundle and split == "test" and bundle.films == films.fingerprint():
        _update_card(model, model_card(content))
    return content


def _loaded(model: Path) -> "Bundle":
    with extras_named():
        from hilum.model.bundle import load_bundle

    return load_bundle(model)


def _weights_of(bundle: "Bundle") -> str:
    from hilum.model.bundle import weights_sha256

    return weights_sha256(bundle)


def _update_card(run: Path, card: str) -> None:
    """Put what was measured into the bundle's model card; a bundle that cannot be written to keeps its own."""
    from hilum.model.bundle import CARD

    try:
        write_whole(run / CARD, card.encode())
    except HilumError as error:
        messages().print(f"The model card in {run} was not updated: {error}.")


def _how_calibrated(bundle: "Bundle", judged: Films) -> str:
    used = bundle.calibration_set
    if used is None:
        return "This model's scores were never calibrated."
    text = f"They were calibrated ({used.method}) on {used.films:,} validation films of {used.patients:,} patients."
    if used.fingerprint == judged.fingerprint():
        return f"{text} These are the films judged here, so their calibration is flattered."
    return text


def _other_manifest(bundle: "Bundle", films: Films) -> list[str]:
    if bundle.films == films.fingerprint():
        return []
    return [
        "The bundle was trained on another manifest or split than it is judged on. Whether films or patients of "
        "its training are among those judged cannot be seen here."
    ]


def _unfit(scores: pd.DataFrame) -> list[str]:
    unfit = scores.attrs.get("unfit")
    if not unfit:
        return []
    film, why = next(iter(unfit.items()))
    return [
        f"{len(unfit):,} of {len(scores):,} judged films do not look like those that the model was trained on. They "
        f"were judged all the same; the first is {film} ({why}). report.json names them all."
    ]
