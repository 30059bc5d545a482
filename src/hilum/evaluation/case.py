"""What the sections of a report measure: films, scores and class maps, prepared once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Shaped

from hilum.data.films import PATIENTS_ARE_FILMS, Films
from hilum.data.splits import constant_labels
from hilum.errors import PredictionsError
from hilum.evaluation.inputs import EvaluationSet, Reference, StoredReport, evaluation_set, validation_set
from hilum.findings import is_simulated
from hilum.metrics.bootstrap import Estimate
from hilum.metrics.influence import average, measured_per_finding
from hilum.metrics.ranking import RocCurve, roc_curve, thin
from hilum.model.metadata import on_whole_film
from hilum.model.thresholds import OperatingPoints, choose_points
from hilum.predict.scoring import Scored, score_films

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle

CURVE_POINTS = 200

ClassMaps = Float32[np.ndarray, "findings rows columns"]


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


@dataclass(frozen=True)
class Ranking:
    """AUROC and average precision of an evaluation set, with their intervals.

    Attributes:
        mean_auroc, mean_average_precision: over the findings that are defined.
    """

    findings: dict[str, FindingReport]
    mean_auroc: Estimate
    mean_average_precision: Estimate

    @property
    def undefined(self) -> list[str]:
        """Findings whose films with known labels are of one class."""
        return [name for name, finding in self.findings.items() if np.isnan(finding.auroc.value)]


class Model(NamedTuple):
    """The bundle that gave the scores, and its folder."""

    bundle: "Bundle"
    folder: Path

    @property
    def weights(self) -> str:
        """Hash of its weights."""
        from hilum.model.bundle import weights_sha256

        return weights_sha256(self.bundle)


class Run(NamedTuple):
    """One of several trainings: its scores of the evaluated films, a row of NaN for films that are not its fold's."""

    name: str
    numbers: Float64[np.ndarray, "films findings"]


@dataclass(frozen=True)
class Case:
    """One system's scores on one evaluation set, with all that a section may measure them by.

    Attributes:
        films: the whole manifest.
        split: which of its films are evaluated.
        evaluated: the evaluation set.
        unfit: films that the input quality check refuses, and why; None without such a check.
        bootstrap_samples: number of patient-clustered bootstrap samples, for the intervals of localization.
        seed: of these, and of the noise of calibration.
        model: None for a table of scores.
        class_maps: of the evaluated films with true boxes, by film; empty for a table of scores.
        prevalence: proportions of films, by finding, for which PPV and NPV are computed once more.
        reference: a second opinion on some of the films.
        earlier: report of the same model on other films.
        gallery: whether films may be shown.
        runs: several trainings, of which the evaluated scores are the mean, or the out-of-fold scores; or none.
        folded: whether each film was scored by one of them.
        thresholds: for scores of a table; a model has its own.
        thresholds_from: where they come from, a sentence; empty for a model's own.
        ranking: AUROC and average precision, which several sections build on.
        notes: sentences about the scores that a reader should know; a section says here why it was not measured.
        report: report.json as far as it is measured, section by section in their order.
    """

    films: Films
    split: str
    evaluated: EvaluationSet
    ranking: Ranking
    bootstrap_samples: int
    seed: int
    unfit: dict[str, str] | None = None
    model: Model | None = None
    class_maps: Mapping[str, ClassMaps] = field(default_factory=dict)
    prevalence: Mapping[str, float] = field(default_factory=dict)
    reference: Reference | None = None
    earlier: StoredReport | None = None
    gallery: bool = True
    runs: tuple[Run, ...] = ()
    folded: bool = False
    thresholds: OperatingPoints | None = None
    thresholds_from: str = ""
    notes: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the evaluated films are simulated, all of them: no value says anything of patients."""
        evaluated = self.films.table["film"].isin(self.evaluated.truth["film"])
        sources = set(self.films.table["source"][evaluated])
        return bool(sources) and all(map(is_simulated, sources))

    @property
    def has_peers(self) -> bool:
        """Whether published values may stand beside these at all: neither films nor model are simulated."""
        return not self.simulated and not (self.model and self.model.bundle.description.simulated)

    @property
    def weights(self) -> str | None:
        """Hash of the model's weights; None for a table of scores."""
        return self.model.weights if self.model else None

    @property
    def points(self) -> OperatingPoints | None:
        """The thresholds that were given, else the model's, if it has some."""
        return self.thresholds or (self.model.bundle.thresholds if self.model else None)


def prepare(
    films: Films,
    scores: pd.DataFrame,
    *,
    split: str,
    bootstrap_samples: int,
    seed: int,
    allow_missing: bool = False,
    allow_unknown: bool = False,
    model: Model | None = None,
    class_maps: Mapping[str, ClassMaps] | None = None,
    prevalence: Mapping[str, float] | None = None,
    reference: Reference | None = None,
    earlier: StoredReport | None = None,
    gallery: bool = True,
    validation: pd.DataFrame | None = None,
    thresholds: OperatingPoints | None = None,
    runs: Mapping[str, pd.DataFrame] | None = None,
) -> Case:
    """Match scores with films, rank them, and note what is unusual.

    Arguments are those of Case, and of `hilum.evaluation.inputs.evaluation_set`.

    Args:
        runs: the single trainings' scores by their name, where `scores` are of several.
        validation: scores of the same system on validation films of the manifest, to choose thresholds on.

    Raises:
        FilmsError: if the manifest has no such split.
        PredictionsError: if the scores cannot be evaluated, with file, row and column.
    """
    evaluated = evaluation_set(films, scores, split=split, allow_missing=allow_missing, allow_unknown=allow_unknown)
    ranking, unfit = rank(evaluated), scores.attrs.get("unfit")
    origin = "They were stated by whoever ran the evaluation." if thresholds else ""
    if validation is not None:
        thresholds, origin = _chosen(films, validation, evaluated, split)
    notes = _film_notes(films, split)
    notes += _score_notes(scores, evaluated, ranking, split)
    if model:
        notes += _model_notes(model.bundle, films, unfit, evaluated)
    apart = tuple(Run(name, _aligned(table, evaluated)) for name, table in (runs or {}).items())
    return Case(
        runs=apart,
        folded=any(bool(np.isnan(run.numbers).any()) for run in apart),
        films=films,
        split=split,
        evaluated=evaluated,
        ranking=ranking,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
        unfit=unfit,
        model=model,
        class_maps=class_maps or {},
        prevalence=prevalence or {},
        reference=reference,
        earlier=earlier,
        gallery=gallery,
        thresholds=thresholds,
        thresholds_from=origin,
        notes=notes,
    )


def _aligned(table: pd.DataFrame, evaluated: EvaluationSet) -> Float64[np.ndarray, "films findings"]:
    rows = table.set_index("film").reindex(evaluated.truth["film"])
    return rows[list(evaluated.findings)].to_numpy(dtype=np.float64)


def _chosen(
    films: Films, validation: pd.DataFrame, evaluated: EvaluationSet, split: str
) -> tuple[OperatingPoints, str]:
    """Thresholds chosen on validation films, and a sentence on these.

    Raises:
        PredictionsError: if such films are evaluated, or not all findings have scores there.
    """
    unseen, where = validation_set(films, validation, split), str(validation.attrs.get("file", "the validation scores"))
    lacking = [name for name in evaluated.findings if name not in unseen.findings]
    if lacking:
        raise PredictionsError(
            f"validation scores must have a column for each evaluated finding, got none for {lacking[0]} in {where}. "
            "Score the same findings."
        )
    columns = [unseen.findings.index(name) for name in evaluated.findings]
    scores, both = unseen.numbers[:, columns], np.concatenate([unseen.numbers[:, columns], evaluated.numbers])
    inside = bool(((both >= 0) & (both <= 1)).all())
    bounds = (0.0, 1.0) if inside else (float(both.min()), float(np.nextafter(both.max(), np.inf)))
    points = choose_points(scores, unseen.labels[:, columns], unseen.patients, evaluated.findings, bounds=bounds)
    people = set(unseen.patients.tolist())
    shared = len(people & set(evaluated.patients.tolist()))
    told = (
        f"They were chosen on {len(unseen.truth):,} validation films of {len(people):,} patients ({Path(where).name})."
    )
    if shared:
        told += f" {shared:,} of these patients are evaluated too, so what thresholds reach here is flattered."
    return OperatingPoints("", points), told


class ScoredFilms(NamedTuple):
    """Scores of films, and the class maps of those with true boxes."""

    scores: pd.DataFrame
    class_maps: dict[str, ClassMaps]


def score_with_maps(bundle: "Bundle", films: Films, *, device: str = "cpu") -> ScoredFilms:
    """Score films with one engine, each film once, and keep the class maps of those that have true boxes.

    Args:
        device: where the network computes: cpu, cuda or mps. It is left on the CPU.
    """
    from hilum.model.engines import TorchEngine

    boxed = {box["film"] for box in films.notes.get("boxes", []) if box["finding"] in bundle.findings}
    names = films.table["film"].tolist()
    class_maps: dict[str, ClassMaps] = {}

    def keep(row: int, scored: Scored) -> None:
        if names[row] in boxed and scored.maps is not None:
            whole = [on_whole_film(one, scored.seen, elsewhere=float(one.min())) for one in scored.maps]
            class_maps[names[row]] = np.stack(whole)

    try:
        scores = score_films(TorchEngine(bundle, device=device), films, each=keep)
    finally:
        bundle.model.to("cpu")
    return ScoredFilms(scores, class_maps)


def rank(evaluated: EvaluationSet) -> Ranking:
    """AUROC and average precision per finding and their means, with intervals in which patients are the units."""
    numbers, labels, patients = evaluated.numbers, evaluated.labels, evaluated.patients
    auroc, precision = measured_per_finding(numbers, labels, patients)
    findings = {
        name: FindingReport(
            auroc=auroc[i].estimate,
            average_precision=precision[i].estimate,
            films=int((~np.isnan(labels[:, i])).sum()),
            patients=len(set(patients[~np.isnan(labels[:, i])])),
            positives=int((labels[:, i] == 1).sum()),
            positive_patients=len(set(patients[labels[:, i] == 1])),
            curve=thin(roc_curve(numbers[:, i], labels[:, i]), CURVE_POINTS),
        )
        for i, name in enumerate(evaluated.findings)
    }
    return Ranking(findings, average(auroc).estimate, average(precision).estimate)


def _score_notes(scores: pd.DataFrame, evaluated: EvaluationSet, ranking: Ranking, split: str) -> list[str]:
    """What is unusual about the scores, a sentence each."""
    notes, names, numbers = [], evaluated.findings, evaluated.numbers
    if split != "test":
        notes.append(
            f"These are films of the split {split}, on which choices were made: the values flatter the system."
        )
    constant = _names(names, np.ptp(numbers, axis=0) == 0)
    if constant:
        notes.append(f"All scores are equal, which is no ranking and gives an AUROC of 0.5: {constant}.")
    calls = _names(names, ((numbers == 0) | (numbers == 1)).all(axis=0) & (np.ptp(numbers, axis=0) > 0))
    if calls:
        notes.append(f"The scores are only 0 and 1, calls or labels rather than scores: {calls}.")
    below = _names(names, np.array([ranking.findings[name].auroc.high < 0.5 for name in names]))
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
    known = {"film", *names}
    ignored = scores.attrs.get("ignored_columns", [str(name) for name in scores.columns if name not in known])
    if ignored:
        notes.append(f"Columns that are no scores were not used: {', '.join(ignored)}.")
    unknown = evaluated.scores.attrs["unknown_films"]
    if unknown:
        notes.append(f"{len(unknown):,} films are not in the manifest and were left out, the first is {unknown[0]}.")
    return notes


def trained_on(bundle: "Bundle", films: Films) -> bool:
    """Whether a bundle was trained on this manifest and split, or on some of its findings."""
    if bundle.films == films.fingerprint():
        return True
    some = set(bundle.findings) < set(films.findings)
    return some and bundle.films == films.only(bundle.findings).fingerprint()


def _film_notes(films: Films, split: str) -> list[str]:
    """What a reader should know of the films, a sentence each."""
    notes = [PATIENTS_ARE_FILMS] if films.notes.get("patients_are_films") else []
    left = films.other_views(split)
    if left:
        counts = ", ".join(f"{count:,} {view}" for view, count in left.items())
        notes.append(f"Films of other views than {', '.join(films.views)} are not evaluated: {counts}.")
    evaluated = films.select(split)
    uncertain = int(evaluated.uncertain.sum())
    if uncertain:
        notes.append(f"{uncertain:,} labels of these films are uncertain, and count as unknown.")
    extremes = sorted({name for names in (films.notes.get("only_extremes") or {}).values() for name in names})
    if extremes:
        notes.append(
            f"A source knows {', '.join(extremes)} in clear cases alone (see the vocabulary): its films are not "
            "evaluated by them."
        )
    for name, sources in constant_labels(evaluated, evaluated.all_labels).items():
        told = ", ".join(f"{'present' if value else 'absent'} on all of {source}" for source, value in sources.items())
        notes.append(
            f"{name} is {told}: over all sources together its values may come from telling the source. Read those "
            "within each source, among the subgroups."
        )
    return notes


def _model_notes(
    bundle: "Bundle", films: Films, unfit: Mapping[str, str] | None, evaluated: EvaluationSet
) -> list[str]:
    """What a reader should know of the model on these films, a sentence each."""
    notes = []
    if not trained_on(bundle, films):
        notes.append(
            "The bundle was trained on another manifest or split than it is evaluated on. Whether films or patients of "
            "its training are among those evaluated cannot be seen here."
        )
    if unfit:
        film, why = next(iter(unfit.items()))
        notes.append(
            f"{len(unfit):,} of {len(evaluated.truth):,} evaluated films fail the input quality check: they do not "
            f"look like the training films. They were evaluated all the same; the first is {film} ({why}). report.json "
            "names them all."
        )
    return notes


def _names(names: Sequence[str], which: Shaped[np.ndarray, " findings"]) -> str:
    return ", ".join(name for name, chosen in zip(names, which, strict=True) if chosen)
