"""Decode, batch and score films in parallel, in order and in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from hilum.data.decoding import Film
from hilum.data.images import WHOLE, InMemory, Preprocessing, Seen
from hilum.data.images import read as read_film
from hilum.data.quality import BLANK, OK
from hilum.errors import ImageError
from hilum.messages import track
from hilum.model.engines import Engine
from hilum.model.metadata import ModelDescription

if TYPE_CHECKING:
    import pandas as pd

    from hilum.data.films import Films

Grey = Float32[np.ndarray, "size size"]


@dataclass(frozen=True)
class Scored:
    """One file's scores and class maps, or why it has none.

    Attributes:
        path: the file, or what a film in memory is called.
        error: empty if the file was read; then the rest is there.
        image: the network's input, grey in [0, 1].
        scores: sigmoid of the logits, calibrated if the bundle is.
        maps: logits by place, before calibration; see the network's class_maps.
        fit: whether the film fits the model, `ok` or what is wrong and why; empty if the model has no input quality
            check and nothing else is wrong with the film.
        logits: as the network gives them, before calibration.
        instance: the SOP Instance UID of a DICOM film.
        forced: whether it was scored although it does not fit, because that was asked for.
        seen: which part of the film the input and the maps show; see Preprocessing.seen.
    """

    path: Path
    error: str
    image: Grey | None = None
    scores: Float32[np.ndarray, " findings"] | None = None
    maps: Float32[np.ndarray, "findings rows columns"] | None = None
    fit: str = ""
    logits: Float32[np.ndarray, " findings"] | None = None
    instance: str = ""
    forced: bool = False
    seen: Seen = WHOLE

    @property
    def fits(self) -> bool:
        """Whether its results may be used: neither header, reader nor input quality check object."""
        return is_fit(self.fit)

    @property
    def analysed(self) -> bool:
        """Whether the network may look at it, and results may speak: it fits the model, or that was forced."""
        return not self.error and (self.fits or self.forced)

    @property
    def caveat(self) -> str:
        """What stands beside forced scores; empty for others."""
        return f"Forced: the film does not fit the model ({self.fit.partition(':')[0]})" if self.forced else ""


def is_fit(fit: str) -> bool:
    """Whether these words say that a film fits the model, or that nothing is known against it; see Scored.fit."""
    return fit in ("", OK)


def score_files(
    engine: Engine, paths: Iterable[Path], *, batch: int | None = None, force: bool = False
) -> Iterator[Scored]:
    """Score files in their order. Memory is bounded by a few batches, however many paths there are.

    Args:
        batch: films per forward pass; the engine's own if None.
        force: whether films that do not fit the model are scored too; see `Scored.analysed`.
    """
    for scored in score_batches(engine, paths, batch=batch or engine.batch, force=force):
        yield from scored


def score_batches(
    engine: Engine,
    films: Iterable[Path | InMemory],
    *,
    batch: int,
    read: Callable[[Preprocessing, Path | InMemory], Grey] | None = None,
    force: bool = False,
) -> Iterator[list[Scored]]:
    """Score films in their order, `batch` at a time; only the last list is shorter.

    A film that does not fit the model has no scores and no class maps, and `fit` says why.

    While one batch is with the caller, as many as the engine wants are in the network and the next ones are decoded.

    Args:
        read: from a film to one channel of the network's input, ImageError for a bad one; as hilum.data reads it if
            None.
        force: whether films that do not fit the model are scored too; each says so in `forced`.
    """
    coming, cores = iter(films), os.cpu_count() or 1
    ahead = 2 * max(batch, cores)
    with ThreadPoolExecutor(cores) as readers, ThreadPoolExecutor(engine.parallel) as runners:
        reading: deque[Future[Scored]] = deque()
        running: deque[Future[list[Scored]]] = deque()
        try:
            while True:
                ready: list[Scored] = []
                while len(ready) < batch:
                    for film in islice(coming, ahead - len(reading)):
                        reading.append(readers.submit(_read, engine.description, film, read, force))
                    if not reading:
                        break
                    ready.append(reading.popleft().result())
                if ready:
                    running.append(runners.submit(_run, engine, ready))
                if not running:
                    return
                if not ready or len(running) > engine.parallel:
                    yield running.popleft().result()
        finally:
            for unread in reading:
                unread.cancel()
            for waiting in running:
                waiting.cancel()


def score_films(engine: Engine, films: "Films", *, each: Callable[[int, Scored], None] | None = None) -> "pd.DataFrame":
    """Predictions for every film of a manifest: `film`, then one score column per finding.

    Films that do not fit the model are scored too, as whoever evaluates must see. `attrs["unfit"]` names them and says
    why, where the model has an input quality check or a header or a reader objects.

    Args:
        each: is given each film's row and all that was computed of it, such as its maps.

    Raises:
        ImageError: at the first film that cannot be read.
    """
    import pandas as pd

    rows: list[Float32[np.ndarray, " findings"]] = []
    unfit: dict[str, str] = {}
    paths = (films.path(row) for row in range(len(films)))
    for scored in track(score_files(engine, paths, force=True), "scoring films", total=len(films)):
        if scored.scores is None:
            raise ImageError(f"{scored.error} Find all such films with: hilum audit films.parquet")
        if not scored.fits:
            unfit[str(films.table["film"].iloc[len(rows)])] = scored.fit
        if each:
            each(len(rows), scored)
        rows.append(scored.scores)
    table = pd.DataFrame(np.stack(rows), columns=list(engine.description.findings))
    table.insert(0, "film", films.table["film"].to_numpy())
    if engine.description.quality_check or unfit:
        table.attrs["unfit"] = unfit
    return table


def _read(
    description: ModelDescription,
    film: Path | InMemory,
    read: Callable[[Preprocessing, Path | InMemory], Grey] | None,
    force: bool,
) -> Scored:
    path = film if isinstance(film, Path) else Path(film.name)
    preprocessing, found = description.preprocessing, None
    try:
        if read is not None:
            image = read(preprocessing, film)
        else:
            found = read_film(film, bits=preprocessing.bits)
            image = preprocessing.grey(found.pixels)
    except ImageError as error:
        return Scored(path, str(error))
    fit = fit_of(description, image, found)
    instance = "" if found is None else found.instance
    seen = WHOLE if found is None else preprocessing.seen(*found.pixels.shape)
    return Scored(path, "", image, fit=fit, instance=instance, forced=force and not is_fit(fit), seen=seen)


def fit_of(description: ModelDescription, image: Grey, film: Film | None) -> str:
    """Whether a film fits the model: `ok` or what is wrong and why. The one place where that is decided.

    What its header says comes first, then what its reader doubts, which names a remedy, then the input quality check.

    Args:
        image: the film as the model's preprocessing makes it, one channel.
        film: as it was read, if it was.
    """
    if film is not None and film.objections:
        return str(film.objections[0])
    verdict = description.quality_check.check(image) if description.quality_check else None
    if film is not None and film.doubt and (verdict is None or verdict.reason != BLANK):
        return film.doubt
    return str(verdict) if verdict else ""


def _run(engine: Engine, films: list[Scored]) -> list[Scored]:
    good = [film.image for film in films if film.image is not None and film.analysed]
    if not good:
        return films
    outputs = engine.run(np.stack(good))
    results = zip(*outputs, strict=True)

    def with_results(film: Scored) -> Scored:
        scores, logits, maps = next(results)
        return replace(film, scores=scores, maps=maps, logits=logits)

    return [with_results(film) if film.analysed else film for film in films]
