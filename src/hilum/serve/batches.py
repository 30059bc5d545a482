"""Films of all requests on their way through one engine: batched across requests, and never more than can be held."""

import asyncio
import math
import time
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread

import numpy as np
from jaxtyping import Float32

from hilum.engines import Engine, Outputs

Grey = Float32[np.ndarray, "size size"]

_STOP = None
_PACE = 0.2  # weight of the newest run in the running mean of seconds per film


class BusyError(Exception):
    """More films wait than the server can hold.

    Attributes:
        retry_after_s: whole seconds after which there should be room.
    """

    def __init__(self, retry_after_s: int):
        super().__init__(f"too many films are waiting; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class StoppedError(Exception):
    """No film is run any more."""


class Batches:
    """An engine with a line before it. Each of its threads takes what waits, up to the engine's batch, and runs it.

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
        """Promise to hold so many films, all or none.

        Raises:
            BusyError: if there is no room for them.
        """
        with self._lock:
            if self.taken + films > self.most:
                raise BusyError(max(1, math.ceil(self.taken * self._seconds_per_film)))
            self.taken += films

    def give_back(self, films: int) -> None:
        """So many films were answered."""
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
