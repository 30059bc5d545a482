"""The server's middleware: tokens, hosts and origins, limits on size and time, headers on every answer."""

import asyncio
import logging
import os
import secrets
import time
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.serve.storage import Counts


@dataclass(frozen=True)
class Limits:
    """Bounds on what a client may send and on what may be under way.

    A film's own bounds, in bytes and in pixels, are those of hilum.data: the readers refuse it before they decode it.

    Attributes:
        request_bytes: of one request's body.
        unpacked_bytes: of all films of one request, taken out of their archives.
        films: in one request, archives' members counted.
        waiting: films that were taken and are not answered yet; more are refused with 429.
        requests: with films, that are received or answered at the same time; more are refused with 429.
        held_bytes: of all requests' bodies that are under way; more are refused with 429.
        receive_s: seconds within which a request's body must have come, and each part of an answer be taken.
        answer_s: seconds within which it is answered, or refused with 503.
    """

    request_bytes: int = 256 << 20
    unpacked_bytes: int = 1 << 30
    films: int = 100
    waiting: int = 400
    requests: int = 256
    held_bytes: int = 2 << 30
    receive_s: float = 60.0
    answer_s: float = 120.0


CORES = os.cpu_count() or 1


LOG = logging.getLogger("hilum.serve")

_OPEN = ("/", "/health", "/ready")  # nothing of films or of the model is there
_CLOSE = {"connection": "close"}
_LATER = {"retry-after": "1"}
_DRAINED_BYTES, _DRAINED_S = 64 << 20, 3.0
_SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        hosts: names that the Host header may bear. A page of another name that was pointed at this machine (DNS
            rebinding) bears its own.
        token: what must stand in the Authorization header; None on loopback.
    """

    hosts: frozenset[str]
    token: str | None = None


class RefusedError(Exception):
    """A request is not let through.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}


@dataclass
class Guard:
    """ASGI middleware that checks tokens, hosts and limits. Its log tells route, status and time, and nothing else.

    Attributes:
        under_way: requests with films that were let through and are not answered yet.
        held: bytes of their bodies that have come.
    """

    app: ASGIApp
    access: Access
    limits: Limits
    counts: Counts
    under_way: int = field(default=0, init=False)
    held: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        start, status, begun = time.perf_counter(), 500, False
        body = _Body(self, receive)

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if body.fault is not None and not begun:
                fault, body.fault = body.fault, None
                raise fault  # what reads forms has made another error of it
            if message["type"] == "http.response.start":
                begun, status = True, message["status"]
                message["headers"] = [*message["headers"], *_bearing(scope["path"], scope["scheme"])]
            try:
                async with asyncio.timeout(self.limits.receive_s):
                    await send(message)
            except TimeoutError:
                raise RefusedError(408, f"answer must be taken within {self.limits.receive_s:g} s.") from None

        try:
            try:
                self._admit(scope)
            except RefusedError:
                await _drain(receive)
                raise
            with self._counted(scope, body):
                await self.app(scope, body.part, answer)
        except RefusedError as refused:
            body.fault = None
            if not begun:
                refusal = JSONResponse({"detail": str(refused)}, refused.status, headers=refused.headers)
                await refusal(scope, receive, answer)
        except Exception as error:  # its words may name a film: only where it happened is told
            where = traceback.extract_tb(error.__traceback__)[-1]
            LOG.error("%s in %s, line %s", type(error).__name__, where.name, where.lineno)
            if not begun:
                await JSONResponse({"detail": "the server failed; see its log"}, 500)(scope, receive, answer)
        finally:
            seconds, route = time.perf_counter() - start, _route(scope)
            self.counts.request(route, status, seconds)
            LOG.info("%s %s %d %.0f ms", scope["method"], route, status, 1000 * seconds)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if _host(headers.get("host", "")) not in self.access.hosts:
            raise RefusedError(421, "host must be a name that this server was given. See: hilum serve --help")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise RefusedError(403, "origin must be this server's own: other sites' pages may not use it.")
        to_page = scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not to_page:
            raise RefusedError(403, "requests must come from this server's own page, or from no page.")
        public = scope["path"] in _OPEN or scope["path"].startswith("/static/")
        if self.access.token is not None and not public:
            kind, _, token = headers.get("authorization", "").partition(" ")
            right = secrets.compare_digest(token.strip().encode(), self.access.token.encode())
            if kind.lower() != "bearer" or not right:
                raise RefusedError(
                    401,
                    "token must be the one that hilum serve showed when it started.",
                    {"www-authenticate": "Bearer"},
                )
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > self.limits.request_bytes:
            raise RefusedError(413, f"request must be at most {self.limits.request_bytes} bytes. Send it in parts.")
        if self.under_way >= self.limits.requests and scope["method"] == "POST":
            raise RefusedError(429, "too many requests are under way; try again in 1 s", _LATER)

    @contextmanager
    def _counted(self, scope: Scope, body: "_Body") -> Iterator[None]:
        self.under_way += scope["method"] == "POST"
        try:
            yield
        finally:
            self.under_way -= scope["method"] == "POST"
            self.held -= body.length


class _Body:
    """A request's body, as long as it is neither too long nor too slow; if it is, `fault` says so."""

    def __init__(self, guard: Guard, receive: Receive):
        self.guard, self.receive = guard, receive
        self.fault: RefusedError | None = None
        self.length, self.whole, self.until = 0, False, time.monotonic() + guard.limits.receive_s

    async def part(self) -> Message:
        """See ASGI's receive."""
        if self.whole:
            return await self.receive()
        limits = self.guard.limits
        try:
            message = await asyncio.wait_for(self.receive(), max(0.0, self.until - time.monotonic()))
        except TimeoutError:
            self.fault = RefusedError(408, f"request must come within {limits.receive_s:g} s.", _CLOSE)
            raise self.fault from None
        length = len(message.get("body", b""))
        self.length += length
        self.guard.held += length
        self.whole = not message.get("more_body", False)
        if self.length > limits.request_bytes:
            self.fault = RefusedError(413, f"request must be at most {limits.request_bytes} bytes.", _CLOSE)
        elif self.guard.held > limits.held_bytes:
            self.fault = RefusedError(429, "too many bytes are under way; try again in 1 s", {**_LATER, **_CLOSE})
        if self.fault is not None:
            if not self.whole:
                await _drain(self.receive)
            raise self.fault
        return message


async def _drain(receive: Receive) -> None:
    """Take what still comes, for a while: a client that is cut off while it sends never reads its answer."""
    left, more = _DRAINED_BYTES, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_S):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)


def _host(header: str) -> str:
    """The name in a Host header, without its port; empty if it is none."""
    with suppress(ValueError):
        return urlsplit(f"//{header}").hostname or ""
    return ""


def _route(scope: MutableMapping[str, Any]) -> str:
    """The route as it is written in the application, so that neither log nor counts hold what a client made up."""
    route = scope.get("route")
    return str(getattr(route, "path", "")) or ("/static" if scope["path"].startswith("/static/") else "none")


def _bearing(path: str, scheme: str) -> list[tuple[bytes, bytes]]:
    kept = "no-cache" if path == "/" or path.startswith("/static/") else "no-store"
    headers = {**_SECURITY, "cache-control": kept}
    if scheme == "https":
        headers["strict-transport-security"] = "max-age=31536000"
    return [(name.encode(), value.encode()) for name, value in headers.items()]
