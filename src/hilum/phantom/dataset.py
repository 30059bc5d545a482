"""Write a data set of simulated chest radiographs with their truth, in ChestX-ray14's layout.

For trying Hilum without real films, and for tests that need to know what is on a film. It teaches nothing about
patients.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image, ImageDraw, ImageFont

from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, NO_FINDING, SIMULATED, SIMULATED_JSON
from hilum.messages import track
from hilum.phantom.anatomy import Anatomy, Pose, Side, Sign
from hilum.phantom.film import Exposure, FilmPlan, render
from hilum.phantom.findings import Box
from hilum.phantom.layouts import LAYOUTS, Drawn, Layout, Pixels, save_film

ILLNESSES: dict[str, tuple[int, bool, dict[str, float]]] = {
    # patients in every 40, acute or not, chance of each finding
    "healthy": (14, False, {}),
    "heart failure": (3, True, {"Cardiomegaly": 0.9, "Edema": 0.9, "Effusion": 0.5}),
    "enlarged heart": (1, False, {"Cardiomegaly": 1.0, "Atelectasis": 0.1}),
    "pneumonia": (3, True, {"Pneumonia": 1.0, "Effusion": 0.2, "Infiltration": 0.3}),
    "respiratory distress": (3, True, {"Consolidation": 1.0, "Edema": 0.35, "Infiltration": 0.3, "Atelectasis": 0.2}),
    "patchy infection": (2, True, {"Infiltration": 1.0, "Consolidation": 0.35, "Pneumonia": 0.35}),
    "obstructive disease": (2, False, {"Emphysema": 1.0, "Pneumothorax": 0.35, "Infiltration": 0.2, "Nodule": 0.3}),
    "interstitial disease": (2, False, {"Fibrosis": 1.0, "Pleural_Thickening": 0.3, "Emphysema": 0.3}),
    "tumour": (3, False, {"Mass": 1.0, "Nodule": 0.5, "Effusion": 0.25, "Emphysema": 0.25}),
    "after surgery": (2, True, {"Atelectasis": 1.0, "Pneumothorax": 0.5, "Effusion": 0.3}),
    "collapsed lung": (1, True, {"Pneumothorax": 1.0, "Atelectasis": 0.2}),
    "pleural disease": (2, False, {"Pleural_Thickening": 1.0, "Fibrosis": 0.3, "Mass": 0.15, "Nodule": 0.3}),
    "hiatal hernia": (2, False, {"Hernia": 1.0, "Atelectasis": 0.2, "Cardiomegaly": 0.2, "Nodule": 0.15}),
}  # fmt: skip
"""What phantom patients suffer from: every block of patients holds each illness as often as said here."""

BLOCK = [name for name, (patients, _, _) in ILLNESSES.items() for _ in range(patients)]
BILATERAL = {"Cardiomegaly", "Edema", "Emphysema", "Fibrosis", "Hernia"}
ONE_SIDED = {"Pneumothorax", "Mass", "Nodule", "Atelectasis", "Pneumonia"}
MAXIMUM_FILMS = 5


@dataclass(frozen=True)
class PhantomFilm:
    """One row of the data set, and the plan that draws it."""

    patient: int  # from 1
    follow_up: int  # from 0
    age: int
    sex: str
    test: bool  # the patient is for testing
    spacing_mm: float  # of the pretended 2,500 px detector
    plan: FilmPlan

    @property
    def name(self) -> str:
        """The file name, in NIH's form."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"

    @property
    def findings(self) -> tuple[str, ...]:
        """What the film shows, in the order it was drawn; empty for a normal film."""
        return tuple(sign.finding for sign in self.plan.signs)


def plan_films(films: int, seed: int) -> list[PhantomFilm]:
    """The first `films` films of a data set: a longer one of the same seed begins with the same films."""
    return list(islice(_films(seed), films))


def plan_layout(films: int, seed: int, layout: Layout) -> list[PhantomFilm]:
    """The first films that a layout has: of its views, and one of each patient where it does not tell patients."""
    seen: set[int] = set()

    def takes(film: PhantomFilm) -> bool:
        taken = film.plan.exposure.view in layout.views and not (layout.one_each and film.patient in seen)
        seen.update([film.patient] if taken else [])
        return taken

    return list(islice(filter(takes, _films(seed)), films))


def _films(seed: int) -> Iterator[PhantomFilm]:
    seen = {
        illness: number for number, illness in enumerate(ILLNESSES)
    }  # staggered, so that the first is not all train
    for patient in count(1):
        block, place = divmod(patient - 1, len(BLOCK))
        order = np.random.default_rng([seed, 1, block]).permutation(len(BLOCK))
        illness = BLOCK[int(order[place])]
        seen[illness] += 1
        yield from patient_films(patient, illness, seed, test=seen[illness] % 4 == 0)


def patient_films(patient: int, illness: str, seed: int, *, test: bool) -> list[PhantomFilm]:
    """All films of one patient: the same chest, taken one to five times in the course of an illness."""
    generator = np.random.default_rng([seed, 2, patient])
    _, acute, chances = ILLNESSES[illness]
    sex = "F" if generator.random() < 0.45 else "M"
    old = illness in {"heart failure", "enlarged heart", "obstructive disease", "tumour", "hiatal hernia"}
    age = int(np.clip(generator.normal(62 if old else 47, 15), 5 if not chances else 19, 92))
    anatomy = _anatomy(generator, age, sex)
    signs = [_sign(finding, generator) for finding, chance in chances.items() if generator.random() < chance]
    bedside = float(generator.random()) < (0.5 if acute else 0.25)
    number = 1 + int(generator.choice(MAXIMUM_FILMS, p=[0.45, 0.28, 0.15, 0.08, 0.04]))
    films = []
    for follow_up in range(number):
        portable = bedside != (generator.random() < 0.15)
        present = tuple(
            replace(sign, severity=float(np.clip(sign.severity + generator.normal(0, 0.07), 0.05, 1)))
            for sign in signs
            if not acute or sign.finding == "Cardiomegaly" or follow_up == 0 or generator.random() < 0.75
        )
        pose = _pose(generator, anatomy)
        plan = FilmPlan(
            anatomy=_another_breath(anatomy, portable, generator),
            pose=pose,
            exposure=_exposure(portable, generator),
            signs=present,
            devices=portable and float(generator.random()) < 0.6,
            seed=int(generator.integers(2**31)),
        )
        age += int(generator.integers(0, 2)) * (follow_up > 0)
        films.append(PhantomFilm(patient, follow_up, age, sex, test, round(pose.width * 10 / 2500, 6), plan))
    return films


def _sign(finding: str, generator: np.random.Generator) -> Sign:
    subtle = generator.random() < 0.15
    severity = float(generator.uniform(0.1, 0.35) if subtle else generator.uniform(0.45, 1.0))
    side: Side = "right" if generator.random() < 0.5 else "left"
    if finding in BILATERAL or (finding not in ONE_SIDED and generator.random() < 0.3):
        side = "both"
    return Sign(finding, side, severity, int(generator.integers(2**31)))


def _anatomy(generator: np.random.Generator, age: int, sex: str) -> Anatomy:
    female = sex == "F"
    elderly = float(np.clip((age - 45) / 40, 0, 1))
    small = float(np.clip((17 - age) / 12, 0, 1))
    weight = float(np.clip(generator.normal(0, 1), -2, 2))
    lung_width = float(generator.normal(12.1 if female else 12.9, 0.5))
    dome = 4.0 + float(generator.normal(20.0 if female else 20.8, 0.7)) - 1.0 * elderly - 0.5 * max(weight, 0)
    return Anatomy(
        lung_width=lung_width,
        apex=4.0,
        dome_right=dome,
        dome_left=dome + float(generator.uniform(0.4, 1.4)),
        dome_drop=float(generator.uniform(2.8, 4.0)),
        heart_ratio=float(np.clip(generator.normal(0.425 + 0.02 * elderly + 0.01 * small, 0.02), 0.37, 0.475)),
        heart_shift=float(generator.normal(0, 0.2)),
        knob=float(np.clip(generator.normal(0.9 + 0.9 * elderly, 0.2), 0.4, 2.2)),
        thickness=21.5 + 0.9 * weight,
        wall=2.0 + 0.6 * weight if weight > 0 else 2.0 + 0.2 * weight,
        breast=float(generator.uniform(1.8, 4.6)) * (1 - small) if female else 0.0,
        breast_height=float(generator.uniform(19, 21.5)) + 1.5 * elderly,
        rib_slope=float(generator.normal(4.3 + 0.8 * elderly, 0.4)),  # kyphosis makes the ribs fall
        rib_spacing=float(generator.normal(2.35, 0.08)),
        clavicle=float(generator.uniform(5.6, 7.0)),
        bend=float(generator.normal(0, 0.15 + 0.25 * elderly)),
        arms=float(generator.uniform(0, 2)),
        bubble=float(generator.uniform(0.6, 1.15)) if generator.random() < 0.6 else 0.0,
        aeration=float(generator.normal(1.0, 0.03)),
        vessel_seed=int(generator.integers(2**31)),
    )


def _another_breath(anatomy: Anatomy, portable: bool, generator: np.random.Generator) -> Anatomy:
    """The same chest on another day: another breath, and on a bedside film less of it and a magnified heart."""
    breath = float(generator.normal(0, 0.35)) - (1.6 if portable else 0.0)
    return replace(
        anatomy,
        dome_right=anatomy.dome_right + breath,
        dome_left=anatomy.dome_left + breath + float(generator.normal(0, 0.15)),
        heart_ratio=min(anatomy.heart_ratio * (1.06 if portable else 1.0), 0.49),
        clavicle=anatomy.clavicle - (1.0 if portable else 0.0),
        rib_slope=anatomy.rib_slope * (0.85 if portable else 1.0),
        bubble=anatomy.bubble * float(generator.uniform(0.7, 1.1)) * (0.0 if generator.random() < 0.2 else 1.0),
    )


def _pose(generator: np.random.Generator, anatomy: Anatomy) -> Pose:
    width = (2 * anatomy.lung_width + 2 * anatomy.wall) * float(generator.uniform(1.06, 1.22))
    return Pose(
        width=width,
        rotation=float(np.clip(generator.normal(0, 1.5), -5, 5)),
        x=float(generator.normal(0, 0.6)),
        y=anatomy.apex - 3.0 + 0.47 * width + float(generator.normal(0, 0.7)),
    )


def _exposure(portable: bool, generator: np.random.Generator) -> Exposure:
    return Exposure(
        view="AP" if portable else "PA",
        darkest=float(generator.normal(1.3, 0.12)),
        span=float(generator.uniform(3.1, 4.0)) * (1.1 if portable else 1.0),
        detail=float(generator.uniform(0.2, 0.55)),
        noise=float(generator.uniform(0.015, 0.035)) * (1.3 if portable else 1.0),
        haze=float(generator.uniform(0.3, 1.0)) if portable else 0.0,
        frame=float(generator.uniform(0.01, 0.05)) if generator.random() < 0.12 else 0.0,
    )


ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
DETECTOR = 2500  # pixels a side that the label file pretends the film had
NIH_SIZE = 1024  # pixels a side that NIH's boxes refer to

Truth = tuple[tuple[str, ...], list[Box]]  # findings and boxes of one film


def write_phantom(
    folder: Path,
    *,
    films: int,
    size: int = 320,
    seed: int = 0,
    shuffle_labels: bool = False,
    layout: str = "nih",
    change: Callable[[Pixels, tuple[str, ...]], Pixels] | None = None,
) -> None:
    """Write phantom films, their labels, boxes and split lists, as NIH published ChestX-ray14, or in another layout.

    The same seed gives the same films, and more films begin with the same ones. A quarter of the patients with each
    illness is for testing. The findings are drawn where the boxes say.

    Args:
        folder: new or empty; made if missing.
        films: how many, at least 1. A patient has one to five.
        size: pixels a side, 64 to 2048.
        shuffle_labels: give each film the findings and boxes of another patient's film: nothing to learn.
        layout: nih, or one of hilum.phantom.layouts. Some of them take fewer films of a patient, or PA films alone.
        change: what to do to a film's pixels before it is saved, by what the film shows; to plant a shortcut.

    Raises:
        ValueError: if films, size or layout is out of range, or there are too few patients to shuffle between.
        FilmsError: if the folder holds anything, or is a file.
        MissingExtraError: if the layout has DICOM films and pydicom is not installed.
    """
    if films < 1:
        raise ValueError(f"films must be at least 1, got {films}")
    if not 64 <= size <= 2048:
        raise ValueError(f"size must be from 64 to 2048 pixels, got {size}")
    if layout not in ("nih", *LAYOUTS):
        raise ValueError(f"layout must be one of {', '.join(['nih', *LAYOUTS])}, got {layout!r}")
    most = LAYOUTS[layout].most if layout in LAYOUTS else None
    if most is not None and films > most:
        raise ValueError(f"films must be at most {most} in the layout of {layout}, got {films}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FilmsError(f"folder must be new or empty, got {folder}. Name another one, or empty this one.")
    planned = plan_films(films, seed) if layout == "nih" else plan_layout(films, seed, LAYOUTS[layout])
    source = other_patients(np.array([film.patient for film in planned]), seed) if shuffle_labels else np.arange(films)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"source": SIMULATED, "films": films, "size": size, "seed": seed}
    try:
        truths = [
            _draw(film, drawn(number, film, planned[source[number - 1]]), size, folder, layout, change or _unchanged)
            for number, film in enumerate(track(planned, "drawing phantom films"), start=1)
        ]
    except BaseException:  # Ctrl-C as well: half a data set would only be in the way of the next attempt
        for made in folder.iterdir():
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        raise
    shown = [truths[int(index)] for index in source]
    _write(folder / SIMULATED_JSON, [json.dumps(facts)])
    if layout != "nih":
        labelled = (drawn(number, film, planned[source[number - 1]]) for number, film in enumerate(planned, start=1))
        films_there = [replace(film, boxes=tuple(truth[1])) for film, truth in zip(labelled, shown, strict=True)]
        LAYOUTS[layout].write(folder, films_there)
        return
    _write(folder / "Data_Entry_2017_v2020.csv", [ENTRY_HEADER, *map(_entry_row, planned, shown)])
    _write(folder / "BBox_List_2017.csv", [BOX_HEADER, *_box_rows(planned, shown)])
    _write(folder / "test_list.txt", [film.name for film in planned if film.test])
    _write(folder / "train_val_list.txt", [film.name for film in planned if not film.test])


def _draw(
    film: PhantomFilm, labelled: Drawn, size: int, folder: Path, layout: str, change: Callable[..., Pixels]
) -> Truth:
    pixels, boxes = render(film.plan, size)
    truth = film.findings, boxes
    pixels = change(pixels, film.findings)
    if layout == "nih":
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "images" / film.name, compress_level=1)
    else:
        save_film(LAYOUTS[layout], pixels, folder, labelled)
    return truth


def _unchanged(pixels: Pixels, findings: tuple[str, ...]) -> Pixels:
    return pixels


SUBTLE = 0.35
"""The severity up to which a finding can hardly be seen."""


def drawn(number: int, film: PhantomFilm, labels: PhantomFilm) -> Drawn:
    """A film with another's findings, which are its own unless labels are shuffled; without boxes."""
    return Drawn(
        number=number,
        patient=film.patient,
        follow_up=film.follow_up,
        age=film.age,
        sex=film.sex,
        view=film.plan.exposure.view,
        test=film.test,
        findings=labels.findings,
        subtle=tuple(sign.finding for sign in labels.plan.signs if sign.severity <= SUBTLE),
        boxes=(),
        devices=film.plan.devices,
    )


def other_patients(patients: Int64[np.ndarray, " films"], seed: int) -> Int64[np.ndarray, " films"]:
    """A random permutation of the films that gives every film one of another patient.

    Raises:
        ValueError: if one patient has more than half of the films.
    """
    films = len(patients)
    if 2 * np.unique(patients, return_counts=True)[1].max() > films:
        raise ValueError(f"films must be enough for labels to change patients, got {films}. Ask for more films.")
    generator = np.random.default_rng([seed, 5])
    source = generator.permutation(films)
    while (clashes := np.flatnonzero(patients[source] == patients)).size:
        for clash in clashes:
            other = int(generator.integers(films))
            source[clash], source[other] = source[other], source[clash]
    return source


def _entry_row(film: PhantomFilm, truth: Truth) -> str:
    names = "|".join(name for name in CHESTXRAY14 if name in truth[0]) or NO_FINDING
    fields = (film.name, names, film.follow_up, film.patient, film.age, film.sex, film.plan.exposure.view)
    return ",".join(map(str, (*fields, DETECTOR, DETECTOR, film.spacing_mm, film.spacing_mm)))


def _box_rows(films: list[PhantomFilm], truths: list[Truth]) -> list[str]:
    rows = []
    for film, (_, boxes) in zip(films, truths, strict=True):
        for box in boxes:
            name = "Infiltrate" if box.finding == "Infiltration" else box.finding  # as NIH spells it there
            rows.append(",".join([film.name, name, *(f"{NIH_SIZE * value:.3f}" for value in box[1:])]))
    return rows


def _write(path: Path, lines: list[str]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    partial.replace(path)


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
