"""What the server takes on, so that no request can take it down."""

import os
from dataclasses import dataclass


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
