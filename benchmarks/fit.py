"""How often the gate on the way in is wrong: false alarms on films of other patients, and misses on spoilt ones."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFont

from hilum.data.films import Films, read_films
from hilum.data.images import Preprocessing
from hilum.data.quality import OK, Gate, clouds, cut, dealt, fit_gate, resized

Grey = Float32[np.ndarray, "height width"]
MOST_FALSE_ALARMS, MOST_MISSES = 0.02, 0.05


def spoilt(films: list[Grey], size: int) -> Iterator[tuple[str, list[Grey]]]:
    """The held-out films in each way that is counted; whatever is random here, training did not draw."""
    half, random = size // 2, np.random.default_rng(100)
    yield "inverted", [1 - film for film in films]
    for quarters, name in ((1, "turned to the left"), (2, "upside down"), (3, "turned to the right")):
        yield name, [np.rot90(film, quarters) for film in films]
    yield "a quarter of the film", [cut(film, 0.5, 0.5, random) for film in films]
    yield "0.6 x 0.6 of the film", [cut(film, 0.6, 0.6, random) for film in films]
    yield "left half", [resized(film[:, :half], size, size) for film in films]
    yield "right half", [resized(film[:, half:], size, size) for film in films]
    yield "upper half", [resized(film[:half], size, size) for film in films]
    yield "lower half", [resized(film[half:], size, size) for film in films]
    yield "torn into 4", [dealt(film, 2, random) for film in films]
    yield "torn into 16", [dealt(film, 4, random) for film in films]
    yield "noise", [clouds(size, random.uniform(0, 3), random) for _ in films]
    yield "one grey", [np.full_like(film, film.mean()) for film in films]


def drawn(size: int) -> list[Grey]:
    """Pictures that are no films: ramps, discs, rings, bars, stripes, chequers, pages of text, a plan of a room."""
    line = np.linspace(0, 1, size, dtype=np.float32)
    across, down = np.meshgrid(line, line)
    round_ = np.hypot(across - 0.5, down - 0.5)
    pictures = [across, down, across * down, (across + down) / 2, 1.4 * round_, 1 - 1.4 * round_]
    pictures += [0.1 + 0.7 * (round_ < radius) for radius in (0.15, 0.3, 0.45)]
    pictures += [0.1 + 0.7 * (abs(round_ - radius) < 0.06) for radius in (0.2, 0.35)]
    pictures += [0.8 * (abs(axis - 0.5) < width) for axis in (across, down) for width in (0.05, 0.15)]
    pictures += [np.floor(count * axis) % 2 for axis in (across, down) for count in (4, 8, 20)]
    pictures += [(np.floor(count * across) + np.floor(count * down)) % 2 for count in (2, 8)]
    for letters in (12, 24):
        page = Image.new("L", (size, size), 255)
        pen = ImageDraw.Draw(page)
        for row in range(letters):
            text = "Findings: none. Impression: none. "[row % 7 :]
            pen.text((4, row * size / letters), text, fill=0, font=ImageFont.load_default(0.8 * size / letters))
        pictures.append(np.asarray(page) / 255)
    room = Image.new("L", (size, size), 230)
    pen = ImageDraw.Draw(room)
    for box in ((0.1, 0.1, 0.5, 0.6), (0.5, 0.1, 0.9, 0.4), (0.5, 0.4, 0.9, 0.9), (0.2, 0.7, 0.4, 0.85)):
        pen.rectangle([size * side for side in box], outline=20, width=3, fill=160)
    pictures.append(np.asarray(room) / 255)
    return [np.asarray(picture, dtype=np.float32) for picture in pictures]


def judged(gate: Gate, films: list[Grey]) -> dict[str, Any]:
    """How many fit, and what is said of the others."""
    said = Counter(gate.check(np.ascontiguousarray(film)).reason for film in films)
    return {"films": len(films), "fit": said.pop(OK, 0), "said": dict(said.most_common())}


def measure(
    films: Films, preprocessing: Preprocessing, *, training: int | None, pictures: list[Path]
) -> dict[str, Any]:
    """Every kind of film, with what the gate says of it."""
    seen, held_out = films.select("train"), films.select("test")
    rows = np.arange(len(seen))
    if training is not None:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:training])
    gate = fit_gate(lambda row: preprocessing.read(seen.path(int(rows[row])))[0], len(rows), seed=0)
    fresh = [preprocessing.read(held_out.path(row))[0] for row in range(len(held_out))]
    kinds = {"frontal films of other patients": judged(gate, fresh)}
    kinds |= {name: judged(gate, some) for name, some in spoilt(fresh, preprocessing.size)}
    kinds["drawn pictures"] = judged(gate, drawn(preprocessing.size))
    kinds |= {path.stem: judged(gate, [preprocessing.read(path)[0]]) for path in pictures}
    return {"training_films": len(rows), "kinds": kinds}


def together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Several measurements as one, their films counted together."""
    kinds = {}
    for name in found[0]["kinds"]:
        parts = [one["kinds"][name] for one in found]
        said: Counter[str] = Counter()
        for part in parts:
            said.update(part["said"])
        counts = {key: sum(part[key] for part in parts) for key in ("films", "fit")}
        kinds[name] = {**counts, "said": dict(said.most_common())}
    return {"training_films": found[0]["training_films"], "kinds": kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", type=Path, help="a manifest that has been split")
    parser.add_argument("pictures", type=Path, nargs="*", help="files that are no chest films")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--training", type=int, help="films to learn from; all of the training if absent")
    parser.add_argument("--splits", type=int, help="so many random splits of patients instead of the manifest's own")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    films, preprocessing = read_films(options.films), Preprocessing(options.size)
    splits = [films]
    if options.splits is not None:
        splits = [films.split("patient", seed=seed) for seed in range(options.splits)]
    found = together(
        [measure(split, preprocessing, training=options.training, pictures=options.pictures) for split in splits]
    )
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['training_films']} training films\n| what | films | wrong | said |\n|---|---|---|---|")
    for name, one in found["kinds"].items():
        wrong = one["films"] - one["fit"] if name.startswith("frontal") else one["fit"]
        said = ", ".join(f"{reason} {count}" for reason, count in one["said"].items())
        print(f"| {name} | {one['films']} | {wrong} ({wrong / one['films']:.1%}) | {said} |")
    print(f"targets: false alarms under {MOST_FALSE_ALARMS:.0%}, misses under {MOST_MISSES:.0%}")


if __name__ == "__main__":
    main()
