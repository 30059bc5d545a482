"""Storage commitment: a sender asks whether films are safe here, and is told in an association of the node's own."""

import logging
from typing import Any, NamedTuple

from pydicom import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from hilum.errors import HilumError
from hilum.pacs.config import ClientTls
from hilum.pacs.queue import Queue
from hilum.pacs.results import is_uid

INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one instance of the Storage Commitment Push Model."""
SUCCESS, INVALID = 0x0000, 0x0115
_ALL_SAFE, _SOME_NOT = 1, 2
_NO_SUCH_OBJECT = 0x0112
_MOST = 10_000
_TIMEOUT_S = 30
_LOG = logging.getLogger("hilum.node")


class Peer(NamedTuple):
    """Where the answer to a sender goes."""

    ae_title: str
    host: str
    port: int
    tls: ClientTls | None


def asked(information: Dataset, sender: str) -> dict[str, Any] | None:
    """What a sender asks for, as the queue keeps it; None if it is no such request."""
    try:
        transaction = str(information.TransactionUID)
        films = [
            [str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID)]
            for one in information.ReferencedSOPSequence
        ]
    except Exception:  # pydicom fails on hostile bytes with whatever exception comes handy
        return None
    if not (is_uid(transaction) and 0 < len(films) <= _MOST and all(is_uid(uid) for pair in films for uid in pair)):
        return None
    return {"commit": transaction, "to": sender, "films": films}


def report(what: dict[str, Any], queue: Queue) -> tuple[int, Dataset]:
    """The kind of event, and which films are safe: those that the node took on, whatever became of them since.

    The node is no archive: a film is safe as what it is here for, to be scored once.

    Source: DICOM PS3.4, annex J. https://dicom.nema.org/medical/dicom/current/output/html/part04.html
    """
    answer, safe, failed = Dataset(), [], []
    answer.TransactionUID = what["commit"]
    for kind, uid in what["films"]:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = kind, uid
        if queue.has(uid):
            safe.append(one)
        else:
            one.FailureReason = _NO_SUCH_OBJECT
            failed.append(one)
    if safe:
        answer.ReferencedSOPSequence = safe
    if failed:
        answer.FailedSOPSequence = failed
    return (_SOME_NOT if failed else _ALL_SAFE), answer


def tell(what: dict[str, Any], queue: Queue, peer: Peer, *, caller: str) -> str:
    """Tell a sender which of its films are safe; that it was told, in words.

    Args:
        caller: the node's own AE title.

    Raises:
        HilumError: if the sender does not answer.
    """
    kind, answer = report(what, queue)
    entity = AE(ae_title=caller)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _TIMEOUT_S
    entity.add_requested_context(StorageCommitmentPushModel)
    tls = None
    if peer.tls is not None:
        context = peer.tls.context(server=False)
        context.check_hostname = peer.tls.check_name
        tls = (context, peer.host)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title, ext_neg=[role], tls_args=tls)
    if not association.is_established:
        raise HilumError(f"sender must take storage commitments at {peer.host}:{peer.port}, got no association")
    try:
        status, _ = association.send_n_event_report(answer, kind, StorageCommitmentPushModel, INSTANCE)
        said = status.get("Status") if status else None
    except (RuntimeError, ValueError) as error:
        raise HilumError(f"sender must take a storage commitment, got {type(error).__name__}") from None
    finally:
        association.release()
    if said != SUCCESS:
        raise HilumError(f"sender must take a storage commitment, got status {said}")
    return (
        f"{peer.ae_title} was told that {len(answer.get('ReferencedSOPSequence', []))} of {len(what['films'])} are safe"
    )
