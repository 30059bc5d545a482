"""Films come in: a C-STORE is answered with success when the film is on the disk and in the queue, and not before."""

import errno
import hashlib
import ipaddress
import logging
import socket
import sqlite3
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from hilum.data.dicom import DECODERS, FILM_CLASSES
from hilum.data.film_kind import FIELDS
from hilum.pacs import commit
from hilum.pacs.config import BusyError, Receive, Store
from hilum.pacs.queue import Places, Queue, write_safely
from hilum.pacs.results import TAKEN_OVER, is_uid

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND, MISMATCH = 0x0000, 0xA700, 0xC000, 0xA900

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)  # not deflated: it could be a bomb
FILM_SYNTAXES = (*_NATIVE, *DECODERS)
ASIDE_SYNTAXES = tuple(one for one in ALL_TRANSFER_SYNTAXES if not UID(one).is_deflated)
ASIDE_CLASSES = tuple(
    str(context.abstract_syntax)
    for context in AllStoragePresentationContexts
    if context.abstract_syntax not in FILM_CLASSES
)
"""What comes with films and is none."""
_TIME_TO_ASK_S, _LONGEST_SILENCE_S = 10, 60
_TIME_TO_GREET_S = 10
_LARGEST_PDU = 1 << 20  # the node asks for at most 16 KiB; a sender that does not listen still has room
_TLS_GREETING = b"\x16\x03"
_LOG = logging.getLogger("hilum.node")

TURNED_AWAY = {
    "host": "connections from an address that is not among receive.hosts",
    "calling_ae_title": "associations by an AE title that is not among receive.callers",
    "called_ae_title": "associations that called another AE title than receive.ae_title",
    "too_many": "associations beyond receive.most_associations",
    "sop_class": "objects of a class that the node does not know",
    "transfer_syntax": "objects in a compression that the node does not know",
    "tls_wanted": "connections without TLS where receive.tls is set, or with certificates that are not accepted",
    "tls_unexpected": "connections with TLS where receive.tls is not set",
    "pdu_too_large": "connections with a PDU that is too large",
    "film_too_large": "films larger than receive.largest_film_mb",
}
"""What the node turns away before there is a film, in words; the keys are counted."""

_REASONS = {
    "identifier": "its SOP Instance UID is none, or not what was announced",
    "study": "it has no Study Instance UID that is one",
    "queue_full": "store.most_waiting films wait already",
    "disk_full": "the disk has less free than store.keep_free_mb",
    "not_written": "it could not be written to the disk",
}
"""Why films are refused, in words; the keys are counted."""
FOR_LACK_OF_SPACE = ("queue_full", "disk_full", "not_written")


class Receiver:
    """The node's side of C-STORE and C-ECHO, in threads of its own.

    Args:
        clock: seconds; given by tests.

    Raises:
        BusyError: if it cannot listen at the address and port.
    """

    def __init__(
        self, receive: Receive, store: Store, places: Places, queue: Queue, *, clock: Callable[[], float] = time.time
    ):
        self._store, self._places, self._queue, self._clock = store, places, queue, clock
        self._receive = receive
        self._largest = receive.largest_film_mb << 20
        self._arrived: dict[int, int] = {}  # bytes of the film that is coming, by association
        self.received = self.aside = 0
        self.turned_away: Counter[str] = Counter(dict.fromkeys(TURNED_AWAY, 0))
        self.refusals: Counter[tuple[str, str]] = Counter()  # by reason and sender
        self.no_space_since: float | None = None  # the last refusal for lack of space, if no film came after it
        entity = AE(ae_title=receive.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = receive.callers
        entity.maximum_associations = receive.most_associations
        entity.acse_timeout = _TIME_TO_ASK_S
        entity.add_supported_context(Verification)
        for kind in ASIDE_CLASSES:
            entity.add_supported_context(kind, [*ASIDE_SYNTAXES])
        entity.add_supported_context(StorageCommitmentPushModel)
        for kind in FILM_CLASSES:
            entity.add_supported_context(kind, [*FILM_SYNTAXES])
        networks = [ipaddress.ip_network(host) for host in receive.hosts]
        tls = receive.tls.context(server=True) if receive.tls else None
        turn_away = self._turn_away

        class Server(ThreadedAssociationServer):
            """Turns away, before a byte is read, who may not connect."""

            def verify_request(self, request: socket.socket, client_address: tuple[str, int]) -> bool:  # type: ignore[override]
                may = any(ipaddress.ip_address(client_address[0]) in network for network in networks)
                if not may:
                    turn_away("host", client_address[0])
                return may

            def finish_request(self, request: Any, client_address: Any) -> None:
                """In the connection's own thread, so that one who is slow to greet keeps nobody waiting."""
                if tls is not None:
                    request.settimeout(_TIME_TO_GREET_S)
                    try:
                        request = tls.wrap_socket(request, server_side=True)
                    except OSError as error:
                        said = error.reason if isinstance(error, ssl.SSLError) else type(error).__name__
                        turn_away("tls_wanted", client_address[0], str(said))
                        self.shutdown_request(request)
                        return
                super().finish_request(request, client_address)

        handlers: Any = [
            (evt.EVT_CONN_OPEN, self._on_open),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_PDU_RECV, self._on_part),
            (evt.EVT_CONN_CLOSE, self._on_end),
        ]
        try:
            self._server = entity.make_server(
                (receive.address, receive.port),
                evt_handlers=handlers,
                server_class=Server,
            )
        except OSError as error:
            raise BusyError(
                f"receive must be an address and a port that are free, got {receive.address}:{receive.port}: "
                f"{error.strerror}"
            ) from None
        self._server.contexts = _Shared(self._server.contexts)
        entity._servers.append(self._server)  # as AE.start_server does, which takes no class of server
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)

    @property
    def refused(self) -> int:
        """Films that were refused, and connections that were ended, since the start."""
        ended = self.turned_away["pdu_too_large"] + self.turned_away["film_too_large"]
        return self.refusals.total() + ended

    def _turn_away(self, why: str, who: str, detail: str = "") -> None:
        self.turned_away[why] += 1
        _LOG.warning("%s is turned away (%s): %s%s", who, why, TURNED_AWAY[why], f", got {detail}" if detail else "")

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; associations end."""
        self._server.shutdown()

    @property
    def alive(self) -> bool:
        """Whether it listens."""
        return self._thread.is_alive()

    def _on_open(self, event: Event) -> None:
        """Bound what a connection can take: pynetdicom reads a PDU of any size, and waits for its end for ever."""
        line: Any = event.assoc.dul.socket
        line.socket.settimeout(_LONGEST_SILENCE_S)
        read, begin = line.recv, [True]
        address = str(event.assoc.requestor.address)

        def read_bounded(count: int) -> bytearray:
            if count > _LARGEST_PDU:
                self._turn_away("pdu_too_large", address)
                raise OSError(errno.EMSGSIZE, "PDU too large")  # to pynetdicom, a connection that broke
            content: bytearray = read(count)
            if begin:
                begin.clear()
                if content.startswith(_TLS_GREETING) and self._receive.tls is None:
                    self._turn_away("tls_unexpected", address)
            return content

        line.recv = read_bounded

    def _on_part(self, event: Event) -> None:
        """Count a film's bytes as they come, and end the association of one that is too large for the memory."""
        arrived = self._arrived.get(id(event.assoc), 0) + event.pdu.pdu_length
        self._arrived[id(event.assoc)] = arrived
        if arrived > self._largest:
            self._turn_away("film_too_large", _sender(event))
            event.assoc.abort()

    def _on_rejected(self, event: Event) -> None:
        """Say in words why pynetdicom rejected an association."""
        asked: Any = event.assoc.requestor.primitive
        if asked.calling_ae_title not in self._receive.callers:
            self._turn_away("calling_ae_title", str(event.assoc.requestor.address), repr(asked.calling_ae_title))
        elif asked.called_ae_title != self._receive.ae_title:
            self._turn_away("called_ae_title", str(asked.calling_ae_title), repr(asked.called_ae_title))
        else:
            self._turn_away("too_many", str(asked.calling_ae_title))

    def _on_accepted(self, event: Event) -> None:
        """Say which of the classes that an association asked for it cannot have."""
        for context in event.assoc.rejected_contexts:
            kind = UID(str(context.abstract_syntax))
            why = "sop_class" if context.result == _NO_SUCH_CLASS else "transfer_syntax"
            if any(kind == one.abstract_syntax for one in event.assoc.accepted_contexts):
                continue  # in another transfer syntax it can
            self._turn_away(why, _sender(event), kind.name)

    def _on_end(self, event: Event) -> None:
        """Let go of a connection that was closed before it asked for anything: pynetdicom would count it for longer."""
        self._arrived.pop(id(event.assoc), None)
        if event.assoc.requestor.primitive is None:
            event.assoc.dul.to_user_queue.put(None)  # as if the time to ask were over

    def _on_store(self, event: Event) -> int:
        self._arrived.pop(id(event.assoc), None)
        film, sender = str(getattr(event.request, "AffectedSOPInstanceUID", "")), _sender(event)
        kind = UID(str(getattr(event.request, "AffectedSOPClassUID", "")))
        content = event.encoded_dataset()
        if kind not in FILM_CLASSES:
            return self._set_aside(film, kind, content, sender)
        status, why, study = self._store_film(film, content, sender)
        if status == SUCCESS:
            self.received += 1
            self.no_space_since = None
            return status
        self.refusals[why, sender] += 1
        if why in FOR_LACK_OF_SPACE:
            self.no_space_since = self._clock()
        shown = film if is_uid(film) else ""
        _LOG.warning(
            "a film is refused with status %#06x: %s",
            status,
            _REASONS[why],
            extra={"film": shown, "sender": sender, "reason": why},
        )
        with suppress(sqlite3.Error):  # a full disk: it is counted and logged
            self._queue.refuse(shown, study, sender=sender, status=status, why=_REASONS[why], now=self._clock())
        return status

    def _on_action(self, event: Event) -> tuple[int, Dataset | None]:
        """Take a request for storage commitment; it is answered in an association of its own."""
        self._arrived.pop(id(event.assoc), None)
        what = commit.asked(event.action_information, _sender(event))
        if what is None:
            return commit.INVALID, None
        try:
            self._queue.request(what, now=self._clock())
        except sqlite3.Error:
            return OUT_OF_RESOURCES, None
        return commit.SUCCESS, None

    def _set_aside(self, film: str, kind: UID, content: bytes, sender: str) -> int:
        """Take an object that is no film, and keep nothing of it but a line in the queue."""
        self.aside += 1
        study = _facts(content).study
        if is_uid(film):
            try:
                why = f"a film is CR, DX or Secondary Capture, this is {kind.name}"
                self._queue.set_aside(film, study if is_uid(study) else "", why=why, sender=sender, now=self._clock())
            except sqlite3.Error:
                return OUT_OF_RESOURCES
        return SUCCESS

    def _store_film(self, film: str, content: bytes, sender: str) -> tuple[int, str, str]:
        """The status that a film is answered with, the reason if it is refused, and its study."""
        if not is_uid(film):
            return CANNOT_UNDERSTAND, "identifier", ""
        facts = _facts(content)
        if not is_uid(facts.study):
            return CANNOT_UNDERSTAND, "study", ""
        if facts.film != film:
            return MISMATCH, "identifier", facts.study
        if self._queue.knows(film, facts.fingerprint):
            return SUCCESS, "", facts.study  # it was sent twice: it is safe already, and has one result
        if self._queue.waiting() >= self._store.most_waiting:
            return OUT_OF_RESOURCES, "queue_full", facts.study
        if self._places.free_mb() < self._store.keep_free_mb or not self._places.keep_reserve():
            return OUT_OF_RESOURCES, "disk_full", facts.study
        file = f"{film}-{facts.fingerprint[:16]}"
        try:
            write_safely(self._places.film(file), content)
            replaced = self._queue.add(
                film, facts.study, now=self._clock(), sender=sender, fingerprint=facts.fingerprint, file=file
            )
        except (OSError, sqlite3.Error):  # a full disk; a file without entry is deleted at the next start
            return OUT_OF_RESOURCES, "not_written", facts.study
        for one in replaced:
            self._places.film(one).unlink(missing_ok=True)
        return SUCCESS, "", facts.study


_NO_SUCH_CLASS = 0x03


class _Shared(list[Any]):
    """Presentation contexts that all associations share: pynetdicom copies them for each (0.15 s), and only reads."""

    def __deepcopy__(self, memo: object) -> "_Shared":
        return self


def _sender(event: Event) -> str:
    """The AE title that calls."""
    return str(event.assoc.requestor.ae_title)


class _Facts(NamedTuple):
    """What a film says of itself; empty where it cannot."""

    study: str
    film: str
    fingerprint: str


def _facts(content: bytes) -> _Facts:
    """Identifiers, and a hash over all that results depend on: the pixels and what is taken over from the header.

    What an archive changes on the way without changing the film, such as private elements, is not in it.
    """
    try:
        dataset = dcmread(BytesIO(content), force=True)
        study, film = (str(dataset.get(name, "")) for name in ("StudyInstanceUID", "SOPInstanceUID"))
    except Exception:  # pydicom fails on hostile bytes with whatever exception comes handy
        return _Facts("", "", "")
    return _Facts(study, film, _fingerprint(dataset, content))


def _fingerprint(dataset: Dataset, content: bytes) -> str:
    digest = hashlib.sha256()
    try:
        for name in sorted({*TAKEN_OVER, *FIELDS, *_OF_PIXELS}):
            element = dataset.get_item(name)
            value = b"" if element is None else element.value
            digest.update(name.encode() + b"\0" + (value if isinstance(value, bytes) else str(value).encode()) + b"\0")
    except Exception:
        return hashlib.sha256(content).hexdigest()
    return digest.hexdigest()


_OF_PIXELS = (
    *("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
    *("VOILUTSequence", "ModalityLUTSequence", "PresentationLUTShape", "PixelSpacing", "ImagerPixelSpacing"),
)
