"""The demo: from films to an evaluated, explained model in minutes, by the functions that the commands call."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum import DISCLAIMER
from hilum.batch import Asked, predict_to_file
from hilum.data.films import FRONTAL, Films, write_films
from hilum.data.pack import PACKS
from hilum.data.sources.nih import index_nih
from hilum.errors import FilmsError, HilumError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.files import write_whole
from hilum.messages import messages
from hilum.phantom.dataset import write_phantom
from hilum.recipe import load_recipe
from hilum.training.train import train

PHANTOM_FILMS = 1000
FILMS_SHOWN = 3
MOST_FILMS = 2000  # of a real folder: the demo is to last minutes


@dataclass(frozen=True)
class DemoResult:
    """Where the demo put everything, and how well the model did on patients that it had not seen.

    Attributes:
        mean_auroc: on the test films; None if undefined.
        labels: the findings that the label file gives each of the predicted films.
    """

    out: Path
    on_phantom: bool
    films: int
    mean_auroc: float | None
    predictions: pd.DataFrame
    labels: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "out": str(self.out),
            "phantom": self.on_phantom,
            "films": self.films,
            "mean_auroc": self.mean_auroc,
            "report": str(self.out / "report" / "report.html"),
            "heatmaps": str(self.out / "heatmaps"),
            "predicted": self.predictions["film"].tolist(),
            "disclaimer": DISCLAIMER,
        }

    def to_text(self) -> str:
        """What was done, where to look, and what to type next."""
        out, value = self.out, "undefined" if self.mean_auroc is None else f"{self.mean_auroc:.3f}"
        kind = "simulated films" if self.on_phantom else "real films"
        lines = [
            f"Trained on {kind} and evaluated on patients it had not seen: mean AUROC {value}.",
            DISCLAIMER,
            "",
            "Three of these films, with the scores that stand highest and what is on them:",
        ]
        scores = self.predictions.set_index("film").select_dtypes("number")
        for (film, row), labels in zip(scores.iterrows(), self.labels, strict=True):
            highest = ", ".join(f"{name} {score:.2f}" for name, score in row.nlargest(3).items())
            lines.append(f"  {film}: {highest or 'not analysed, as it does not fit the model'} (there: {labels})")
        lines += [
            "",
            "Look at:",
            f"  {out / 'report' / 'report.html'}   the report",
            f"  {out / 'report' / 'roc.png'}       ROC curves",
            f"  {out / 'heatmaps'}/            where the model looked",
            f"  {out / 'run' / 'MODEL_CARD.md'}    the model",
            "",
            "With ChestX-ray14, or any part of it, in a folder DIR:",
            "  hilum index nih DIR --out films.parquet",
            "  hilum audit films.parquet",
            "  hilum split films.parquet --protocol patient",
            "  hilum train nih-small --films films.parquet --out runs/nih-small",
            "  hilum evaluate runs/nih-small --films films.parquet --out report",
        ]
        return "\n".join(lines)


def run_demo(
    out: Path,
    *,
    data: Path | None = None,
    seed: int = 0,
    shuffle_labels: bool = False,
    changes: tuple[str, ...] = (),
    phantom_films: int = PHANTOM_FILMS,
) -> DemoResult:
    """Write or take films, train the recipe `demo`, evaluate it on held-out patients and predict three films.

    Args:
        out: a new or empty folder for everything.
        data: a ChestX-ray14 folder; phantom films are made if absent. Of many films, 2,000 at random are taken.
        seed: of the phantom, the split and the training.
        shuffle_labels: give the phantom's films other patients' labels: the control in which nothing can be learned.
        changes: of the recipe, such as `training.epochs=2`.
        phantom_films: number of phantom films.

    Raises:
        HilumError: if `out` is not empty or the films cannot be used.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HilumError(f"out must be a new or empty folder, got {out}. Choose another with --out, or delete it.")
    say = messages().print
    if data is None:
        say(f"1/5 Drawing {phantom_films} phantom films in ChestX-ray14's layout")
        write_phantom(out / "phantom", films=phantom_films, seed=seed, shuffle_labels=shuffle_labels)
    say("2/5 Indexing them and keeping patients apart")
    films = _some(index_nih(data or out / "phantom"), seed)
    films = films.split("patient", seed=seed)
    write_films(films, out / "films.parquet")
    recipe = load_recipe("demo", [f"seed={seed}", *changes])
    say(f"3/5 Training {recipe.name}: {recipe.about}")
    train(recipe, films, out / "run", packs=out / PACKS)
    say("4/5 Evaluating it on patients that it has not seen")
    report = evaluate_to_folder(out / "run", films, out / "report", seed=seed)
    say(f"5/5 Predicting {FILMS_SHOWN} of their films, with heatmaps")
    return _predict_some(films, out, report["mean"]["auroc"]["value"], on_phantom=data is None)


def _some(films: Films, seed: int) -> Films:
    """All films, or those of randomly drawn patients up to MOST_FILMS."""
    if len(films) <= MOST_FILMS:
        return films
    patients = np.random.default_rng(seed).permutation(films.table["patient"].unique())
    count = films.table.groupby("patient").size().loc[patients].cumsum()
    kept = films.table["patient"].isin(count.index[count <= MOST_FILMS])
    messages().print(f"The demo takes {int(kept.sum()):,} of the {len(films):,} films: whole patients, at random.")
    return replace(films, table=films.table[kept].reset_index(drop=True))


def _predict_some(films: Films, out: Path, mean_auroc: float | None, *, on_phantom: bool) -> DemoResult:
    tested = films.of_views(FRONTAL).select("test")
    names = np.array(films.findings)
    truths = [", ".join(names[tested.labels(row) == 1]) or "no finding" for row in range(len(tested))]
    chosen = sorted(range(len(tested)), key=lambda row: (truths[row] == "no finding", row))[:FILMS_SHOWN]
    if not chosen:
        raise FilmsError("films must be enough for a test split, got none in it. Give the demo more films.")
    inputs = tuple(str(tested.path(row)) for row in chosen)
    predict_to_file(Asked(out / "run", inputs, heatmaps=out / "heatmaps"), out / "predictions.csv")
    table = pd.read_csv(out / "predictions.csv")
    result = DemoResult(out, on_phantom, len(films), mean_auroc, table, [truths[row] for row in chosen])
    write_whole(out / "README.txt", result.to_text().encode())
    return result
