"""A thread that takes one step after another until it is stopped, and is not stopped by a step that fails."""

import logging
import threading
from abc import ABC, abstractmethod

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
