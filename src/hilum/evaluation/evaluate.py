"""Evaluate a bundle, or anyone's scores, on a split: one case is prepared, every section measures it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hilum import DISCLAIMER, __version__
from hilum.data.films import FRONTAL, Films
from hilum.data.splits import folds_again
from hilum.errors import HilumError, PredictionsError, extras_named
from hilum.evaluation import sections
from hilum.evaluation.case import Case, FindingReport, Model, ScoredFilms, prepare, score_with_maps, trained_on
from hilum.evaluation.external import check_report
from hilum.evaluation.inputs import EvaluationSet, match, read_predictions, read_reference, read_report
from hilum.evaluation.page import write_report
from hilum.evaluation.published import MEAN, Published, others, peers
from hilum.evaluation.render import model_card
from hilum.evaluation.views import interval
from hilum.files import write_whole
from hilum.findings import CHESTXRAY14
from hilum.messages import messages
from hilum.metrics.bootstrap import Estimate, estimate_json
from hilum.model.devices import Device, device_of
from hilum.model.thresholds import stated_thresholds

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle

CHESTXRAY14_FILMS = 112_120


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """One system on one evaluation set.

    Attributes:
        content: all that was measured, in the form of report.json.
        evaluated: the films, their labels and scores.
        findings: AUROC, average precision, counts and curve of each finding.
        mean_auroc, mean_average_precision: over the findings that are defined.
    """

    content: dict[str, Any]
    evaluated: EvaluationSet
    findings: dict[str, FindingReport]
    mean_auroc: Estimate
    mean_average_precision: Estimate

    def __repr__(self) -> str:
        films, patients, mean = self.content["films"], self.content["patients"], self.mean_auroc
        return (
            f"<Report on {films:,} films of {patients:,} patients, {len(self.findings)} findings: "
            f"mean AUROC {mean.value:.3f} ({interval(estimate_json(mean))})>"
        )

    @property
    def auroc(self) -> dict[str, Estimate]:
        """AUROC by finding, as value, low and high end of the 95 % interval."""
        return {name: finding.auroc for name, finding in self.findings.items()}

    @property
    def average_precision(self) -> dict[str, Estimate]:
        """Average precision by finding, as value, low and high end of the 95 % interval."""
        return {name: finding.average_precision for name, finding in self.findings.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about the scores, in sentences."""
        return tuple(self.content["notes"])

    def to_dict(self) -> dict[str, Any]:
        """report.json: plain JSON in which NaN is null."""
        return self.content

    def save(self, folder: str | Path) -> None:
        """Write report.json, report.html, roc.png, and the scores and labels for `hilum compare`.

        Raises:
            HilumError: if the folder cannot be written to.
        """
        self.evaluated.write(Path(folder))
        write_report(self.content, Path(folder))


def evaluate_scores(
    films: Films,
    scores: pd.DataFrame,
    *,
    split: str = "test",
    seed: int = 0,
    bootstrap_samples: int = 1000,
    system: str = "",
    allow_missing: bool = False,
    allow_unknown: bool = False,
    views: Sequence[str] = FRONTAL,
) -> Report:
    """Evaluate scores on a split: AUROC, average precision, calibration, subgroups, with 95 % intervals.

    Patients, not films, are the units of the intervals; where too few have a finding, `why` says so in their place.

    Args:
        scores: a column `film`, then a column per finding; any finite numbers that rise with the finding.
        split: which films are evaluated; scores of other films of the manifest are not looked at.
        seed: of the noise from which the interval of the calibration error comes.
        bootstrap_samples: number of patient-clustered bootstrap samples, which only localization needs.
        system: what gave the scores, for the heading.
        allow_missing: evaluate the films that have scores, and name the others, where some have none.
        allow_unknown: leave out scores of films that the manifest does not hold.
        views: those of the evaluated films; how many others there are is said.

    Raises:
        FilmsError: if the manifest has no such split or no such view.
        PredictionsError: if the scores cannot be evaluated, with file, row and column.
    """
    case = prepare(
        films.of_views(views),
        scores,
        split=split,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
        allow_missing=allow_missing,
        allow_unknown=allow_unknown,
    )
    return measure(case, system or "unnamed system")


def evaluate_to_folder(
    model: Path | Sequence[Path],
    films: Films,
    out: Path,
    *,
    split: str = "test",
    bootstrap_samples: int = 1000,
    seed: int = 0,
    allow_missing: bool = False,
    allow_unknown: bool = False,
    prevalence: Mapping[str, float] | None = None,
    reference: Path | None = None,
    against: Path | None = None,
    gallery: bool = True,
    validation: Path | None = None,
    thresholds: Sequence[str] = (),
    views: Sequence[str] = FRONTAL,
    device: Device = "auto",
) -> dict[str, Any]:
    """Evaluate a bundle or a file of scores, write the report, and return what report.json holds.

    The films' scores and labels are written too, as predictions.csv and judged.parquet, so that reports can be
    compared. A bundle that is evaluated on the test split of the manifest that it was trained on gets its model card
    made anew from the report. Other arguments as for `hilum.evaluation.evaluate.evaluate_scores`.

    Args:
        model: a bundle or a file of scores; or several of one training with other seeds, whose mean scores are then
            evaluated; or the bundles of all folds of `hilum train --folds`, with its folds.parquet.
        reference: table of labels of some of these films.
        against: folder of a report of the same model on other films, to say what changed since.
        gallery: show some films, with their heatmaps and boxes, on the page and in report.json.
        validation: table of scores of the same system on validation films, to choose thresholds on.
        thresholds: stated ones, 0.3 or Mass=0.3, instead.
        device: where a bundle's network computes.

    Raises:
        FilmsError: if the manifest has no such split.
        BundleError, PredictionsError: if the model or its scores cannot be evaluated.
        HilumError: if the earlier report is of another model or of the same films.
    """
    models = [model] if isinstance(model, Path) else [*model]
    films = films.of_views(views)
    if len(models) > 1:
        if validation is not None or against is not None:
            raise HilumError("validation and against must go with one run, got several. Evaluate one of them.")
        report = _several(
            models,
            films,
            split=split,
            bootstrap_samples=bootstrap_samples,
            seed=seed,
            allow_missing=allow_missing,
            allow_unknown=allow_unknown,
            prevalence=prevalence,
            reference=None if reference is None else read_reference(reference, films.findings),
            gallery=gallery,
            thresholds=stated_thresholds(thresholds, films.findings) if thresholds else None,
        )
        report.save(out)
        return report.content
    model = models[0]
    if not model.exists():
        raise PredictionsError(
            f"model must be a bundle's folder or a file of scores, got {str(model)!r}, which is none. Check the path."
        )
    labels = None if reference is None else read_reference(reference, films.findings)
    earlier = None if against is None else read_report(against)
    bundle = _bundle(model, films.findings)
    if bundle and len(sources := set(films.select(split).table["source"])) == 1:
        bundle = bundle.for_source(str(sources.pop()))
    if validation is not None and (bundle or thresholds):
        other = (
            "thresholds are stated" if thresholds else f"{model} is a bundle, whose thresholds hilum calibrate chooses"
        )
        raise HilumError(f"validation must go with a table of scores alone, got it where {other}. Leave one out.")
    unseen = None if validation is None else read_predictions(validation, films.findings)
    stated = stated_thresholds(thresholds, films.findings) if thresholds else None
    if labels is not None:
        labels.of(films.select(split).table["film"].tolist())  # refused before films are scored
    if earlier is not None:
        weights = Model(bundle, model).weights if bundle else None
        check_report(earlier, films_fingerprint=films.fingerprint(), split=split, weights=weights)
    scored = (
        score_with_maps(bundle, films.select(split), device=device_of(device))
        if bundle
        else ScoredFilms(read_predictions(model, films.findings), {})
    )
    case = prepare(
        films,
        scored.scores,
        split=split,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
        allow_missing=allow_missing,
        allow_unknown=allow_unknown,
        model=Model(bundle, model) if bundle else None,
        class_maps=scored.class_maps,
        prevalence=prevalence,
        reference=labels,
        earlier=earlier,
        gallery=gallery,
        validation=unseen,
        thresholds=stated,
    )
    report = measure(case, f"{bundle.recipe.name} ({model.name})" if bundle else model.name)
    report.save(out)
    if bundle and split == "test" and trained_on(bundle, films):
        _update_card(model, model_card(report.content))
    return report.content


def _several(models: Sequence[Path], films: Films, *, split: str, **options: Any) -> Report:
    """Evaluate several trainings: seeds by their mean score, folds by the scores out of their folds."""
    twice = [str(one) for i, one in enumerate(models) if one.resolve() in {other.resolve() for other in models[:i]}]
    if twice:
        raise PredictionsError(f"runs must be different, got {twice[0]} twice. Name each once.")
    bundles = []
    for one in models:
        if not one.exists():
            raise PredictionsError(f"runs must be bundles or files of scores, got {str(one)!r}, which is none.")
        bundles.append(_bundle(one, films.findings))
    parts = folds_again(films)
    if parts:
        scored = _out_of_fold(models, bundles, parts)
    else:
        scored = [
            score_with_maps(bundle, films.select(split)).scores if bundle else read_predictions(path, films.findings)
            for path, bundle in zip(models, bundles, strict=True)
        ]
    names = [str(one) for one in models]
    tables = {
        name: match(films, one, allow_unknown=options["allow_unknown"]) for name, one in zip(names, scored, strict=True)
    }
    findings = [name for name in films.findings if all(name in table.columns for table in tables.values())]
    together = pd.concat([table[["film", *findings]] for table in tables.values()])
    evaluated = set(films.select(split).table["film"])
    counts = together["film"][together["film"].isin(evaluated)].value_counts()
    expected = 1 if parts else len(models)
    uneven = counts.index[counts != expected].tolist()
    if not findings or uneven:
        got = f"{counts[uneven[0]]} scores of {uneven[0]!r}, not {expected}" if uneven else "no finding in common"
        raise PredictionsError(f"runs must score the same findings of the same films, got {got}. Score them anew.")
    mean = together.groupby("film", as_index=False, sort=False)[findings].mean()
    mean.attrs = {"file": " and ".join(names)}
    recipes = list(
        dict.fromkeys(bundle.recipe.name if bundle else path.name for path, bundle in zip(models, bundles, strict=True))
    )
    system = f"{' and '.join(recipes[:2])}: {len(models)} {'folds' if parts else 'runs'}"
    case = prepare(films, mean, split=split, runs=tables, **options)
    return measure(case, system)


def _out_of_fold(
    models: Sequence[Path], bundles: Sequence["Bundle | None"], parts: Sequence[Films]
) -> list[pd.DataFrame]:
    """Each fold's films, scored by the bundle that was trained without them.

    Raises:
        PredictionsError: if a fold has no bundle, or a bundle is of no fold.
    """
    by_films = {part.fingerprint(): part for part in parts}
    known = [bundle is not None and bundle.films in by_films for bundle in bundles]
    if not all(known) or len(bundles) != len(parts):
        got = f"{models[known.index(False)]}, which is none" if not all(known) else f"{len(bundles)}"
        raise PredictionsError(
            f"runs must be the bundles of all {len(parts)} folds of this manifest, got {got}. Name OUT/fold-* and "
            "OUT/folds.parquet of one hilum train --folds."
        )
    return [
        score_with_maps(bundle, by_films[bundle.films].select("test")).scores
        for bundle in bundles
        if bundle is not None
    ]


def measure(case: Case, system: str) -> Report:
    """Let every section measure a case."""
    evaluated, ranking = case.evaluated, case.ranking
    case.report.update(_heading(case, system))
    sections.measure(case)
    case.report["notes"] = list(case.notes)
    return Report(case.report, evaluated, ranking.findings, ranking.mean_auroc, ranking.mean_average_precision)


def _heading(case: Case, system: str) -> dict[str, Any]:
    """What report.json says beside its sections: what was evaluated, on what, and what it may stand beside."""
    films, truth, ranking = case.films, case.evaluated.truth, case.ranking
    protocol, patients = films.notes.get("protocol"), set(case.evaluated.patients.tolist())
    training = films.table["patient"][films.table["split"] == "train"]
    in_training = set(training) if case.split != "train" else set()
    return {
        "hilum": __version__,
        "system": system,
        "protocol": protocol,
        "split": case.split,
        "films": len(truth),
        "patients": len(patients),
        "seed": case.seed,
        "draws": case.bootstrap_samples,
        "films_fingerprint": films.fingerprint(),
        "manifest_films": len(films),
        "views": list(films.views),
        "films_of_other_views": films.other_views(case.split),
        "mean": {
            "auroc": estimate_json(ranking.mean_auroc),
            "average_precision": estimate_json(ranking.mean_average_precision),
        },
        "undefined_findings": ranking.undefined,
        "not_judged": [name for name in films.findings if name not in case.evaluated.findings],
        "missing_films": list(case.evaluated.missing),
        "shared_patients": len(in_training & patients),
        "films_with_siblings_in_training": int(truth["patient"].isin(in_training).sum()),
        "unfit_films": case.unfit,
        "thresholds_from": case.thresholds_from,
        "disclaimer": DISCLAIMER,
        "simulated": case.simulated,
        "learned_from": case.model.bundle.description.learned_from if case.model else "",
        "published": _systems(peers(protocol)) if case.has_peers else [],
        "published_incomparable": _incomparable(case),
        "published_elsewhere": _systems(others(protocol)) if case.has_peers else [],
    }


def _incomparable(case: Case) -> str:
    """Why even values of the same protocol do not compare with this report; empty if they do."""
    if not case.has_peers:
        return "Films or model are simulated: nothing that was published on films of patients compares with them."
    if len(case.films) < 0.99 * CHESTXRAY14_FILMS or case.evaluated.findings != CHESTXRAY14:
        return (
            f"Published values were measured on all {CHESTXRAY14_FILMS:,} films and 14 findings of ChestX-ray14; here "
            f"the manifest holds {len(case.films):,} films and {len(case.evaluated.findings)} findings were evaluated."
        )
    if case.split != "test" or case.evaluated.missing:
        return "Published values were measured on the whole test split, which this report did not evaluate."
    return ""


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


def _update_card(run: Path, card: str) -> None:
    """Put what was measured into the bundle's model card; a bundle that cannot be written to keeps its own."""
    from hilum.model.bundle import CARD

    try:
        write_whole(run / CARD, card.encode())
    except HilumError as error:
        messages().print(f"The model card in {run} was not updated: {error}.")


def _bundle(path: Path, findings: Sequence[str]) -> "Bundle | None":
    """The bundle in a folder, under the manifest's names for its findings; None for a file."""
    if not path.is_dir():
        return None
    with extras_named():
        from hilum.model.bundle import load_bundle, renamed

    return renamed(load_bundle(path), findings)
