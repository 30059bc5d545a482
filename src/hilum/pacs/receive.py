"""Films come in: a C-STORE is answered with success when the film is on the disk and in the queue, and not before."""

import errno
import ipaddress
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from hilum.data.dicom import DECODERS, FILM_CLASSES
from hilum.errors import HilumError
from hilum.pacs.config import Receive, Store
from hilum.pacs.queue import Places, Queue, write_safely
from hilum.pacs.results import is_uid

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND, MISMATCH = 0x0000, 0xA700, 0xC000, 0xA900

_IDENTIFIERS = ("StudyInstanceUID", "SOPInstanceUID")
_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)  # not deflated: it could be a bomb
_TIME_TO_ASK_S, _LONGEST_SILENCE_S = 10, 60
_LARGEST_PDU = 1 << 20  # the node asks for at most 16 KiB; a sender that does not listen still has room
_LOG = logging.getLogger("hilum.node")


class Receiver:
    """The node's side of C-STORE and C-ECHO, in threads of its own.

    Args:
        clock: seconds; given by tests.

    Raises:
        HilumError: if it cannot listen at the address and port.
    """

    def __init__(
        self, receive: Receive, store: Store, places: Places, queue: Queue, *, clock: Callable[[], float] = time.time
    ):
        self._store, self._places, self._queue, self._clock = store, places, queue, clock
        self._largest = receive.largest_film_mb << 20
        self._arrived: dict[int, int] = {}  # bytes of the film that is coming, by association
        self.received = self.refused = 0
        entity = AE(ae_title=receive.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = receive.callers
        entity.maximum_associations = receive.most_associations
        entity.acse_timeout = _TIME_TO_ASK_S
        entity.add_supported_context(Verification)
        for kind in FILM_CLASSES:
            entity.add_supported_context(kind, [*_NATIVE, *DECODERS])
        networks = [ipaddress.ip_network(host) for host in receive.hosts]

        class Server(ThreadedAssociationServer):
            """Turns away, before a byte is read, who may not connect."""

            def verify_request(self, request: socket.socket, client_address: tuple[str, int]) -> bool:  # type: ignore[override]
                return any(ipaddress.ip_address(client_address[0]) in network for network in networks)

        handlers: Any = [
            (evt.EVT_CONN_OPEN, self._on_open),
            (evt.EVT_C_STORE, self._on_store),
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
            raise HilumError(
                f"receive must be an address and a port that are free, got {receive.address}:{receive.port}: "
                f"{error.strerror}"
            ) from None
        entity._servers.append(self._server)  # as AE.start_server does, which takes no class of server
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)

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
        read = line.recv

        def read_bounded(count: int) -> bytearray:
            if count > _LARGEST_PDU:
                self.refused += 1
                _LOG.warning("a PDU is larger than %d bytes: its connection is ended", _LARGEST_PDU)
                raise OSError(errno.EMSGSIZE, "PDU too large")  # to pynetdicom, a connection that broke
            content: bytearray = read(count)
            return content

        line.recv = read_bounded

    def _on_part(self, event: Event) -> None:
        """Count a film's bytes as they come, and end the association of one that is too large for the memory."""
        arrived = self._arrived.get(id(event.assoc), 0) + event.pdu.pdu_length
        self._arrived[id(event.assoc)] = arrived
        if arrived > self._largest:
            self.refused += 1
            _LOG.warning("a film is larger than receive.largest_film_mb: its association is ended")
            event.assoc.abort()

    def _on_end(self, event: Event) -> None:
        """Let go of a connection that was closed before it asked for anything: pynetdicom would count it for longer."""
        self._arrived.pop(id(event.assoc), None)
        if event.assoc.requestor.primitive is None:
            event.assoc.dul.to_user_queue.put(None)  # as if the time to ask were over

    def _on_store(self, event: Event) -> int:
        self._arrived.pop(id(event.assoc), None)
        status = self._store_film(event)
        if status == SUCCESS:
            self.received += 1
        else:
            self.refused += 1
            _LOG.warning("a film is refused with status %#06x", status)
        return status

    def _store_film(self, event: Event) -> int:
        film = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        if not is_uid(film):
            return CANNOT_UNDERSTAND
        if self._queue.knows(film):
            return SUCCESS  # it was sent twice: it is safe already, and has one result
        if self._queue.waiting() >= self._store.most_waiting or self._places.free_mb() < self._store.keep_free_mb:
            return OUT_OF_RESOURCES
        content = event.encoded_dataset()
        study, inside = _study_and_film(content)
        if not is_uid(study):
            return CANNOT_UNDERSTAND
        if inside != film:
            return MISMATCH
        try:
            write_safely(self._places.film(film), content)
            self._queue.add(film, study, now=self._clock())
        except (OSError, sqlite3.Error):  # a full disk; a file without entry is deleted at the next start
            return OUT_OF_RESOURCES
        return SUCCESS


def _study_and_film(content: bytes) -> tuple[str, str]:
    """The identifiers of study and film that a film itself states; empty if it cannot say them."""
    try:
        header = dcmread(BytesIO(content), specific_tags=[*_IDENTIFIERS], stop_before_pixels=True)
        return str(header.get("StudyInstanceUID", "")), str(header.get("SOPInstanceUID", ""))
    except Exception:  # pydicom fails on hostile bytes with whatever exception comes handy
        return "", ""
