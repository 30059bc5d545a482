"""From an uploaded film to its answer: films of all requests batched through one engine, heatmaps, DICOM objects."""

import asyncio
import io
import json
import math
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import Any

import numpy as np
from jaxtyping import Float32

import hilum
from hilum.data.decoding import Film
from hilum.data.images import read_content
from hilum.errors import HilumError, ImageError
from hilum.findings import plain
from hilum.metrics.thresholds import Threshold
from hilum.model.engines import Engine, Outputs, is_export
from hilum.model.metadata import on_whole_film, read_bundle_json, strength
from hilum.model.thresholds import call
from hilum.pacs.writer import check_installed
from hilum.predict.heatmaps import Region, heat_png, is_marked, outlines, region_of
from hilum.predict.scoring import Scored, fit_of, is_fit
from hilum.serve.header import read_header
from hilum.serve.schemas import (
    FilmAnswer,
    FindingAnswer,
    FindingFacts,
    HeatmapAnswer,
    Interval,
    ModelFacts,
    ReaderOpinion,
    RegionAnswer,
    RegionFacts,
)
from hilum.serve.schemas import (
    ThresholdAnswer as Limit,
)
from hilum.serve.security import CORES, Limits
from hilum.serve.storage import Counts, Kept
from hilum.serve.uploads import Upload

Grey = Float32[np.ndarray, "size size"]

_STOP = None
_PACE = 0.2  # weight of the newest run in the running mean of seconds per film


class FullError(Exception):
    """More films wait than the server can hold.

    Attributes:
        retry_after_s: whole seconds after which there should be room.
    """

    def __init__(self, retry_after_s: int):
        super().__init__(f"too many films are waiting; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class StoppedError(Exception):
    """The server has stopped scoring."""


class Batches:
    """Batch waiting films through an engine, up to its batch size, in threads.

    Args:
        waiting: films that may be taken and not answered yet.
    """

    def __init__(self, engine: Engine, *, waiting: int):
        self.engine, self.most, self.taken = engine, waiting, 0
        self._seconds_per_film = 0.1  # a guess, until films have been run
        self._lock = Lock()
        self._line: SimpleQueue[tuple[Grey, Future[Outputs]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(engine.parallel)]
        for thread in self._threads:
            thread.start()

    def take(self, films: int) -> None:
        """Reserve places in the queue for `films` films, all or none.

        Raises:
            FullError: if there is no room for them.
        """
        with self._lock:
            if self.taken + films > self.most:
                raise FullError(max(1, math.ceil(self.taken * self._seconds_per_film)))
            self.taken += films

    def give_back(self, films: int) -> None:
        """Release the places of `films` films."""
        with self._lock:
            self.taken -= films

    async def outputs(self, grey: Grey) -> Outputs:
        """What the engine says of one film: a batch of one.

        Raises:
            StoppedError: if the server is being stopped.
        """
        if not self.alive:
            raise StoppedError("the server is being stopped; try again when it runs")
        future: Future[Outputs] = Future()
        self._line.put((grey, future))
        return await asyncio.wrap_future(future)

    @property
    def alive(self) -> bool:
        """Whether films are run."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """End the threads, each after the batch that it runs."""
        for _ in self._threads:
            self._line.put(_STOP)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (first := self._line.get()) is not _STOP:
            films, stop = [first], False
            while len(films) < self.engine.batch:
                try:
                    more = self._line.get_nowait()
                except Empty:
                    break
                if more is _STOP:
                    stop = True
                    break
                films.append(more)
            self._run([film for film in films if film[1].set_running_or_notify_cancel()])
            if stop:
                return

    def _run(self, films: list[tuple[Grey, "Future[Outputs]"]]) -> None:
        if not films:
            return
        start = time.perf_counter()
        try:
            outputs = self.engine.run(np.stack([grey for grey, _ in films]))
        except Exception as error:  # the engine's fault is those films' fault, and the next are tried
            for _, future in films:
                future.set_exception(error)
            return
        seconds = (time.perf_counter() - start) / len(films) / self.engine.parallel
        with self._lock:
            self._seconds_per_film += _PACE * (seconds - self._seconds_per_film)
        for k, (_, future) in enumerate(films):
            future.set_result(Outputs(*(part[k : k + 1] for part in outputs)))


def archive(
    run: Path, upload: Upload, scored: Scored, point: str | None, *, engine: Engine, bits: int | None = None
) -> bytes:
    """The objects in a zip file: result.sr.dcm and result.sc.dcm; the first alone if the film was not analysed.

    Raises:
        ImageError: if the film is no DICOM film with its identifiers, or is a result itself.
        MissingExtraError: if the extra [dicom] is not installed.
    """
    check_installed()
    from hilum.pacs.results import result_model, write_results

    packed = io.BytesIO()
    with TemporaryDirectory() as name, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as objects:
        folder = Path(name)
        film = folder / "film"
        film.write_bytes(upload.content())
        try:
            model = result_model(run, point, bits=bits, engine=engine)
            made = write_results(film, scored, model, folder, film="result", now=datetime.now())
        except ImageError as error:  # it names the temporary file
            raise ImageError(str(error).replace(repr(str(film)), repr(upload.name))) from None
        if not made:
            raise ImageError(f"film must be one that can have a result, got {scored.fit} in {upload.name!r}.")
        for path in made:
            objects.write(path, path.name)
    return packed.getvalue()


def reading_object(
    run: Path,
    upload: Upload,
    reading: Mapping[str, ReaderOpinion],
    point: str | None,
    *,
    reader: str,
    engine: Engine,
    bits: int | None = None,
) -> bytes:
    """A reader's opinion on a film as a DICOM report. See hilum.pacs.reading.reading_report.

    Raises:
        ImageError: if the film is no DICOM film with its identifiers.
        HilumError: if the reading cannot be reported.
        MissingExtraError: if the extra [dicom] is not installed.
    """
    check_installed()
    from hilum.pacs.reading import Opinion, reading_file
    from hilum.pacs.results import result_model

    opinions = {name: Opinion(one.present, one.comment, one.call) for name, one in reading.items()}
    with TemporaryDirectory() as folder:
        film = Path(folder) / "film"
        film.write_bytes(upload.content())
        model = result_model(run, point, bits=bits, engine=engine)
        try:
            return reading_file(film, opinions, model, reader=reader, now=datetime.now())
        except ImageError as error:  # it names the temporary file
            raise ImageError(str(error).replace(repr(str(film)), repr(upload.name))) from None


@dataclass
class Room:
    """All that answers need; made before the server listens.

    Attributes:
        run: the model's folder.
        report: what report.json of these weights holds; None if there is none.
        kept: the file of kept results; None if none are kept.
        bits: how many bits the films' values were said to have; None if nothing was said.
    """

    run: Path
    engine: Engine
    report: dict[str, Any] | None
    limits: Limits
    kept: Kept | None
    bits: int | None = None

    def __post_init__(self) -> None:
        self.batches = Batches(self.engine, waiting=self.limits.waiting)
        self.readers = ThreadPoolExecutor(CORES)  # so many films are decoded at once, and no more are in memory
        engine = self.engine
        self.ready = asyncio.Semaphore(2 * (CORES + engine.batch * engine.parallel))  # so many wait at the model's size
        self.shown = asyncio.Semaphore(CORES)  # so many are sent as they are, which is large
        self.counts = Counts()

    def close(self) -> None:
        """End all threads."""
        self.readers.shutdown(cancel_futures=True)
        self.batches.close()
        if self.kept is not None:
            self.kept.close()

    @property
    def points(self) -> list[str]:
        """The model's operating points."""
        thresholds = self.engine.description.thresholds
        return [] if thresholds is None else list(thresholds.points)

    def thresholds(self, point: str | None) -> Sequence[Threshold | None]:
        """The thresholds of an operating point, in the findings' order.

        Raises:
            HilumError: if the model has no such point.
        """
        description = self.engine.description
        if point is None or description.thresholds is None:
            return [None] * len(description.findings)
        chosen = description.thresholds.thresholds(point)
        return [chosen[finding] for finding in description.findings]

    async def read(self, upload: Upload) -> Film:
        """A sent film's greys.

        Raises:
            ImageError: if it is none.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self.readers, lambda: _read(upload, bits=self.engine.description.preprocessing.bits)
        )

    async def answers(
        self,
        uploads: Sequence[Upload],
        point: str | None,
        *,
        heatmaps: bool,
        regions: bool = False,
        force: bool = False,
    ) -> list[FilmAnswer]:
        """The results of sent films, in their order."""
        work = (self.answer(one, point, heatmaps=heatmaps, regions=regions, force=force) for one in uploads)
        return list(await asyncio.gather(*work))

    async def score(self, upload: Upload, *, force: bool = False) -> Scored:
        """A sent film's scores and class maps; neither if it does not fit the model and is not forced.

        Raises:
            ImageError: if it is no film.
        """
        try:
            async with self.ready:
                scored = await asyncio.get_running_loop().run_in_executor(self.readers, self._prepared, upload, force)
                if scored.image is None or not scored.analysed:
                    self.counts.film("unfit")
                    return scored
                outputs = await self.batches.outputs(scored.image)
        except ImageError:
            self.counts.film("refused")
            raise
        self.counts.film("scored")
        return replace(scored, scores=outputs.scores[0], maps=outputs.maps[0])

    async def answer(
        self, upload: Upload, point: str | None, *, heatmaps: bool, regions: bool = False, force: bool = False
    ) -> FilmAnswer:
        """A sent film's result, or why it has none."""
        try:
            scored = await self.score(upload, force=force)
        except ImageError as error:
            return FilmAnswer(film=upload.name, error=str(error), fit="", findings=[])
        if not scored.analysed:
            answer = FilmAnswer(film=upload.name, error="", fit=scored.fit, findings=[])
        else:
            answer = await self._described(scored, point, heatmaps=heatmaps, regions=regions)
        answer.header = await asyncio.get_running_loop().run_in_executor(
            self.readers, lambda: read_header(upload.content())
        )
        return answer

    async def objects(self, upload: Upload, point: str | None, *, force: bool = False) -> bytes:
        """A sent film's result as DICOM objects, in an archive.

        Raises:
            ImageError: if it is no DICOM film.
        """
        scored = await self.score(upload, force=force)
        return await asyncio.get_running_loop().run_in_executor(
            self.readers, lambda: archive(self.run, upload, scored, point, engine=self.engine, bits=self.bits)
        )

    async def reading(
        self, upload: Upload, reading: Mapping[str, ReaderOpinion], point: str | None, *, reader: str
    ) -> bytes:
        """A reader's opinion on a sent film as a DICOM report. See reading_object."""

        def made() -> bytes:
            return reading_object(self.run, upload, reading, point, reader=reader, engine=self.engine, bits=self.bits)

        return await asyncio.get_running_loop().run_in_executor(self.readers, made)

    async def _described(self, scored: Scored, point: str | None, *, heatmaps: bool, regions: bool) -> FilmAnswer:
        loop, thresholds, maps, scores = asyncio.get_running_loop(), self.thresholds(point), scored.maps, scored.scores
        if maps is None or scores is None:
            raise ValueError("film must have been scored")
        description = self.engine.description
        marked = [k for k, (s, t) in enumerate(zip(scores, thresholds, strict=True)) if is_marked(float(s), t)]
        heats: dict[int, HeatmapAnswer] = {}
        lines: dict[int, RegionAnswer] = {}

        def draw() -> None:
            for k in marked:
                finding = description.findings[k]
                if heatmaps:
                    heat = strength(maps[k], description.heatmap_logits[finding])
                    heats[k] = HeatmapAnswer(png=heat_png(on_whole_film(heat, scored.seen, elsewhere=0.0)))
                place = on_whole_film(maps[k], scored.seen, elsewhere=float(maps[k].min()))
                found = region_of(place, description, finding, float(scores[k]), thresholds[k]) if regions else None
                if found is not None:
                    lines[k] = _region(found)

        if marked and (heatmaps or regions):
            await loop.run_in_executor(self.readers, draw)
        findings = [
            FindingAnswer(
                finding=finding,
                score=round(float(scores[k]), 6),
                call=call(float(scores[k]), thresholds[k]),  # type: ignore[arg-type]
                threshold=_limit(thresholds[k]),
                heatmap=heats.get(k),
                region=lines.get(k),
            )
            for k, finding in enumerate(description.findings)
        ]
        return FilmAnswer(film=str(scored.path), error="", fit=scored.fit, forced=scored.forced, findings=findings)

    @cached_property
    def facts(self) -> ModelFacts:
        """What the model is, and what it was measured to do."""
        description, report = self.engine.description, self.report
        return ModelFacts(
            name=_name(self.run),
            hilum=hilum.__version__,
            engine=f"{self.engine.name} {self.engine.precision}",
            size=description.preprocessing.size,
            calibrated=description.calibration is not None,
            gated=description.quality_check is not None,
            learned_from=description.learned_from,
            simulated=description.simulated,
            points=self.points,
            regions=None if description.regions is None else RegionFacts(**asdict(description.regions)),
            judged_films=None if report is None else report["films"],
            findings=[
                FindingFacts(
                    finding=finding,
                    words=plain(finding).words,
                    urgency=plain(finding).urgency,
                    auroc=_auroc(report, finding),
                    thresholds={name: _limit(self.thresholds(name)[k]) for name in self.points},
                )
                for k, finding in enumerate(description.findings)
            ],
            films_per_request=self.limits.films,
            keeps=self.kept is not None,
            dicom=find_spec("highdicom") is not None,
        )

    def _prepared(self, upload: Upload, force: bool) -> Scored:
        description = self.engine.description
        film = _read(upload, bits=description.preprocessing.bits)
        grey = description.preprocessing.grey(film.pixels)
        fit = fit_of(description, grey, film)
        seen = description.preprocessing.seen(*film.pixels.shape)
        return Scored(Path(upload.name), "", grey, fit=fit, forced=force and not is_fit(fit), seen=seen)


def read_report(run: Path, report: Path | None) -> dict[str, Any] | None:
    """What report.json says of the model in a folder: the one named, or one in RUN/report or beside RUN.

    Raises:
        HilumError: if the named one cannot be read, or is of other weights.
    """
    places = [report] if report is not None else [run / "report", run.resolve().parent / "report"]
    weights = None if is_export(run) else read_bundle_json(run).get("weights_sha256")
    for folder in places:
        try:
            content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            if weights is not None and (content.get("model") or {}).get("weights_sha256") == weights:
                return dict(content)
            fault = "it is of other weights"
        except (OSError, ValueError, AttributeError) as error:
            fault = str(error)
        if report is not None:
            raise HilumError(f"report must be a folder with a report.json on {run}, got {folder}: {fault}")
    return None


def _read(upload: Upload, *, bits: int | None) -> Film:
    return read_content(upload.content(), upload.name, bits=bits)


def _region(found: Region) -> RegionAnswer:
    return RegionAnswer(outlines=outlines(found), area=round(found.area, 4), side=found.side, zone=found.zone)


def _limit(threshold: Threshold | None) -> Limit | None:
    return None if threshold is None else Limit(**threshold._asdict())


def _auroc(report: dict[str, Any] | None, finding: str) -> Interval | None:
    one = {} if report is None else report["findings"].get(finding, {}).get("auroc", {})
    if one.get("value") is None:
        return None
    return Interval(value=one["value"], low=one["low"], high=one["high"], why=one.get("why", ""))


def _name(run: Path) -> str:
    if is_export(run):
        return run.resolve().name
    recipe = read_bundle_json(run).get("recipe")
    return str(recipe["name"]) if isinstance(recipe, dict) and "name" in recipe else run.resolve().name
