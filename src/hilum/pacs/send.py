"""Results go out: by C-STORE or STOW-RS, again and again while the PACS is away, each time after a longer wait."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import AE, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    Verification,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelMove as StudyMove,
)

from hilum.errors import HilumError
from hilum.pacs.config import Dimse, Stow, password_of
from hilum.pacs.dicomweb import PASSWORD, open_client, reason
from hilum.pacs.queue import LONGEST_WAIT_S, Places, Queue, WaitingResult
from hilum.pacs.results import derived_uid
from hilum.pacs.work import Loop

_LOG = logging.getLogger("hilum.node")
_AT_A_TIME = 32
_FIRST_WAIT_S = 1.0
TIMEOUT_S = 30
_STORED_ALREADY, _CLASS_NOT_SUPPORTED = 0x0111, 0x0122

REPORT_CLASSES: dict[str, UID] = {
    "comprehensive-3d": UID(Comprehensive3DSRStorage),
    "comprehensive": UID(ComprehensiveSRStorage),
    "enhanced": UID(EnhancedSRStorage),
}
"""The classes that a report can be sent in, which has nothing that any of them forbids, in the order they are tried."""
PICTURE_SYNTAXES = (JPEGLSLossless, ExplicitVRLittleEndian)
"""The transfer syntaxes that a picture is sent in, in the order they are tried."""


class NotSentError(HilumError):
    """A result could not be sent now; it will be tried again."""


class AwayError(NotSentError):
    """The PACS does not answer, so that other results need not be tried now."""


class NotTakenError(NotSentError):
    """The PACS takes no object of this class; others need not wait for it."""


def forms_of(result: Dataset, first: str) -> list[Dataset]:
    """A result in the classes and compressions that it may be sent in, from the configured and compressed one on.

    In another class it is another object, so it has another identifier, always the same for that class. A picture that
    is sent without compression is the same object.

    Args:
        first: of REPORT_CLASSES; `none` leaves a result as it is.
    """
    if result.file_meta.TransferSyntaxUID.is_compressed:
        plain = deepcopy(result)
        plain.decompress(generate_instance_uid=False)
        return [result, plain]
    if result.SOPClassUID not in REPORT_CLASSES.values() or first not in REPORT_CLASSES:
        return [result]
    names = [*REPORT_CLASSES]
    return [_as(result, REPORT_CLASSES[name]) for name in names[names.index(first) :]]


def _as(result: Dataset, kind: UID) -> Dataset:
    if result.SOPClassUID == kind:
        return result
    other = deepcopy(result)
    uid = derived_uid("as", str(result.SOPInstanceUID), kind)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = kind
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    return other


class Connection(Protocol):
    """An open way to the PACS."""

    def send(self, forms: Sequence[Dataset]) -> None:
        """Send a result in the first of its forms that is taken; return when the PACS says that it has it.

        Raises:
            NotSentError: if it does not.
        """


class _DimseConnection:
    def __init__(self, association: object, kinds: set[tuple[str, str]]):
        self._association, self._kinds = association, kinds

    def send(self, forms: Sequence[Dataset]) -> None:
        status: int | None = None
        for form in forms:
            if _kind(form) not in self._kinds:
                continue
            try:
                answer = self._association.send_c_store(form)  # type: ignore[attr-defined]
            except (RuntimeError, ValueError) as error:
                raise NotSentError(f"PACS must take a result, got {type(error).__name__}") from None
            status = answer.get("Status") if answer else None
            if status in (0x0000, _STORED_ALREADY) or (status is not None and 0xB000 <= status <= 0xBFFF):  # warnings
                return
            if status != _CLASS_NOT_SUPPORTED:
                raise NotSentError(f"PACS must take a result, got status {_hex(status)}")
        names = " or ".join(dict.fromkeys(form.SOPClassUID.name for form in forms))
        raise NotTakenError(f"PACS must take {names}, got a refusal of the class")


def _kind(form: Dataset) -> tuple[str, str]:
    """Class and transfer syntax."""
    return str(form.SOPClassUID), str(form.file_meta.TransferSyntaxUID)


def _hex(status: int | None) -> str:
    return "none" if status is None else f"{status:#06x}"


class _StowConnection:
    def __init__(self, stow: Stow):
        self._client = open_client(stow.url, stow.user, password=password_of(stow, PASSWORD))

    def send(self, forms: Sequence[Dataset]) -> None:
        for form in forms:
            try:
                answer = self._client.store_instances([form])
            except Exception as error:  # the client raises what requests and HTTP raise
                raise NotSentError(f"PACS must take a result, got {reason(error)}") from None
            failed = answer.get("FailedSOPSequence")
            if not failed:
                return
            if failed[0].get("FailureReason") != _CLASS_NOT_SUPPORTED:
                raise NotSentError("PACS must take a result, got a refusal")
        raise NotTakenError("PACS must take a result, got a refusal of its class")


@contextmanager
def open_connection(send: Dimse | Stow, *, caller: str, forms: Sequence[Dataset]) -> Iterator[Connection]:
    """A way to the PACS, closed at the end of the block.

    Args:
        caller: the node's own AE title.
        forms: of the result that is to be sent; see forms_of.

    Raises:
        AwayError: if the PACS is away or rejects the node.
        ConfigError: if the files for TLS cannot be read.
    """
    if isinstance(send, Stow):
        yield _StowConnection(send)
        return
    asked = [_kind(form) for form in forms]
    association = associate(send, caller=caller, asked=asked)
    try:
        accepted = association.accepted_contexts  # type: ignore[attr-defined]
        yield _DimseConnection(
            association, {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in accepted}
        )
    finally:
        association.release()  # type: ignore[attr-defined]


def associate(send: Dimse, *, caller: str, asked: Sequence[tuple[str, str]]) -> object:
    """An association with a PACS.

    Args:
        asked: SOP classes, each with a transfer syntax; that of C-ECHO stands beside them.

    Raises:
        AwayError: if there is none, saying whether nobody answered or the PACS rejected the node.
        NotTakenError: if the PACS accepts none of the classes.
        ConfigError: if the files for TLS cannot be read.
    """
    entity = AE(ae_title=caller)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = TIMEOUT_S
    contexts = [build_context(kind, syntax) for kind, syntax in asked]
    tls = None
    if send.tls is not None:
        context = send.tls.context(server=False)
        context.check_hostname = send.tls.check_name
        tls = (context, send.host)
    association = entity.associate(
        send.host,
        send.port,
        contexts=[build_context(Verification), *contexts],
        ae_title=send.ae_title,
        tls_args=tls,
    )
    if association.is_established:
        return association
    if association.is_rejected:
        said = getattr(association.acceptor.primitive, "reason_str", "") or "no reason"
        raise AwayError(f"PACS must accept the node as {caller}, got a rejection: {said}")
    if association.rejected_contexts:
        names = " or ".join(dict.fromkeys(UID(kind).name for kind, _ in asked))
        raise NotTakenError(f"PACS must take {names}, got a refusal of the class")
    raise AwayError(f"PACS must answer, got no association{' over TLS' if tls else ''}")


def ask_for_study(send: Dimse, study: str, *, caller: str) -> None:
    """Have a PACS send a study to the node, by C-MOVE; return when it has.

    Raises:
        NotSentError: if it does not.
    """
    association: Any = associate(send, caller=caller, asked=[(str(StudyMove), str(ImplicitVRLittleEndian))])
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study
    try:
        status = None
        for answer, _ in association.send_c_move(query, caller, StudyMove):
            status = answer.get("Status") if answer else None
    except (RuntimeError, ValueError) as error:
        raise NotSentError(f"PACS must send a study, got {type(error).__name__}") from None
    finally:
        association.release()
    if status != 0x0000:
        raise NotSentError(f"PACS must send a study, got status {_hex(status)}")


class Sender(Loop):
    """One thread for each target, that sends results in the order of their turn.

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
        keep: bool = False,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__("sender" if send.name == "pacs" else f"sender to {send.name}")
        self._send, self._places, self._queue, self._caller, self._clock = send, places, queue, caller, clock
        self._keep = keep
        self.target = send.name
        self.failing_since: float | None = None
        self.failures: Counter[str] = Counter()
        self.taken = 0

    def step(self) -> int:
        """Send what has its turn; how many results the PACS took."""
        turn = self._queue.to_send(now=self._clock(), most=_AT_A_TIME, target=self.target)
        taken = 0
        for place, result in enumerate(turn):
            if self._ended.is_set():
                break
            path = self._places.result(result.result)
            try:
                forms = forms_of(_read(path), self._send.sr)
                # a line for each: pynetdicom can lose the answer to the second of two C-STOREs on one association
                with open_connection(self._send, caller=self._caller, forms=forms) as line:
                    line.send(forms)
            except AwayError as error:
                self._later(turn[place:], error)
                break
            except NotSentError as error:
                self._later([result], error)
                continue
            self.failing_since = None
            if self._queue.sent(result, now=self._clock()):
                self._put_away(path, result.result)
            taken += 1
        self.taken += taken
        return taken

    def _put_away(self, path: Path, result: str) -> None:
        if self._keep:
            with suppress(FileNotFoundError):  # another target's thread was faster
                path.rename(self._places.sent_result(result))
        else:
            path.unlink(missing_ok=True)

    def _later(self, results: list[WaitingResult], error: NotSentError) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        self.failures[type(error).__name__.removesuffix("Error")] += 1
        longest = isinstance(error, NotTakenError)
        for result in results:
            wait = LONGEST_WAIT_S if longest else wait_s(result.tries)
            self._queue.not_sent(result, next_try=self._clock() + wait, why=str(error))
        _LOG.warning(
            "%d results wait for %.0f s: %s",
            len(results),
            LONGEST_WAIT_S if longest else wait_s(results[0].tries),
            error,
            extra={"target": self.target},
        )


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except (OSError, InvalidDicomError) as error:
        raise NotSentError(f"result must be a file that can be read, got {type(error).__name__}") from None


def wait_s(tries: int) -> float:
    """How long a result waits after so many tries that failed: twice as long each time, at most ten minutes."""
    return min(LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(tries, 20))
