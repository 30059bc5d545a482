"""From a bundle or a table of scores to a report in a folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hilum.bundle import CARD, Bundle, load_bundle, weights_sha256
from hilum.data.films import Films
from hilum.data.judged import judged_films
from hilum.data.reference import read_reference
from hilum.engines import TorchEngine
from hilum.errors import HilumError, PredictionsError
from hilum.evaluate import judge, read_predictions
from hilum.files import write_whole
from hilum.judging.confusions import confusions_section
from hilum.judging.gallery import gallery_section
from hilum.judging.localization import Boxed, boxed_maps, localization_section
from hilum.judging.manifest import manifest_section
from hilum.judging.model import model_section
from hilum.judging.operating import operating_section
from hilum.judging.reference import reference_section
from hilum.judging.shift import check_report, shift_section
from hilum.judging.stored import read_report
from hilum.judging.subgroups import subgroups_section
from hilum.predict.scoring import score_films
from hilum.progress import messages
from hilum.report.model_card import model_card
from hilum.report.page import write_report


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
    anew from the report. Other arguments as for `hilum.evaluate.judge`.

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
    bundle = load_bundle(model) if model.is_dir() else None
    if other_labels is not None:
        other_labels.of(films.select(split).table["film"].tolist())  # refused before films are scored
    if earlier is not None:
        weights = weights_sha256(bundle) if bundle else None
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


def _update_card(run: Path, card: str) -> None:
    """Put what was measured into the bundle's model card; a bundle that cannot be written to keeps its own."""
    try:
        write_whole(run / CARD, card.encode())
    except HilumError as error:
        messages().print(f"The model card in {run} was not updated: {error}.")


def _how_calibrated(bundle: Bundle, judged: Films) -> str:
    used = bundle.calibration_set
    if used is None:
        return "This model's scores were never calibrated."
    text = f"They were calibrated ({used.method}) on {used.films:,} validation films of {used.patients:,} patients."
    if used.fingerprint == judged.fingerprint():
        return f"{text} These are the films judged here, so their calibration is flattered."
    return text


def _other_manifest(bundle: Bundle, films: Films) -> list[str]:
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
