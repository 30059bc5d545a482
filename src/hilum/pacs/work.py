"""The node's scorer: complete studies become results, in a thread that a failed step does not stop."""

import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby

from pydicom import Dataset, dcmread

from hilum.errors import ImageError
from hilum.messages import quiet_dicom
from hilum.pacs.config import Dimse, Store, Stow
from hilum.pacs.models import Loaded, Models
from hilum.pacs.queue import FAILED, SCORED, UNFIT, MadeResult, Places, Queue, WaitingFilm, write_safely
from hilum.pacs.results import encoded, read_header, result_objects
from hilum.pacs.segmentation import heat_segmentation
from hilum.predict.scoring import Scored, score_files

_LOG = logging.getLogger("hilum.node")
_PAUSE_S, _PAUSE_AFTER_FAILURE_S = 0.5, 5
_LONGEST_STEP_S = 60
_AT_A_TIME = 32
_HOUR_S, _DAY_S = 3600, 86400


class Loop(ABC):
    """What worker and sender share.

    Args:
        name: of the thread, and in the log.
    """

    def __init__(self, name: str):
        self._ended = threading.Event()
        self.last_step = time.monotonic()
        self.failed: str = ""  # how the last step failed; empty if it did not
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def step(self) -> int:
        """Do what is to be done now; how much that was. After nothing there is a pause."""

    def start(self) -> None:
        """Take steps."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is at hand, then stop; after a minute even so, since what is not finished is done again."""
        self._ended.set()
        self._thread.join(_LONGEST_STEP_S)

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.last_step = time.monotonic()
            try:
                done = self.step()
                self.failed = ""
                if not done:
                    self._ended.wait(_PAUSE_S)
            except Exception as error:  # a full disk, say: what was not finished is done again
                self.failed = type(error).__name__
                _LOG.error("the %s met %s and goes on", self._thread.name, type(error).__name__)
                self._ended.wait(_PAUSE_AFTER_FAILURE_S)


_AT_A_TIME = 16
_HOUR_S = 3600


def why_in_a_log(state: str, why: str) -> str:
    """The reason of a film's state without what its header holds: of a sentence, what comes before the value."""
    if state == FAILED:
        return why.partition(", got ")[0].partition(" in 'film'")[0]
    return why.partition(":")[0]


class Scorer(Loop):
    """One thread that scores complete studies, in batches: while films are in the network, others are decoded.

    A film whose first try ended the process goes alone after that, so that none is given up for another's sake.

    Args:
        models: which model scores which film.
        targets: where results go.
        clock: seconds; given by tests.
    """

    def __init__(
        self,
        models: Models,
        store: Store,
        targets: Sequence[Dimse | Stow],
        places: Places,
        queue: Queue,
        *,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__("worker")
        self._models, self._store, self._targets = models, store, targets
        self._places, self._queue, self._clock = places, queue, clock
        self._tidied = 0.0
        self.reasons: Counter[tuple[str, str, str]] = Counter()  # films by state, reason and sender
        self.scored_s = 0.0

    def step(self) -> int:
        """Score what is ready; how many films that were. Once an hour, forget what was done long ago.

        Nothing is scored while less than half of the disk's reserve is free, or nothing is held back for the queue:
        results could take the rest.
        """
        if abs(self._clock() - self._tidied) > _HOUR_S:
            self._tidied = self._clock()
            self._tidy(self._tidied)
        if self._places.free_mb() < self._store.keep_free_mb * 1.5 or not self._places.keep_reserve():
            self._free_space()
        if self._places.free_mb() < self._store.keep_free_mb / 2 or not self._places.keep_reserve():
            return 0
        ready = self._queue.ready(quiet_s=self._store.quiet_s, now=self._clock(), most=_AT_A_TIME)
        if ready and ready[0].tries:
            ready = ready[:1]
        ready = [film for film in ready if film.tries == ready[0].tries]
        chosen = [(film, self._model_of(film)) for film in ready]
        for _, group in groupby(chosen, key=lambda pair: id(pair[1])):
            pairs = list(group)
            if self._ended.is_set():
                break
            self._score([film for film, _ in pairs], pairs[0][1])
        return len(ready)

    def _model_of(self, film: WaitingFilm) -> Loaded:
        station = study = ""
        if self._models.by_header:
            try:
                with quiet_dicom():
                    header = dcmread(
                        self._places.film(film.file),
                        stop_before_pixels=True,
                        specific_tags=["StationName", "StudyDescription"],
                    )
                    station, study = (str(header.get(name) or "") for name in ("StationName", "StudyDescription"))
            except Exception:  # pydicom fails on hostile bytes with whatever exception comes handy
                pass  # then the film cannot be scored either, and its error says why
        return self._models.choose(calling=film.sender, station=station, study=study)

    def _score(self, films: list[WaitingFilm], model: Loaded) -> None:
        begun = time.monotonic()
        tried = self._queue.try_films(films)
        for film in films:
            if film not in tried:
                self._end(film, FAILED, why="ended the process or the worker", count=False)
        left = list(tried)
        paths = [self._places.film(film.file) for film in tried]
        try:
            batch = 1 if len(paths) == 1 else model.engine.batch
            for scored in score_files(model.engine, paths, batch=batch, force=model.force):
                self._finish(left[0], scored, model)
                left.pop(0)
                self.last_step = time.monotonic()
        except (OSError, sqlite3.Error):
            for film in left:
                self._queue.put_back(film)
            self._free_space()  # the disk may be full of results that are kept after they were sent
            raise
        finally:
            self.scored_s += time.monotonic() - begun

    def _finish(self, film: WaitingFilm, scored: Scored, model: Loaded) -> None:
        path = scored.path
        try:
            if scored.error:
                raise ImageError(scored.error)
            objects = result_objects(
                path,
                scored,
                model.results,
                now=datetime.now(),
                top=model.heatmaps,
                content=film.content,
                earlier=self._queue.earlier_reports(film) if film.content else (),
            )
            if scored.analysed and any(to.seg for to in self._targets):
                objects += self._heat(film, scored, model)
            contents = [(one, encoded(one, path, compress=True)) for one in objects]
        except ImageError as error:
            self._end(film, FAILED, why=str(error).replace(str(path), "film"), model=model.name)
            return
        made = []
        for one, content in contents:
            kind = {"SR": "SR", "SEG": "SEG"}.get(one.Modality, "SC")
            targets = [to.name for to in self._targets if {"SR": to.sr != "none", "SC": to.sc, "SEG": to.seg}[kind]]
            if targets:
                write_safely(self._places.result(str(one.SOPInstanceUID)), content)
                made.append(MadeResult(str(one.SOPInstanceUID), kind, str(one.SeriesInstanceUID), targets))
        state = SCORED if scored.analysed else UNFIT
        self._end(film, state, why="" if scored.fits else scored.fit, results=made, model=model.name)

    def _heat(self, film: WaitingFilm, scored: Scored, model: Loaded) -> list[Dataset]:
        """Heat as a segmentation, if there is any; a film that it cannot be made of has its other results."""
        try:
            with quiet_dicom():
                heat = heat_segmentation(
                    read_header(scored.path),
                    scored,
                    model.results,
                    now=datetime.now(),
                    top=model.heatmaps,
                    content=film.content,
                )
        except Exception as error:  # a header may hold anything
            _LOG.warning("film %d has no segmentation: %s", film.number, type(error).__name__)
            return []
        return [] if heat is None else [heat]

    def _end(
        self,
        film: WaitingFilm,
        state: str,
        *,
        why: str,
        results: Sequence[MadeResult] = (),
        model: str = "",
        count: bool = True,
    ) -> None:
        if count and not self._queue.finish(film, state, why=why, results=results, model=model, now=self._clock()):
            _LOG.info("film %d was forgotten or replaced while it was scored", film.number)
        if state != FAILED:
            self._places.film(film.file).unlink(missing_ok=True)
        words = why_in_a_log(state, why)
        if words:
            self.reasons[state, words, film.sender] += 1
            _LOG.log(
                logging.ERROR if state == FAILED else logging.INFO,
                "film %d is %s: %s; hilum node show %d says more",
                film.number,
                state,
                words,
                film.number,
                extra={"film": film.film, "sender": film.sender, "state": state, "reason": words, "model": model},
            )
        else:
            _LOG.info(
                "film %d is %s",
                film.number,
                state,
                extra={"film": film.film, "sender": film.sender, "state": state, "model": model},
            )

    def _tidy(self, now: float) -> None:
        """Forget what was done long ago, and delete what was kept for long enough."""
        self._queue.forget(before=now - self._store.keep_days * _DAY_S)
        for file in self._queue.let_go(before=now - self._store.keep_failed_days * _DAY_S):
            self._places.film(file).unlink(missing_ok=True)
        for path in self._places.sent.iterdir():
            if path.stat().st_mtime < now - self._store.keep_sent_days * _DAY_S:
                path.unlink(missing_ok=True)

    def _free_space(self) -> None:
        """Delete what is kept for convenience alone: results that were sent, the oldest first."""
        kept = sorted(self._places.sent.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in kept[: 1 + len(kept) // 2]:
            path.unlink(missing_ok=True)
