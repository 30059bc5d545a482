"""All that a node needs, tried before the first film comes."""

import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import SecondaryCaptureImageStorage  # type: ignore[attr-defined]

from hilum.errors import HilumError
from hilum.model.engines import file_sha256, is_export, open_engine, processor, read_exported
from hilum.model.metadata import BUNDLE_JSON
from hilum.pacs.config import Dimse, Model, NodeConfig, ServerTls, Stow, Tls, password_of
from hilum.pacs.dicomweb import PASSWORD, open_client, reason
from hilum.pacs.models import Models, try_engine
from hilum.pacs.queue import Places, Queue
from hilum.pacs.results import result_model
from hilum.pacs.send import REPORT_CLASSES, NotSentError, associate
from hilum.pacs.service import is_running

_SOON_S = 30 * 86400


class Check(NamedTuple):
    """One thing that was tried.

    Attributes:
        what: such as `receive`, `send pacs`.
        words: what was found, or what is wrong and what to do.
    """

    what: str
    well: bool
    words: str


def check_node(config: NodeConfig, *, choose: bool = False) -> list[Check]:
    """Try models, disk, ports, secrets, TLS and PACS; nothing is sent and no running node is disturbed.

    Args:
        choose: measure the engines of models whose engine is `auto` anew.
    """
    running = is_running(config.store.folder)
    found = [_store(config, running=running)]
    for name, model in config.models().items():
        found.append(_tried(f"model {name}", partial(_model, config, model, anew=choose)))
    found.append(_tried("receive", partial(_port, config.receive.address, config.receive.port, running=running)))
    if config.receive.tls is not None:
        found.append(_tried("receive TLS", partial(_tls, config.receive.tls)))
    for target in config.send:
        if isinstance(target, Dimse):
            if target.tls is not None:
                found.append(_tried(f"send {target.name} TLS", partial(_tls, target.tls)))
            found.append(_tried(f"send {target.name}", partial(_dimse, target, config)))
        else:
            found.append(_tried(f"send {target.name}", partial(_stow, target)))
    if config.watch is not None:
        watch = config.watch
        found.append(_tried("watch", partial(_port, watch.address, watch.port, running=running)))
        found.append(_tried("watch token", lambda: "is there" if watch.token() else "is not needed on loopback"))
    return found


def _tried(what: str, check: Callable[[], str]) -> Check:
    try:
        return Check(what, True, check())
    except HilumError as error:
        return Check(what, False, str(error))


def _store(config: NodeConfig, *, running: bool) -> Check:
    """The folder can be written to, the queue is of a format that this Hilum knows, and there is room."""
    folder, needed = config.store.folder, config.store.keep_free_mb
    try:
        places = Places(folder)
        probe = folder / "probe"
        probe.write_bytes(b"")
        probe.unlink()
        Queue(folder, upgrade=False).close()
    except HilumError as error:
        return Check("store", False, str(error))
    except OSError as error:
        return Check("store", False, f"store.folder must be writable, got {error.strerror} at {folder}")
    free = places.free_mb()
    if free < 2 * needed:
        return Check(
            "store", False, f"store.folder must have twice keep_free_mb free ({2 * needed} MiB), got {free:.0f}"
        )
    return Check("store", True, f"{folder}, {free:,.0f} MiB free{', in use by a running node' if running else ''}")


def _model(config: NodeConfig, model: Model, *, anew: bool) -> str:
    models = Models(Places(config.store.folder).models)
    alone = is_export(model.run)
    digest = read_exported(model.run).bundle_sha256 if alone else file_sha256(model.run / BUNDLE_JSON)
    engine, precision, rates = model.engine, model.precision, ""
    if model.engine == "auto" and model.precision is None:
        choice = models.choice(model, digest, anew=anew)
        engine, precision = choice.engine, choice.precision
        rates = ", ".join(f"{name} {rate:g}" for name, rate in choice.films_per_second.items())
        if choice.processor != processor():
            rates += f"; measured on {choice.processor}, not here: hilum node check --choose"
    opened = open_engine(model.run, engine=engine, precision=precision)
    try_engine(opened, str(model.run))
    said = result_model(model.run, model.operating_point, bits=model.bits, engine=opened)
    calls = f"calls at {said.point}" if said.point else "no calls: set operating_point"
    learned = f", {said.description.learned_from}" if said.description.learned_from else ""
    return f"{said.name} {said.version}, {said.engine}{f' ({rates} films/s)' if rates else ''}, {calls}{learned}"


def _port(address: str, port: int, *, running: bool) -> str:
    if running:
        return f"{address}:{port}, not tried while the node runs"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            line.bind((address, port))
        except OSError as error:
            raise HilumError(f"address and port must be free, got {address}:{port}: {error.strerror}") from None
    return f"{address}:{port} is free"


def _tls(tls: Tls) -> str:
    """The files fit each other, and the certificate has not ended."""
    tls.context(server=isinstance(tls, ServerTls))
    if tls.certificate is None:
        return "authorities can be read; the node shows no certificate"
    left = _ends(tls.certificate) - time.time()
    if left < 0:
        raise HilumError(
            f"certificate must not have ended, got {tls.certificate}, {-left / 86400:.0f} days ago. Renew it"
        )
    return f"certificate is good for {left / 86400:.0f} days{': renew it' if left < _SOON_S else ''}"


def _ends(certificate: Path) -> float:
    """When the first certificate in a PEM file ends, in seconds since 1970."""
    fields = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]  # what the ssl module offers
    return float(ssl.cert_time_to_seconds(str(fields["notAfter"])))


def _dimse(target: Dimse, config: NodeConfig) -> str:
    """C-ECHO, and which classes of result the PACS takes."""
    wanted = [*REPORT_CLASSES][[*REPORT_CLASSES].index(target.sr) :] if target.sr in REPORT_CLASSES else []
    wished = [REPORT_CLASSES[name] for name in wanted] + ([SecondaryCaptureImageStorage] if target.sc else [])
    asked = [(str(kind), str(ExplicitVRLittleEndian)) for kind in wished]
    association = associate(target, caller=config.receive.ae_title, asked=asked)
    try:
        taken = {str(one.abstract_syntax) for one in association.accepted_contexts}  # type: ignore[attr-defined]
        try:
            status = association.send_c_echo().get("Status")  # type: ignore[attr-defined]
        except (RuntimeError, ValueError):
            status = None
    finally:
        association.release()  # type: ignore[attr-defined]
    if status != 0:
        raise NotSentError(f"PACS must answer C-ECHO with success, got {status}")
    report = next((name for name in wanted if str(REPORT_CLASSES[name]) in taken), None)
    missing = [] if report or not wanted else ["reports (set sr = none)"]
    missing += ["pictures (set sc = false)"] if target.sc and str(SecondaryCaptureImageStorage) not in taken else []
    if missing:
        raise NotSentError(f"PACS must take {' and '.join(missing)}, got a refusal of the class")
    kinds = [*([f"reports as {report} SR"] if report else []), *(["pictures"] if target.sc else [])]
    return (
        f"{target.ae_title} answers C-ECHO{' over TLS' if target.tls else ''}, takes {' and '.join(kinds) or 'nothing'}"
    )


def _stow(target: Stow) -> str:
    client = open_client(target.url, target.user, password=password_of(target, PASSWORD))
    try:
        client.search_for_studies(limit=1)
    except Exception as error:  # the client raises what requests and HTTP raise
        raise NotSentError(f"server must answer as DICOMweb at {target.url}, got {reason(error)}") from None
    return f"{target.url} answers"
