"""The phantom's patients: who they are, what they have, and the films that are taken of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice

import numpy as np

from hilum.data.phantom_anatomy import Anatomy, Side, Sign
from hilum.data.phantom_chest import Pose
from hilum.data.phantom_film import Exposure, FilmPlan

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
