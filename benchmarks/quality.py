"""How often the input quality check is wrong: false alarms on films of other patients, misses on all others.

It learns from the training films of a manifest, or of phantom films and, where HILUM_REAL_DATA names them, real ones.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFont

from hilum.data.films import Films, read_films
from hilum.data.images import Preprocessing
from hilum.data.quality import OK, QualityCheck, clouds, cut, dealt, fit_quality_check, resized
from hilum.data.sources.nih import index_nih
from hilum.phantom.dataset import write_phantom
from hilum.phantom.lateral import lateral_views

Grey = Float32[np.ndarray, "height width"]
MOST_FALSE_ALARMS, MOST_MISSES = 0.02, 0.05
PHANTOM_FILMS = 1000
FRONTAL = "frontal films of other"
NOT_COUNTED = ("half as bright", "0.8 as bright", "1.5 times as bright")  # between what fits and what does not


def corrupted(films: list[Grey], size: int) -> Iterator[tuple[str, list[Grey]]]:
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
    for times, name in ((0.8, "0.8 as bright"), (0.5, "half as bright"), (1 / 3, "a third as bright")):
        yield name, [film * np.float32(times) for film in films]
    for bits in (2, 3, 4):
        yield f"1/{1 << bits} as bright", [film / np.float32(1 << bits) for film in films]
    yield "1.5 times as bright", [np.clip(1.5 * film, 0, 1) for film in films]
    yield "3 times as bright", [np.clip(3 * film, 0, 1) for film in films]
    yield "4 times the contrast", [np.clip(film.mean() + 4 * (film - film.mean()), 0, 1) for film in films]
    yield "a fifth of the contrast", [film.mean() + (film - film.mean()) / np.float32(5) for film in films]


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


def views(folder: Path, preprocessing: Preprocessing) -> dict[str, list[Grey]]:
    """Lateral and frontal films of other hospitals: films.csv with the columns film, view and view_seen."""
    table = pd.read_csv(folder / "films.csv")
    found: dict[str, list[Grey]] = {f"{FRONTAL} hospitals": [], "lateral films": [], "lateral films, mirrored": []}
    for film, *told in zip(table["film"], table["view_seen"], table["view"], strict=True):
        if "crop" in told:
            continue
        with Image.open(folder / "films" / film) as picture:
            grey = preprocessing.apply(np.asarray(picture.convert("RGBA").convert("L")))[0]
        if {"L", "LATERAL"} & set(told):
            found["lateral films"].append(grey)
            found["lateral films, mirrored"].append(grey[:, ::-1])
        else:
            found[f"{FRONTAL} hospitals"].append(grey)
    return found


def checked(check: QualityCheck, films: list[Grey]) -> dict[str, Any]:
    """How many fit, and what is said of the others."""
    said = Counter(check.check(np.ascontiguousarray(film)).reason for film in films)
    return {"films": len(films), "fit": said.pop(OK, 0), "said": dict(said.most_common())}


def measure(
    films: Films, preprocessing: Preprocessing, others: dict[str, list[Grey]], *, training: int | None
) -> dict[str, Any]:
    """Every kind of film, with what the check says of it."""
    seen, held_out = films.select("train"), films.select("test")
    check = learned(seen, preprocessing, training)
    fresh = [preprocessing.read(held_out.path(row))[0] for row in range(len(held_out))]
    kinds = {f"{FRONTAL} patients": checked(check, fresh)}
    kinds |= {name: checked(check, some) for name, some in corrupted(fresh, preprocessing.size)}
    kinds["drawn pictures"] = checked(check, drawn(preprocessing.size))
    kinds["phantom lateral films"] = checked(check, list(lateral_views(100, preprocessing.size, seed=100)))
    kinds |= {name: checked(check, some) for name, some in others.items()}
    return {"training_films": len(seen) if training is None else training, "kinds": kinds}


def learned(films: Films, preprocessing: Preprocessing, training: int | None) -> QualityCheck:
    """The check as training makes it, from all films or from so many of them."""
    rows = np.arange(len(films))
    if training is not None:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:training])
    laterals = lateral_views(seed=0)
    return fit_quality_check(
        lambda row: preprocessing.read(films.path(int(rows[row])))[0], len(rows), laterals=laterals, seed=0
    )


def moves(films: Films, check: QualityCheck, run: Path) -> list[dict[str, Any]]:
    """How far a bundle's scores move when the brightness of films changes and they are still accepted."""
    from hilum.model.engines import open_engine

    engine = open_engine(run, engine="torch")
    description = engine.description
    if description.thresholds is None:
        raise SystemExit(f"{run} has no operating points. Choose them with: hilum calibrate")
    points = [next(iter(description.thresholds.points.values()))[name] for name in description.findings]
    low, high = (np.array([getattr(point, end) for point in points]) for end in ("low", "high"))
    read = description.preprocessing.read
    held_out = films.select("test")
    greys = [read(held_out.path(row))[0] for row in range(min(len(held_out), 120))]

    def scores(some: list[Grey]) -> np.ndarray:
        return np.concatenate([engine.run(np.stack(some[at : at + 16])).scores for at in range(0, len(some), 16)])

    before, found = scores(greys), []
    for times in (0.5, 0.65, 0.7, 0.8, 0.9, 1.1, 1.2, 1.35, 1.5):
        changed = [np.clip(times * grey, 0, 1).astype(np.float32) for grey in greys]
        fits = np.array([check.check(grey).reason == OK for grey in changed])
        if not fits.any():
            found.append({"times": times, "accepted": 0})
            continue
        first, after = before[fits], scores([grey for grey, fit in zip(changed, fits, strict=True) if fit])
        crossed = ((first < low) & (after >= high)) | ((first >= high) & (after < low))
        found.append(
            {
                "times": times,
                "accepted": int(fits.sum()),
                "median_move": float(np.median(abs(after - first))),
                "move_95": float(np.quantile(abs(after - first), 0.95)),
                "beyond_the_band": float((abs(after - first) > high - low).mean()),
                "calls_reversed": float(crossed.mean()),
            }
        )
    return found


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


def interval(wrong: int, films: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion."""
    z, part = 1.96, wrong / films
    middle, spread = part + z**2 / 2 / films, z * np.sqrt(part * (1 - part) / films + z**2 / 4 / films**2)
    return float((middle - spread) / (1 + z**2 / films)), float((middle + spread) / (1 + z**2 / films))


def show(name: str, found: dict[str, Any]) -> None:
    """Print one table."""
    print(f"\n{name}: {found['training_films']} training films\n\n| what | films | wrong | said |\n|---|---|---|---|")
    for kind, one in found["kinds"].items():
        wrong = one["films"] - one["fit"] if kind.startswith(FRONTAL) else one["fit"]
        low, high = interval(wrong, one["films"])
        said = ", ".join(f"{reason} {count}" for reason, count in one["said"].items())
        rate = f"{wrong} ({wrong / one['films']:.1%} [{low:.1%}, {high:.1%}])"
        if kind in NOT_COUNTED:
            rate = f"{one['fit']} fit"
        print(f"| {kind} | {one['films']} | {rate} | {said} |")


def manifests(folder: Path, files: list[Path]) -> Iterator[tuple[str, Films]]:
    """The films to measure on: those that were named, or phantom films and the real ones that there are."""
    for file in files:
        yield str(file), read_films(file)
    if files:
        return
    write_phantom(folder / "phantom", films=PHANTOM_FILMS, size=128, seed=3)
    yield "phantom films", index_nih(folder / "phantom").split("patient", seed=0)
    if (real := real_data()) is not None:
        yield "real films", index_nih(real / "nih").split("patient", seed=0)


def real_data() -> Path | None:
    """The folder of real films, as the tests find it."""
    folder = Path(os.environ.get("HILUM_REAL_DATA", Path(__file__).parents[2] / "shared"))
    return folder if (folder / "nih" / "films.csv").is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", type=Path, nargs="*", help="manifests that have been split")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="files that are no chest films")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--training", type=int, help="films to learn from; all of the training if absent")
    parser.add_argument("--splits", type=int, help="so many random splits of patients instead of the manifest's own")
    parser.add_argument("--bundle", type=Path, help="a run whose scores are watched while films grow dark and bright")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    preprocessing = Preprocessing(options.size)
    others = {path.stem: [preprocessing.read(path)[0]] for path in options.pictures}
    if (real := real_data()) is not None and (real / "views" / "films.csv").is_file():
        others |= views(real / "views", preprocessing)
    with tempfile.TemporaryDirectory() as folder:
        for name, films in manifests(Path(folder), options.films):
            splits = [films]
            if options.splits is not None:
                splits = [films.split("patient", seed=seed) for seed in range(options.splits)]
            found = together([measure(split, preprocessing, others, training=options.training) for split in splits])
            if options.json:
                print(json.dumps({"films": name, **found}))
            else:
                show(name, found)
            if options.bundle is not None:
                check = learned(films.select("train"), preprocessing, None)
                for row in moves(films, check, options.bundle):
                    print(json.dumps(row))
    print(f"targets: false alarms under {MOST_FALSE_ALARMS:.0%}, misses under {MOST_MISSES:.0%}")


if __name__ == "__main__":
    main()
