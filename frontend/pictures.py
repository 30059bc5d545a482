"""Pictures of the page for docs/: its states at four widths in both themes. After hilum demo and hilum serve:

python frontend/pictures.py http://127.0.0.1:8000 pictures
"""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image
from playwright.sync_api import sync_playwright

SIZES = ((390, 844), (768, 1024), (1100, 800), (1600, 900))
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
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_timeout(300)  # for pictures alone: nothing tells that all is drawn
        page.screenshot(path=out / f"{name}-{page.viewport_size['width']}-{theme}.png")


def show(page: Any, number: int) -> None:
    """Open a film of the worklist."""
    row = page.locator("#films button").nth(number)
    row.evaluate("row => row.click()")  # the worklist may be folded
    page.wait_for_selector(f"#pane-a[aria-label^='Chest film {row.locator('.name').text_content()}']")


def visit(page: Any, url: str, out: Path) -> None:
    """Take all pictures at one width."""
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    take(page, out, "empty")
    page.set_input_files("#files", films(url))
    page.locator("#films .done").nth(EXAMPLES).wait_for(state="attached")
    page.locator("#films .refused").wait_for(state="attached")
    show(page, 3)
    take(page, out, "film")
    page.locator(".finding.located").first.click()
    take(page, out, "region")
    page.keyboard.press("y")
    take(page, out, "draft")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    take(page, out, "keys")
    page.keyboard.press("Escape")
    show(page, 0)  # it and the next are one patient's
    page.locator("#compare").click()
    page.wait_for_selector("#pane-b[aria-label^='Chest film']")
    page.locator(".finding[data-finding=Mass]").click()
    take(page, out, "compared")
    page.locator("#compare").click()
    show(page, EXAMPLES)
    take(page, out, "warned")
    page.evaluate("() => document.querySelector('#films .refused').click()")  # the worklist may be folded
    take(page, out, "refused")


def main(url: str, out: Path) -> None:
    """Take all pictures of the page at an address."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for width, height in SIZES:
            visit(browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark"), url, out)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
