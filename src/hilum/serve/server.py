"""`hilum serve`: load the model, take the port, decide who may ask, and answer until stopped."""

import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hilum.errors import HilumError, extras_named
from hilum.model.engines import open_engine, state_bits
from hilum.serve.security import Access, Limits

TOKEN_VARIABLE = "HILUM_TOKEN"
_DEMO = Path("demo") / "run"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_GRACE_S = 10
_BACKLOG = 512


@dataclass(frozen=True)
class Opened:
    """A server that is about to listen.

    Attributes:
        token: what clients must send; None on loopback.
        generated: whether it was made now, and must be shown.
        serve: answers until SIGINT or SIGTERM, or until `stop` is called from another thread.
    """

    url: str
    token: str | None
    generated: bool
    serve: Callable[[], None]
    stop: Callable[[], None]


def open_room(
    run: Path | None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: tuple[str, ...] = (),
    engine: str = "auto",
    precision: str | None = None,
    report: Path | None = None,
    keep: Path | None = None,
    limits: Limits | None = None,
    bits: int | None = None,
) -> Opened:
    """Load the model and take the port; nothing is answered before `serve` is called.

    Args:
        run: the model's folder; demo/run, which `hilum demo` made, if None.
        host: address to listen on. Off loopback, or with names, a token is demanded: HILUM_TOKEN's, or a new one.
        port: 0 for any that is free.
        names: more names that clients may call this server by.
        keep: file for results that clients ask to keep; none are kept if None.
        bits: how many bits the values of sent films have, see hilum.data.images.read; as the model says if None.

    Raises:
        HilumError: if there is no model, or the address cannot be listened on.
        MissingExtraError: if the extra [serve] is not installed.
    """
    with extras_named():
        import uvicorn

        from hilum.serve.app import application
        from hilum.serve.inference import Room, read_report
        from hilum.serve.storage import Kept

    folder = _DEMO if run is None else run
    if run is None and not _DEMO.is_dir():
        raise HilumError(f"run must be a model's folder, got none, and there is no {_DEMO}. Make one: hilum demo")
    access, generated = _access(host, names)
    listening = _listen(host, port)
    bounds = limits or Limits()
    room = Room(
        folder,
        state_bits(open_engine(folder, engine=engine, precision=precision), bits),  # type: ignore[arg-type]
        read_report(folder, report),
        bounds,
        None if keep is None else Kept(keep),
        bits,
    )
    config = uvicorn.Config(
        application(room, access),
        access_log=False,  # the guard's own says less
        log_config=None,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE_S,
        limit_concurrency=4 * bounds.requests,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}"
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    return Opened(url, access.token, generated, lambda: server.run(sockets=[listening]), stop)


def _access(host: str, names: tuple[str, ...]) -> tuple[Access, bool]:
    """Who may come in by this address, and whether the token was made now."""
    local = host == "localhost" or _is_loopback(host)
    if host in ("0.0.0.0", "::", "") and not names:
        raise HilumError(
            f"name must say how clients call this server when it listens everywhere ({host}), got none. "
            "Give --name films.example.org, once for each name"
        )
    hosts = frozenset(name.lower() for name in (*_LOOPBACK_NAMES, host, *names))
    if local and not names:  # a name is given when others can reach it, through a proxy
        return Access(hosts), False
    given = os.environ.get(TOKEN_VARIABLE, "")
    return Access(hosts, given or secrets.token_urlsafe(24)), not given


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise HilumError(
            f"host and port must be an address that is free, got {host} and {port}: {error.strerror}. "
            "Choose another: --port 0"
        ) from None
