"""From a bundle or a table of scores to a report in a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hilum.bundle import Bundle, load_bundle
from hilum.data.films import Films
from hilum.data.judged import judged_films
from hilum.evaluate import judge, read_predictions
from hilum.predict import score_films
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
) -> dict[str, Any]:
    """Judge a bundle or a file of scores, write the report, and return what report.json holds.

    The judged films' scores and truth are written too, as predictions.csv and judged.parquet, so that reports can be
    compared. Arguments as for `hilum.evaluate.judge`.

    Raises:
        FilmsError: if the manifest has no such split.
        BundleError, PredictionsError: if the model or its scores cannot be judged.
    """
    bundle = load_bundle(model) if model.is_dir() else None
    scores = score_films(bundle, films.select(split)) if bundle else read_predictions(model)
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
    training: dict[str, Any] | None = None
    if bundle:
        report = replace(report, notes=(*report.notes, *_other_manifest(bundle, films)))
        training = {**bundle.training, "history": training_history(model)}
    chosen = judged_films(films, scores, split=split, allow_missing=allow_missing, allow_unknown=allow_unknown)
    chosen.write(out)
    content = report.to_dict()
    write_report(content, out, training=training)
    return content


def _other_manifest(bundle: Bundle, films: Films) -> list[str]:
    if bundle.films == films.fingerprint():
        return []
    return [
        "The bundle was trained on another manifest or split than it is judged on. Whether films or patients of "
        "its training are among those judged cannot be seen here."
    ]


def training_history(run: Path) -> list[dict[str, float]]:
    """Loss and validation figures, one row per epoch, from the logs of a run's beginning and of each resumption."""
    logs = [pd.read_csv(path) for path in sorted((run / "logs").glob("metrics*.csv"))]
    if not logs:
        return []
    log = pd.concat(logs)
    names = {"train_loss_epoch": "train_loss", "val_loss": "val_loss", "val_auroc": "val_auroc"}
    kept = log[["epoch", *(name for name in names if name in log)]].rename(columns=names)
    epochs = kept.groupby("epoch", as_index=False).last().dropna(axis=1, how="all").dropna()
    return [{str(name): float(value) for name, value in row.items()} for row in epochs.to_dict("records")]
