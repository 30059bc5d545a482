"""Pictures of the page for docs/: five states at three widths in both themes. After hilum demo and hilum serve:

python frontend/pictures.py http://127.0.0.1:8000 pictures
"""

import io
import sys
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image
from playwright.sync_api import sync_playwright

SIZES = ((390, 844), (820, 1180), (1440, 900))
EXAMPLES = 6


def sent(name: str, content: bytes) -> dict[str, Any]:
    """A file as the page's input takes it."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def films(url: str) -> list[dict[str, Any]]:
    """The example films, one of them again upside down, and a file that is no film."""
    drawn = [httpx2.get(f"{url}/v1/examples/{number}").content for number in range(EXAMPLES)]
    turned = io.BytesIO()
    Image.open(io.BytesIO(drawn[0])).rotate(180).save(turned, format="PNG")
    named = [sent(f"phantom-{number + 1}.png", content) for number, content in enumerate(drawn)]
    return [*named, sent("upside-down.png", turned.getvalue()), sent("notes.txt", b"no film")]


def take(page: Any, out: Path, name: str) -> None:
    """The page as it is now, in both themes."""
    page.mouse.move(2, 2)
    page.evaluate("() => scrollTo(0, 0)")
    for theme in ("dark", "light"):
        page.wait_for_timeout(300)  # for pictures alone: nothing tells that all is drawn
        page.screenshot(path=out / f"{name}-{page.viewport_size['width']}-{theme}.png")
        page.evaluate("() => document.getElementById('theme').click()")


def show(page: Any, number: int) -> None:
    """Open a film of the worklist."""
    row = page.locator("#films button").nth(number)
    row.click()
    page.wait_for_selector(f"#pane-a[aria-label^='Chest film {row.locator('.name').inner_text()}']")


def visit(page: Any, url: str, out: Path) -> None:
    """Take all pictures at one width."""
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    take(page, out, "empty")
    page.set_input_files("#files", films(url))
    page.locator("#films .done").nth(EXAMPLES).wait_for()
    page.locator("#films .refused").wait_for()
    show(page, 1)
    take(page, out, "worklist")
    page.locator(".finding:not(.absent)").first.click()
    take(page, out, "heat")
    show(page, 0)  # it and the next are one patient's
    page.locator(".finding:not(.absent)").first.click()
    page.locator("#compare").click()
    page.wait_for_selector("#pane-b[aria-label^='Chest film']")
    take(page, out, "compared")
    page.locator("#compare").click()
    show(page, EXAMPLES)
    take(page, out, "warned")
    page.locator("#films .refused").click()
    take(page, out, "refused")


def main(url: str, out: Path) -> None:
    """Take all pictures of the page at an address."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for width, height in SIZES:
            visit(browser.new_page(viewport={"width": width, "height": height}), url, out)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
