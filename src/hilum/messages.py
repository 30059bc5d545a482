"""Progress bars and messages on standard error, and loggers that keep films out of logs."""

import json
import logging
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def messages() -> Console:
    """The console that messages and bars go to: standard error."""
    return Console(stderr=True, highlight=False, quiet=_silent)


_silent = False


def silence() -> None:
    """No messages and bars in this process from now on: another one of the same training shows them."""
    global _silent
    _silent = True


def track(items: Iterable[Item], description: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield the items while a bar on standard error shows how far they are.

    Args:
        description: what is being done, in two or three words.
        total: the number of items, where `len` does not tell.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages()) as progress:
        yield from progress.track(items, total=total, description=description)


class JsonLines(logging.Formatter):
    """A line of the log as a JSON object: time (UTC), level, message, and the record's own fields."""

    _usual = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        own = {name: value for name, value in record.__dict__.items() if name not in self._usual and value != ""}
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": when, "level": record.levelname, "message": record.getMessage(), **own}, default=str)


_HEARD = ("hilum", "uvicorn")


def log_own_words(form: str, *, as_json: bool = False) -> None:
    """For a process that serves: on standard error is what Hilum says, and no message or warning of a library.

    By the logger's name: a level would not do, as pydicom sets its own again when it is imported. Of what ends a
    thread, such as a connection's, the kind of error is said without its words.

    Args:
        form: of a line, as logging takes it.
        as_json: write each line as a JSON object instead, with the time in UTC and what else was said beside the words.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else logging.Formatter(form))
    handler.addFilter(lambda record: record.name.split(".")[0] in _HEARD)
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    warnings.simplefilter("ignore")
    threading.excepthook = _say_kind


def _say_kind(ended: threading.ExceptHookArgs) -> None:
    kind = "an error" if ended.exc_type is None else ended.exc_type.__name__
    logging.getLogger("hilum").error("a thread ended with %s", kind)


_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filter: Any = None
_DICOM_LIBRARIES = r"(pydicom|highdicom|pynetdicom|openjpeg|jpeg_ls|pylibjpeg)(\.|$)"


@contextmanager
def quiet_dicom() -> Iterator[None]:
    """Keep the warnings of the DICOM libraries from the user: what matters in them, Hilum says itself.

    Safe in many threads at once, which `warnings.catch_warnings` is not.
    """
    global _quiet_filter, _quiet_users
    with _quiet_lock:
        _quiet_users += 1
        if _quiet_users == 1:
            warnings.filterwarnings("ignore", module=_DICOM_LIBRARIES)
            _quiet_filter = warnings.filters[0]
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0 and _quiet_filter in warnings.filters:
                warnings.filters.remove(_quiet_filter)  # type: ignore[attr-defined]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning without its hints on hardware, workers and products; what matters, Hilum says itself."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for known in (
                ".*does not have many workers.*",
                ".*your dataloader is not resumable.*",  # it is: see resume_point
                ".*exists and is not empty.*",
                ".*Experiment logs directory.*",
                ".*GPU available but not used.*",
                ".*have no `val_dataloader`.*",  # as in the paper
                ".*isinstance.treespec, LeafSpec.*",
                ".*sync_dist=True.*",  # all processes log what they have summed
                ".*srun. command is available.*",  # Lightning does not see that it was used
                ".*broadcast_buffers. is deprecated.*",  # its successor is not in every torch that we take
            ):
                warnings.filterwarnings("ignore", message=known)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
