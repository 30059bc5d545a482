"""Results go out: by C-STORE or STOW-RS, again and again while the PACS is away, each time after a longer wait."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE
from pynetdicom.sop_class import Comprehensive3DSRStorage, SecondaryCaptureImageStorage  # type: ignore[attr-defined]

from hilum.errors import HilumError
from hilum.pacs.config import Dimse, Stow
from hilum.pacs.dicomweb import open_client, reason
from hilum.pacs.queue import Places, Queue, WaitingResult
from hilum.pacs.work import Loop

_LOG = logging.getLogger("hilum.node")
_AT_A_TIME = 32
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 600.0
_TIMEOUT_S = 30
_STORED_ALREADY = 0x0111


class NotSentError(HilumError):
    """A result could not be sent now; it will be tried again."""


class AwayError(NotSentError):
    """The PACS does not answer, so that other results need not be tried now."""


class Connection(Protocol):
    """An open way to the PACS."""

    def send(self, result: Dataset) -> None:
        """Send a result; return when the PACS says that it has it.

        Raises:
            NotSentError: if it does not.
        """


class _DimseConnection:
    def __init__(self, association: object):
        self._association = association

    def send(self, result: Dataset) -> None:
        try:
            answer = self._association.send_c_store(result)  # type: ignore[attr-defined]
        except (RuntimeError, ValueError) as error:
            raise NotSentError(f"PACS must take a result, got {type(error).__name__}") from None
        status = answer.get("Status") if answer else None
        done = status in (0x0000, _STORED_ALREADY) or (status is not None and 0xB000 <= status <= 0xBFFF)  # warnings
        if not done:
            raise NotSentError(f"PACS must take a result, got status {status}")


class _StowConnection:
    def __init__(self, stow: Stow):
        self._client = open_client(stow.url, stow.user)

    def send(self, result: Dataset) -> None:
        try:
            answer = self._client.store_instances([result])
        except Exception as error:  # the client raises what requests and HTTP raise
            raise NotSentError(f"PACS must take a result, got {reason(error)}") from None
        if answer.get("FailedSOPSequence"):
            raise NotSentError("PACS must take a result, got a refusal")


@contextmanager
def open_connection(send: Dimse | Stow, *, caller: str) -> Iterator[Connection]:
    """A way to the PACS, closed at the end of the block.

    Args:
        caller: the node's own AE title.

    Raises:
        AwayError: if the PACS is away or does not take results.
    """
    if isinstance(send, Stow):
        yield _StowConnection(send)
        return
    entity = AE(ae_title=caller)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _TIMEOUT_S
    for kind in (Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
        entity.add_requested_context(kind, "1.2.840.10008.1.2.1")
    association = entity.associate(send.host, send.port, ae_title=send.ae_title)
    if not association.is_established:
        raise AwayError("PACS must answer, got no association")
    try:
        yield _DimseConnection(association)
    finally:
        association.release()


class Sender(Loop):
    """One thread that sends results in the order of their turn.

    Args:
        caller: the node's own AE title.
        clock: seconds; given by tests.
    """

    def __init__(
        self,
        send: Dimse | Stow,
        places: Places,
        queue: Queue,
        *,
        caller: str,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__("sender")
        self._send, self._places, self._queue, self._caller, self._clock = send, places, queue, caller, clock

    def step(self) -> int:
        """Send what has its turn; how many results the PACS took."""
        turn = self._queue.to_send(now=self._clock(), most=_AT_A_TIME)
        taken = 0
        for place, result in enumerate(turn):
            if self._ended.is_set():
                break
            path = self._places.result(result.result)
            try:
                # a line for each: pynetdicom can lose the answer to the second of two C-STOREs on one association
                with open_connection(self._send, caller=self._caller) as line:
                    line.send(_read(path))
            except AwayError as error:
                self._later(turn[place:], error)
                break
            except NotSentError as error:
                self._later([result], error)
                continue
            self._queue.sent(result, now=self._clock())
            path.unlink(missing_ok=True)
            taken += 1
        return taken

    def _later(self, results: list[WaitingResult], error: NotSentError) -> None:
        for result in results:
            self._queue.not_sent(result, next_try=self._clock() + wait_s(result.tries))
        _LOG.warning("%d results wait for %.0f s: %s", len(results), wait_s(results[0].tries), error)


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except (OSError, InvalidDicomError) as error:
        raise NotSentError(f"result must be a file that can be read, got {type(error).__name__}") from None


def wait_s(tries: int) -> float:
    """How long a result waits after so many tries that failed: twice as long each time, at most ten minutes."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(tries, 20))
