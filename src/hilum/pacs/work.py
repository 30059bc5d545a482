"""The node's scorer: complete studies become results, in a thread that a failed step does not stop."""

import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime

from hilum.errors import ImageError
from hilum.model.engines import Engine
from hilum.pacs.config import Store
from hilum.pacs.queue import FAILED, SCORED, UNFIT, Places, Queue, WaitingFilm, write_safely
from hilum.pacs.results import ResultModel, encoded, result_objects
from hilum.predict.scoring import score_files

_LOG = logging.getLogger("hilum.node")
_PAUSE_S, _PAUSE_AFTER_FAILURE_S = 0.5, 5
_LONGEST_STEP_S = 60


class Loop(ABC):
    """What worker and sender share.

    Args:
        name: of the thread, and in the log.
    """

    def __init__(self, name: str):
        self._ended = threading.Event()
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
            try:
                if not self.step():
                    self._ended.wait(_PAUSE_S)
            except Exception as error:  # a full disk, say: what was not finished is done again
                _LOG.error("the %s met %s and goes on", self._thread.name, type(error).__name__)
                self._ended.wait(_PAUSE_AFTER_FAILURE_S)


_AT_A_TIME = 16
_HOUR_S = 3600


class Scorer(Loop):
    """One thread that scores films, study by study.

    Args:
        heatmaps: how many are in a picture.
        force: whether films that do not fit the model are scored too.
        clock: seconds; given by tests.
    """

    def __init__(
        self,
        engine: Engine,
        model: ResultModel,
        store: Store,
        places: Places,
        queue: Queue,
        *,
        heatmaps: int = 3,
        force: bool = False,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__("worker")
        self._engine, self._model, self._store = engine, model, store
        self._heatmaps, self._force = heatmaps, force
        self._places, self._queue, self._clock = places, queue, clock
        self._forgot = 0.0

    def step(self) -> int:
        """Score what is ready; how many films that were. Once an hour, forget what was done long ago.

        Nothing is scored while less than half of the disk's reserve is free: results could take the rest.
        """
        if self._clock() - self._forgot > _HOUR_S:
            self._forgot = self._clock()
            self._queue.forget(before=self._forgot - self._store.keep_days * 24 * _HOUR_S)
        if self._places.free_mb() < self._store.keep_free_mb / 2:
            return 0
        ready = self._queue.ready(quiet_s=self._store.quiet_s, now=self._clock(), most=_AT_A_TIME)
        for film in ready:
            if self._ended.is_set():
                break
            if self._queue.try_film(film):
                try:
                    self._score(film)
                except (OSError, sqlite3.Error):
                    self._queue.put_back(film)
                    raise
            else:
                _LOG.error("film %d is given up: it ended the process again and again", film.number)
                self._places.film(film.film).unlink(missing_ok=True)
        return len(ready)

    def _score(self, film: WaitingFilm) -> None:
        path = self._places.film(film.film)
        try:
            (scored,) = score_files(self._engine, [path], batch=1, force=self._force)
            if scored.error:
                raise ImageError(scored.error)
            objects = result_objects(path, scored, self._model, now=datetime.now(), top=self._heatmaps)
            contents = {str(result.SOPInstanceUID): encoded(result, path) for result in objects}
        except ImageError as error:
            self._end(film, FAILED, why=str(error).replace(str(path), "film"))
            return
        for result, content in contents.items():
            write_safely(self._places.result(result), content)
        state = SCORED if scored.analysed else UNFIT
        self._end(film, state, why="" if scored.fits else scored.fit, results=[*contents])

    def _end(self, film: WaitingFilm, state: str, *, why: str, results: list[str] | None = None) -> None:
        self._queue.finish(film, state, why=why, results=results or (), now=self._clock())
        self._places.film(film.film).unlink(missing_ok=True)
        _LOG.info("film %d is %s%s", film.number, state, "; hilum node status says why" if why else "")
