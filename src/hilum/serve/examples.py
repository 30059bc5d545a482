"""A few phantom films to try the page with; drawn when they are first asked for."""

import io
from threading import Lock

from PIL import Image

from hilum.phantom.dataset import plan_films
from hilum.phantom.film import render

_SIDE, _SEED = 512, 4


class Examples:
    """The films, as PNG files in memory."""

    count = 6

    def __init__(self) -> None:
        self._lock = Lock()
        self._drawn: dict[int, bytes] = {}

    def film(self, number: int) -> bytes | None:
        """One of them; None if there is none of that number."""
        if not 0 <= number < self.count:
            return None
        with self._lock:  # drawn once, however many ask
            if number not in self._drawn:
                file = io.BytesIO()
                plan = plan_films(self.count, _SEED)[number].plan
                Image.fromarray(render(plan, _SIDE)[0]).save(file, format="PNG", compress_level=1)
                self._drawn[number] = file.getvalue()
            return self._drawn[number]
