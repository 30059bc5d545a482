"""What tests of the page do in the browser: open it, give it films, look at its pixels."""

import base64
import io
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

WAIT_MS = 60_000
DONE, REFUSED = "#films button.done", "#films button.refused"


def opened_page(browser: Any, **options: Any) -> Any:
    """A page that remembers whom it asked and what went wrong in it."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **options})
    page.set_default_timeout(WAIT_MS)
    page.asked, page.complaints = set(), []
    page.on("request", lambda request: page.asked.update(host_of(request.url)))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
    return page


def host_of(url: str) -> set[str]:
    return {"/".join(url.split("/")[:3])} if url.startswith("http") else set()


def sent(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def open_films(page: Any, *files: dict[str, Any]) -> None:
    page.set_input_files("#files", list(files))
    page.wait_for_selector("#pane-a[aria-label^='Chest film']")


def box(page: Any, place: str) -> Any:
    """Where an element lies in the window, in its pixels."""
    return page.locator(place).first.bounding_box()


def canvas(page: Any, place: str = "#pane-a canvas") -> np.ndarray:
    """A canvas as grey pixels."""
    content = page.evaluate("place => document.querySelector(place).toDataURL().split(',')[1]", place)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L")).astype(int)


def run_axe(page: Any) -> list[str]:
    """What axe finds serious or worse."""
    return axe_faults(page, "serious", "critical")


def axe_faults(page: Any, *impacts: str) -> list[str]:
    """What axe finds, of these impacts or of any; as by the package's own Axe, but without a script element."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = page.evaluate("() => axe.run()")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in found["violations"]
        if not impacts or one["impact"] in impacts
    ]
