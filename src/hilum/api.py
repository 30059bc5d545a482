"""The front door in Python: `load`, `train` and `evaluate`, by the functions that the commands call."""

import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

import numpy as np
from jaxtyping import Float32
from PIL import Image

from hilum.data.images import InMemory
from hilum.errors import HilumError, ImageError, extras_named
from hilum.model.devices import Device
from hilum.model.engines import Engine, EngineName, Precision, is_export, open_engine
from hilum.model.hub import fetch, is_address
from hilum.model.metadata import ModelDescription, read_bundle_json
from hilum.model.thresholds import call
from hilum.predict.scoring import Scored, score_batches

if TYPE_CHECKING:
    import pandas as pd
    from pydicom import Dataset

    from hilum.data.films import Films
    from hilum.evaluation.evaluate import Report
    from hilum.metrics.thresholds import Threshold
    from hilum.recipe import Recipe

FilmLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Dataset"
"""A path, a file's bytes, an image of Pillow's, an array, or a data set of pydicom's."""

Errors = Literal["raise", "keep"]


def load(
    run: str | os.PathLike[str],
    *,
    engine: EngineName | Literal["auto"] = "auto",
    precision: Precision | None = None,
    device: Device = "auto",
) -> "Model":
    """Load a model to score films with: a bundle, or an exported model (ONNX, OpenVINO), which needs no torch.

    Example: hilum.load("runs/nih-small").predict("film.png").scores["Mass"]

    Args:
        run: the folder, or hf://owner/name@revision on a hub of models (extra [hub]).
        engine: torch, onnx, openvino, or auto: the fastest that is here.
        precision: fp32, bf16 or int8; the engine's own if None.
        device: where torch computes: cpu, cuda or mps; auto takes a GPU if there is one.

    Raises:
        BundleError: if the folder holds no such model, or one that is damaged.
        MissingExtraError: if the engine is not installed.
        HilumError: if the device is not there.
    """
    _check_choice("engine", engine, ("auto", *get_args(EngineName)))
    _check_choice("precision", precision, (None, *get_args(Precision)))
    _check_choice("device", device, get_args(Device))
    if is_address(run):
        run = fetch(str(run))
    return Model(Path(run), engine, precision, device)


class Model:
    """A model that scores films. Made by `hilum.load` and `hilum.train`.

    Attributes:
        run: its folder.
        name: of the recipe that it was trained by; the folder's name for an export alone.
        findings: what its scores mean, in order.
        size: height and width in pixels to which it resizes films.
        calibrated: whether its scores were calibrated on validation films.
        operating_points: what `Result.calls` and `thresholds` can be asked for; empty if none were chosen.
        engine: what computes it: torch, onnx or openvino.
        precision: of its arithmetic.
    """

    def __init__(
        self, run: Path, engine: EngineName | Literal["auto"], precision: Precision | None, device: Device = "auto"
    ):
        self._asked, self._asked_precision, self._asked_device = engine, precision, device
        self._one = open_engine(run, engine=engine, precision=precision, films=1, device=device)
        self._more: Engine | None = None
        description = self._one.description
        self.run = run
        self.name = run.resolve().name if is_export(run) else str(read_bundle_json(run)["recipe"]["name"])
        self.findings = description.findings
        self.size = description.preprocessing.size
        self.calibrated = description.calibration is not None
        self.operating_points = () if description.thresholds is None else tuple(description.thresholds.points)
        self.engine, self.precision = self._one.name, self._one.precision
        if self._one.note:
            warnings.warn(self._one.note, stacklevel=3)

    def __repr__(self) -> str:
        points = ", ".join(self.operating_points) or "none"
        return (
            f"<Model {self.name!r} in {str(self.run)!r}: {len(self.findings)} findings, {self.size} px, {self.engine} "
            f"{self.precision}, {'' if self.calibrated else 'not '}calibrated, operating points: {points}>"
        )

    @overload
    def predict(
        self, film: "list[FilmLike] | tuple[FilmLike, ...]", *, errors: Errors = ..., force: bool = ...
    ) -> "list[Result]": ...

    @overload
    def predict(self, film: FilmLike, *, errors: Errors = ..., force: bool = ...) -> "Result": ...

    def predict(
        self,
        film: "FilmLike | list[FilmLike] | tuple[FilmLike, ...]",
        *,
        errors: Errors = "raise",
        force: bool = False,
    ) -> "Result | list[Result]":
        """Score a film, or each of a list, as `hilum predict` does: the same engine and batches, the same scores.

        An array is height x width, or height x width x 3 for RGB. Black is 0; white is 255 in uint8, 65535 in uint16
        and 1 in floats, whatever the values that occur. For more films than memory can hold results of, see `stream`.

        Args:
            film: a path, a file's bytes, an image of Pillow's, an array, a pydicom data set; or a list of these.
            errors: `raise` at the first film that cannot be read, or `keep` a result that says why in `error`.
            force: score films that do not fit the model too. Else their scores are NaN; `Result.quality` says why.

        Raises:
            ImageError: if a film cannot be read; in a list, the message begins with its place, as in films[3].
            TypeError: if it is none of these.
        """
        if not isinstance(film, list | tuple):
            return next(self._results([film], 1, errors, force, numbered=False))
        return list(self._results(film, len(film), errors, force, numbered=True)) if film else []

    def stream(self, films: Iterable[FilmLike], *, errors: Errors = "raise", force: bool = False) -> "Iterator[Result]":
        """Score any number of films in their order and in bounded memory, one result at a time.

        Arguments and errors are those of `predict`. The engine is the one for many films.
        """
        return self._results(films, None, errors, force, numbered=True)

    def thresholds(self, point: str) -> "dict[str, Threshold | None]":
        """The thresholds of an operating point by finding; None where validation did not show one.

        Raises:
            HilumError: if there is no such point, or none was chosen.
        """
        found = self._one.description.call_thresholds(point, where=self.run)
        return dict(zip(self.findings, found, strict=True))

    def _engine(self, films: int | None) -> Engine:
        """The engine that `hilum predict` opens for so many films."""
        if films == 1 or self._one.name != "openvino":  # only OpenVINO is set up by the number of films
            return self._one
        if self._more is None:
            self._more = open_engine(
                self.run, engine=self._asked, precision=self._asked_precision, films=films, device=self._asked_device
            )
        return self._more

    def _results(
        self, films: Iterable[FilmLike], count: int | None, errors: Errors, force: bool, *, numbered: bool
    ) -> "Iterator[Result]":
        _check_choice("errors", errors, get_args(Errors))
        engine = self._engine(count)
        sources = (_source(film, number if numbered else None) for number, film in enumerate(films))
        batches = score_batches(engine, sources, batch=min(engine.batch, count or engine.batch), force=force)
        for number, scored in enumerate(chain.from_iterable(batches)):
            if scored.error and errors == "raise":
                raise ImageError(f"films[{number}]: {scored.error}" if numbered else scored.error)
            yield self._result(scored, engine.description)

    def _result(self, scored: Scored, description: ModelDescription) -> "Result":
        unknown = np.full(len(self.findings), np.nan, dtype=np.float32)
        scores, logits = (
            dict(zip(self.findings, (unknown if row is None else row).tolist(), strict=True))
            for row in (scored.scores, scored.logits)
        )
        film, quality, error = str(scored.path), scored.fit, scored.error
        return Result(film, self.findings, scores, logits, quality, error, scored, description, self.run)


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a model says of one film.

    Attributes:
        film: its path, or what it is otherwise.
        findings: what there are scores of.
        scores: by finding, in [0, 1]; NaN if `error` says why there are none, or the film does not fit the model.
        logits: by finding, as the network gives them, before calibration.
        quality: of the input: `ok`, or what is wrong and why, by the DICOM header, the file or the input quality check;
            empty if nothing can tell.
        error: why the film could not be read; empty if it could.
    """

    film: str
    findings: tuple[str, ...]
    scores: dict[str, float]
    logits: dict[str, float]
    quality: str
    error: str
    _scored: Scored
    _description: ModelDescription
    _run: Path

    def __repr__(self) -> str:
        if self.error:
            return f"<Result of {self.film!r}: {self.error}>"
        if self._scored.scores is None:
            return f"<Result of {self.film!r}: not analysed; input quality: {self.quality}>"
        highest = sorted(self.findings, key=lambda finding: -self.scores[finding])[:3]
        shown = ", ".join(f"{finding} {self.scores[finding]:.3f}" for finding in highest)
        return f"<Result of {self.film!r}: {shown}, ...; input quality: {self.quality or 'not checked'}>"

    @property
    def fits(self) -> bool:
        """Whether the film could be read and nothing is known against it; only then are there scores, unless forced."""
        return not self.error and self._scored.fits

    @property
    def forced(self) -> bool:
        """Whether there are scores although the film does not fit the model: do not rely on them."""
        return self._scored.forced

    def calls(self, point: str) -> dict[str, str]:
        """Call each finding at an operating point, such as youden; the words are those of `hilum predict --calls`.

        They are empty where there are no scores.

        Raises:
            HilumError: if the model has no such point.
        """
        thresholds = self._description.call_thresholds(point, where=self._run)
        pairs = zip(self.findings, thresholds, strict=True)
        return {finding: call(self.scores[finding], threshold) for finding, threshold in pairs}

    def heatmap(self, finding: str) -> "Heatmap":
        """Show where the evidence for a finding lies, on the one scale that the model has for all films.

        Raises:
            ImageError: if the film could not be read, or does not fit the model and was not forced.
            ValueError: if there is no such finding.
        """
        _check_choice("finding", finding, self.findings)
        if not self.error and self._scored.scores is None:
            raise ImageError(
                f"film must fit the model to have heatmaps, got {self.quality} in {self.film!r}. "
                "To see them all the same: predict(film, force=True)"
            )
        if self._scored.image is None or self._scored.maps is None:
            raise ImageError(self.error)
        from hilum.model.metadata import strength

        class_map = self._scored.maps[self.findings.index(finding)]
        heat, film = strength(class_map, self._description.heatmap_logits[finding]), self._scored.image
        return Heatmap(finding, self.scores[finding], heat, film, self._scored.caveat, class_map, self._description)


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap:
    """A film with the heat of one finding over it.

    Attributes:
        score: of the finding.
        strength: 0 (nothing) to 1 (full) by place, as coarse as the network sees.
        film: the network's input, grey in [0, 1].
        note: what stands below a film that does not fit the model.
    """

    finding: str
    score: float
    strength: Float32[np.ndarray, "rows columns"]
    film: Float32[np.ndarray, "size size"]
    note: str
    _class_map: Float32[np.ndarray, "rows columns"]
    _description: ModelDescription

    def __repr__(self) -> str:
        return f"<Heatmap of {self.finding}: score {self.score:.3f}, strongest {self.strength.max():.2f} of full>"

    @cached_property
    def image(self) -> Image.Image:
        """The picture that `hilum predict --heatmaps` writes: the finding's region, score and disclaimer."""
        from hilum.predict.heatmaps import enlarged, heatmap_picture, marked

        film = enlarged(self.film)
        return heatmap_picture(
            *marked(film, self._class_map, self._description, self.finding, self.score), note=self.note
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture as PNG.

        Raises:
            HilumError: if the name does not end in .png, or the place cannot be written to.
        """
        from hilum.predict.heatmaps import save_picture

        if Path(path).suffix.lower() != ".png":
            raise HilumError(f"heatmap must be written as .png, got {str(path)!r}. Choose another name")
        save_picture(Path(path), self.image)

    def _repr_png_(self) -> bytes:  # notebooks show it
        file = io.BytesIO()
        self.image.save(file, format="PNG")
        return file.getvalue()


def train(
    films: "Films | str | os.PathLike[str]",
    recipe: "str | os.PathLike[str] | Recipe",
    out: str | os.PathLike[str],
    *,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    packs: str | os.PathLike[str] | None = None,
    bar: bool = True,
) -> Model:
    """Train a model as a recipe says, and load it. Ctrl-C and SIGTERM save first.

    Example: hilum.train(films.split("patient"), recipe="nih-small", out="runs/mine")

    Args:
        films: films that have been split, or a manifest's file; the test films are not touched.
        recipe: a shipped recipe's name (`hilum info`), a TOML file, or a recipe.
        out: a new folder for the run; it becomes the bundle.
        changes: values by key, as of `hilum train --set`: {"training.epochs": 2}; None removes a key.
        resume: go on where the run in `out` stopped.
        packs: folder for packed films; beside the manifest's file, or beside `out`, if None.
        bar: show progress on standard error.

    Raises:
        RecipeError: if recipe, films and `out` do not fit each other.
        ImageError: if a film cannot be read.
        MissingExtraError: if the extra [train] is not installed.
        TrainingStoppedError: on Ctrl-C or SIGTERM, once the state is saved.
    """
    with extras_named():
        from hilum.data.films import Films
        from hilum.data.pack import PACKS
        from hilum.recipe import Recipe, load_recipe
        from hilum.training.train import train as train_model
    named = recipe if isinstance(recipe, Recipe) else os.fspath(recipe)
    chosen = load_recipe(named, [f"{key}={_setting(value)}" for key, value in (changes or {}).items()])
    beside = out if isinstance(films, Films) else films
    manifest = films if isinstance(films, Films) else Films.read(Path(films))
    folder = Path(beside).parent / PACKS if packs is None else Path(packs)
    train_model(chosen, manifest, Path(out), packs=folder, resume=resume, bar=bar)
    return load(out)


def _setting(value: object) -> str:
    """A value as `--set` takes it."""
    return "none" if value is None else json.dumps(value)  # of which the scalars and lists are TOML's


def evaluate(
    scores: "np.ndarray | pd.DataFrame",
    labels: "np.ndarray | pd.DataFrame | Films",
    *,
    patients: "Sequence[Any] | np.ndarray | pd.Series[Any] | None" = None,
    findings: Sequence[str] | None = None,
    split: str = "test",
    name: str = "scores",
    bootstrap_samples: int = 1000,
    seed: int = 0,
    views: Sequence[str] = ("PA", "AP", "unknown"),
) -> "Report":
    """Evaluate scores by labels, with the numbers of `hilum evaluate`: patients are the units of intervals.

    Arrays are films x findings, row for row, with the names in `findings`. Tables have a column per finding, and their
    films in a column `film` or in the index, by which they are matched. A table of labels may hold a column `patient`,
    and `view`, `sex` and `age` for the report's subgroups.

    Example: hilum.evaluate(scores, labels, patients=patients).auroc["Mass"].low

    Args:
        scores: any finite numbers that rise with the finding.
        labels: 1 present, 0 absent, NaN unknown; or films, of which `split` is evaluated.
        patients: whose film each row of `labels` is; "film" if every film is a patient's only one.
        findings: names of the columns; of tables, those that both have if None.
        split: of films alone.
        name: what gave the scores, for the report's heading.
        bootstrap_samples: stands in report.json; tables of scores need no resamples.
        seed: of the noise from which the interval of the calibration error comes.
        views: of the evaluated films; lateral ones are left out unless they are named here.

    Raises:
        ValueError, TypeError: if these do not go together, or nobody says whose the films are.
        FilmsError, PredictionsError: naming row and column of a label or a score that cannot be used.
    """
    from hilum.data.films import Films

    if isinstance(labels, Films):
        if patients is not None:
            raise ValueError("patients must be left out where labels are films, which know theirs, got some")
        return _evaluated(labels.of_views(views), _by_film(scores, "scores"), split, name, bootstrap_samples, seed, [])
    table, frame = _tables(scores, labels, findings)
    alone = isinstance(patients, str) and patients == "film"
    frame["patient"] = _patients(patients, frame, labels, alone=alone)
    chosen = [column for column in frame.columns if column in table.columns and column not in _NO_FINDINGS]
    if findings is None and not chosen:
        raise ValueError(
            f"scores and labels must share columns, got {', '.join(map(str, table.columns[1:]))} and "
            f"{', '.join(map(str, frame.columns[1:]))}. Name them after the findings"
        )
    frame = frame.assign(path=[f"{row}" for row in range(len(frame))], split="test")
    films = Films.from_frame(frame, root=".", findings=findings or chosen, check_files=False)
    notes = ["Each film counts as a patient's only one: if patients have several, the intervals are too narrow."]
    return _evaluated(films.of_views(views), table, "test", name, bootstrap_samples, seed, notes if alone else [])


_NO_FINDINGS = ("film", "path", "source", "patient", "study", "view", "age", "sex", "split")


def _evaluated(
    films: "Films", scores: "pd.DataFrame", split: str, name: str, bootstrap_samples: int, seed: int, notes: list[str]
) -> "Report":
    from hilum.evaluation.evaluate import evaluate_scores

    report = evaluate_scores(
        films, scores, split=split, bootstrap_samples=bootstrap_samples, seed=seed, system=name, views=films.views
    )
    report.content["notes"] += notes
    return report


def _tables(
    scores: "np.ndarray | pd.DataFrame", labels: "np.ndarray | pd.DataFrame", findings: Sequence[str] | None
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Scores and labels as tables that begin with a column `film`."""
    import pandas as pd

    if isinstance(findings, str):
        raise TypeError(f"findings must be a list of names, got {findings!r}. Write [{findings!r}]")
    if isinstance(scores, pd.DataFrame) and isinstance(labels, pd.DataFrame):
        return _by_film(scores, "scores"), _by_film(labels, "labels")
    if not isinstance(scores, np.ndarray) or not isinstance(labels, np.ndarray):
        raise TypeError(
            f"scores and labels must be two arrays or two data frames, got {type(scores).__name__} and "
            f"{type(labels).__name__}"
        )
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(
            f"scores and labels must be arrays of films x findings and of one shape, got {scores.shape} and "
            f"{labels.shape}"
        )
    if findings is None or len(findings) != scores.shape[1]:
        got = "none" if findings is None else f"{len(findings)}"
        raise ValueError(f"findings must be the names of the {scores.shape[1]} columns, got {got}")
    films = [f"{row}" for row in range(len(scores))]
    tables = [pd.DataFrame(array, columns=list(findings)) for array in (scores, labels)]
    for table in tables:
        table.insert(0, "film", films)
    return tables[0], tables[1]


def _by_film(table: "np.ndarray | pd.DataFrame", what: str) -> "pd.DataFrame":
    """A table that begins with a column `film`, its own or its index."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{what} must be a data frame with a column or index of films here, got {type(table).__name__}")
    if "film" in table.columns:
        rest = table.drop(columns="film")
        films = table["film"]
    else:
        rest, films = table, table.index.to_series()
    found = rest.reset_index(drop=True)
    found.insert(0, "film", [str(film) for film in films.tolist()])
    return found


def _patients(patients: Any, frame: "pd.DataFrame", labels: object, *, alone: bool) -> "list[Any]":
    """Whose film each row of the labels is."""
    import pandas as pd

    if alone:
        return list(frame["film"])
    if patients is None and "patient" in frame.columns:
        return list(frame["patient"])
    if patients is None or isinstance(patients, str):
        raise ValueError(
            f"patients must say whose film each row of labels is, got {patients!r}. Intervals take patients as "
            'units: give an array, or patients="film" if every film is a patient\'s only one'
        )
    if isinstance(patients, pd.Series) and isinstance(labels, pd.DataFrame) and not patients.index.equals(labels.index):
        raise ValueError(
            "patients must have the index of labels, got a series with another. Give an array, or reindex it"
        )
    if len(patients) != len(frame):
        raise ValueError(f"patients must be one for each of the {len(frame)} rows of labels, got {len(patients)}")
    return list(np.asarray(patients).tolist())


def _source(film: FilmLike, number: int | None) -> Path | InMemory:
    """A film as it is read: a path, or what is in memory under a name for messages."""
    if isinstance(film, str | os.PathLike):
        return Path(film)
    kinds: dict[type, str] = {bytes: "bytes", np.ndarray: "array", Image.Image: "image"}
    for kind, name in kinds.items():
        if isinstance(film, kind):
            return InMemory(name, film)
    if _is_dataset(film):
        return InMemory("data set", film)
    where = "film" if number is None else f"films[{number}]"
    raise TypeError(
        f"{where} must be a path, bytes, an image of Pillow's, a NumPy array or a pydicom data set, got "
        f"{type(film).__name__}"
    )


def _is_dataset(film: object) -> bool:
    pydicom = sys.modules.get("pydicom")  # who has a data set has imported it
    return pydicom is not None and isinstance(film, pydicom.Dataset)


def _check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
