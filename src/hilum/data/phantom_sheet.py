"""One picture of the phantom: a normal PA and AP film and one film per finding, with titles."""

from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hilum.data.phantom_anatomy import Side, Sign
from hilum.data.phantom_film import FilmPlan, render
from hilum.data.phantom_patients import plan_films
from hilum.findings import CHESTXRAY14

COLUMNS = 4
TITLE = 22  # pixels above each film
BOTH_SIDES = ("Cardiomegaly", "Edema", "Emphysema", "Fibrosis", "Hernia")


def contact_sheet(path: Path, *, size: int = 256, seed: int = 0, severity: float = 0.7) -> None:
    """Draw sixteen films with their titles into one PNG.

    Args:
        path: the PNG to write; its folder must exist.
        size: pixels a side of each film.
        severity: of every finding, 0 barely visible .. 1 obvious.
    """
    plans = _plans(seed, severity)
    rows = -(-len(plans) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * size, rows * (size + TITLE)), 0)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (title, plan) in enumerate(plans.items()):
        left, top = index % COLUMNS * size, index // COLUMNS * (size + TITLE)
        draw.text((left + 5, top + 2), title, 255, font)
        sheet.paste(Image.fromarray(render(plan, size)[0]), (left, top + TITLE))
    partial = path.with_name(path.name + ".partial")
    # 64 greys halve the file and cannot be told from 256
    sheet.quantize(64, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(partial, "PNG", optimize=True)
    partial.replace(path)


def _plans(seed: int, severity: float) -> dict[str, FilmPlan]:
    normal = [film for film in plan_films(400, seed) if not film.findings]
    upright = [film.plan for film in normal if film.plan.exposure.view == "PA" and film.age > 25]
    bedside = [film.plan for film in normal if film.plan.exposure.view == "AP" and film.plan.devices]
    plans = {"No finding, PA": upright[0], "No finding, AP": bedside[0]}
    for number, finding in enumerate(CHESTXRAY14):
        side: Side = "both" if finding in BOTH_SIDES else ("left" if number % 2 else "right")
        sign = Sign(finding, side, severity, seed + 100 + number)
        plans[finding.replace("_", " ")] = replace(upright[number + 1], signs=(sign,))
    return plans


if __name__ == "__main__":
    contact_sheet(Path("docs/phantom.png"))
