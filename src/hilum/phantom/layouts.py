"""Phantom films in the layouts of other data sets than ChestX-ray14: where each film lies, and the tables beside them.

What the films show is written in each set's own words and codes, so that its reader can be tried end to end.
"""

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from hilum.errors import MissingExtraError
from hilum.phantom.findings import Box

Pixels = UInt8[np.ndarray, "size size"]


@dataclass(frozen=True)
class Drawn:
    """A phantom film and what is on it.

    Attributes:
        number: of the film in its data set, from 1.
        patient: from 1.
        follow_up: from 0.
        view: PA or AP.
        test: whether the patient is for testing.
        findings: by ChestX-ray14's names.
        subtle: those of the findings that can hardly be seen.
        boxes: of the findings, as fractions of the film.
        devices: whether tubes and wires are on it.
    """

    number: int
    patient: int
    follow_up: int
    age: int
    sex: str
    view: str
    test: bool
    findings: tuple[str, ...]
    subtle: tuple[str, ...]
    boxes: tuple[Box, ...]
    devices: bool


@dataclass(frozen=True)
class Layout:
    """How a data set lays its films out.

    Attributes:
        path: of a film below the folder.
        write: the tables beside the films.
        save: pixels into the file of a film; PNG and JPEG by its ending if None.
        views: of the films that the data set has.
        one_each: take one film of each patient, as the data set does not say which films are of one patient.
        most: how many films have names there.
    """

    path: Callable[[Drawn], str]
    write: Callable[[Path, Sequence[Drawn]], None]
    save: Callable[[Pixels, Path, Drawn], None] | None = None
    views: tuple[str, ...] = ("PA", "AP")
    one_each: bool = False
    most: int | None = None


def save_film(layout: Layout, pixels: Pixels, folder: Path, film: Drawn) -> None:
    """Write a film to its place."""
    path = folder / layout.path(film)
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout.save is not None:
        layout.save(pixels, path, film)
    elif path.suffix == ".jpg":
        Image.fromarray(pixels).save(path, quality=95)
    else:
        Image.fromarray(pixels).save(path, compress_level=1)


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV table, gzipped if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


CHEXPERT_COLUMNS = {
    "Enlarged Cardiomediastinum": (),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Opacity": ("Atelectasis", "Consolidation", "Edema", "Infiltration", "Pneumonia", "Mass", "Nodule"),
    "Lung Lesion": ("Mass", "Nodule"),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening",),
    "Fracture": (),
}
"""CheXpert's columns and the phantom's findings that make them present."""
CHEXPERT_HEADER = ("No Finding", *CHEXPERT_COLUMNS, "Support Devices")


def chexpert_labels(film: Drawn) -> list[str]:
    """A film's cells under CHEXPERT_HEADER: subtle findings are uncertain, what is not there is blank."""
    cells = []
    for names in CHEXPERT_COLUMNS.values():
        found = [name for name in names if name in film.findings]
        cells.append("" if not found else "-1.0" if set(found) <= set(film.subtle) else "1.0")
    return ["" if any(cells) else "1.0", *cells, "1.0" if film.devices else ""]


def _chexpert_path(film: Drawn) -> str:
    folder = "valid" if film.test else "train"
    return f"{folder}/patient{film.patient:05d}/study{film.follow_up + 1}/view1_frontal.jpg"


def _write_chexpert(folder: Path, films: Sequence[Drawn]) -> None:
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_HEADER)
    for name, test in (("train.csv", False), ("valid.csv", True)):
        rows = [
            (
                f"CheXpert-v1.0-small/{_chexpert_path(film)}",
                {"M": "Male", "F": "Female"}[film.sex],
                film.age,
                "Frontal",
                film.view,
                *chexpert_labels(film),
            )
            for film in films
            if film.test == test
        ]
        write_rows(folder / name, [header, *rows])


def _mimic_names(film: Drawn) -> tuple[str, str, str]:
    """Patient, study and film, as numbers and a name of hexadecimal digits."""
    patient, study = 10_000_000 + film.patient, 50_000_000 + 10 * film.patient + film.follow_up
    return str(patient), str(study), f"{film.patient:08x}-{film.follow_up:08x}-{study:08x}"


def _mimic_path(film: Drawn) -> str:
    patient, study, name = _mimic_names(film)
    return f"files/p{patient[:2]}/p{patient}/s{study}/{name}.jpg"


def _write_mimic(folder: Path, films: Sequence[Drawn]) -> None:
    metadata, splits = [], []
    labels: dict[str, Sequence[object]] = {}
    people: dict[str, Sequence[object]] = {}
    for film in films:
        patient, study, name = _mimic_names(film)
        metadata.append((name, patient, study, film.view, f"{2150 + film.follow_up}0101", "", ""))
        splits.append((name, study, patient, "test" if film.test else "validate" if film.patient % 8 == 0 else "train"))
        labels[study] = (patient, study, *chexpert_labels(film))
        people.setdefault(patient, (patient, film.sex, film.age, 2150))
    head = "mimic-cxr-2.0.0-"
    views = ("ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning")
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", *views)
    write_rows(folder / f"{head}metadata.csv.gz", [columns, *metadata])
    write_rows(folder / f"{head}split.csv.gz", [("dicom_id", "study_id", "subject_id", "split"), *splits])
    for labeller in ("chexpert", "negbio"):
        header = ("subject_id", "study_id", *CHEXPERT_HEADER)
        write_rows(folder / f"{head}{labeller}.csv.gz", [header, *labels.values()])
    write_rows(folder / "patients.csv.gz", [("subject_id", "gender", "anchor_age", "anchor_year"), *people.values()])


def _brax_path(film: Drawn) -> str:
    return f"images/id_{film.patient:08d}/Study_{film.follow_up}/Series_0/image-{film.patient}-{film.follow_up}.png"


def _write_brax(folder: Path, films: Sequence[Drawn]) -> None:
    described = ("DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyDate")
    header = (*described, *CHEXPERT_HEADER, "ViewPosition", "Rows", "Columns")
    rows = [
        (
            _brax_path(film).replace("images/", "Anonymized_DICOMs/").replace(".png", ".dcm"),
            _brax_path(film),
            f"id_{film.patient:08d}",
            film.sex,
            "85 or more" if film.age >= 85 else film.age // 5 * 5,
            f"{film.patient}{film.follow_up:03d}",
            "20150101",
            *chexpert_labels(film),
            film.view,
            2000,
            2000,
        )
        for film in films
    ]
    write_rows(folder / "master_spreadsheet_update.csv", [header, *rows])


def _padchest_path(film: Drawn) -> str:
    folder, name = film.patient % 50, f"{_digits(film, 38)}_{film.patient % 1000:03d}-{film.follow_up:03d}.png"
    return f"images/{folder}/{name}"


def _digits(film: Drawn, count: int, *, salt: str = "film") -> str:
    """A long number such as anonymizers make, the same for the same film."""
    digest = hashlib.sha256(f"{salt} {film.patient} {film.follow_up}".encode()).hexdigest()
    return str(int(digest, 16) + 10**76)[:count]


def _save_png16(pixels: Pixels, path: Path, film: Drawn) -> None:
    Image.fromarray(pixels.astype(np.uint16) * 257).save(path, compress_level=1)


PADCHEST_WORDS = {
    "Atelectasis": "laminar atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Effusion": "pleural effusion",
    "Infiltration": "infiltrates",
    "Mass": "pulmonary mass",
    "Nodule": "nodule",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "consolidation",
    "Edema": "pulmonary edema",
    "Emphysema": "emphysema",
    "Fibrosis": "pulmonary fibrosis",
    "Pleural_Thickening": "apical pleural thickening",
    "Hernia": "hiatal hernia",
}


def _write_padchest(folder: Path, films: Sequence[Drawn]) -> None:
    header = (
        *("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
        *("Projection", "MethodProjection", "Pediatric", "MethodLabel", "Labels"),
    )
    rows = []
    for place, film in enumerate(films):
        words = [f" {PADCHEST_WORDS[name]}" if name in film.subtle else PADCHEST_WORDS[name] for name in film.findings]
        words += ["endotracheal tube"] if film.devices else []
        path = _padchest_path(film)
        rows.append(
            (
                *(place, path.rpartition("/")[2], path.split("/")[1], f"{2014 + film.follow_up}0915"),
                *(_digits(film, 36, salt="study"), f"{10**38 + film.patient}", f"{2014 + film.follow_up - film.age}.0"),
                *(film.sex, "PA" if film.view == "PA" else "AP_horizontal", "Manual review of DICOM fields"),
                *("PED" if film.age < 10 else "No", "RNN_model" if film.number % 4 else "Physician"),
                str(words or ["normal"]),
            )
        )
    write_rows(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", [header, *rows])


def _hexadecimal(film: Drawn, kind: str) -> str:
    return hashlib.sha256(f"{kind} {film.patient} {film.follow_up}".encode()).hexdigest()[:32]


def _save_dicom(pixels: Pixels, path: Path, film: Drawn, *, bits: int, inverted: bool = False, age: str = "") -> None:
    """A film as DICOM, uncompressed; names and numbers are made up of what the film shows.

    Raises:
        MissingExtraError: if pydicom is not installed.
    """
    try:
        from pydicom import Dataset, dcmwrite
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
    except ModuleNotFoundError:
        raise MissingExtraError(
            "pydicom must be installed to write DICOM films. Install it: pip install 'hilum[dicom]'"
        ) from None
    highest = (1 << bits) - 1
    stored = np.round(pixels.astype(np.float64) * highest / 255).astype(np.uint16 if bits > 8 else np.uint8)
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path.name), str(film.number)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(film.patient), str(film.follow_up)])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", str(film.patient), str(film.follow_up)])
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", film.view
    dataset.PatientID = dataset.PatientName = path.stem
    dataset.PatientSex, dataset.PatientAge = film.sex, age
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * stored.itemsize, bits, bits - 1
    content = (highest - stored if inverted else stored).tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)


VINDR_WORDS = {
    "Aortic enlargement": (),
    "Atelectasis": ("Atelectasis",),
    "Calcification": (),
    "Cardiomegaly": ("Cardiomegaly",),
    "Clavicle fracture": (),
    "Consolidation": ("Consolidation",),
    "Edema": ("Edema",),
    "Emphysema": ("Emphysema",),
    "Enlarged PA": (),
    "ILD": (),
    "Infiltration": ("Infiltration",),
    "Lung Opacity": (),
    "Lung cavity": (),
    "Lung cyst": (),
    "Mediastinal shift": (),
    "Nodule/Mass": ("Mass", "Nodule"),
    "Pleural effusion": ("Effusion",),
    "Pleural thickening": ("Pleural_Thickening",),
    "Pneumothorax": ("Pneumothorax",),
    "Pulmonary fibrosis": ("Fibrosis",),
    "Rib fracture": (),
    "Other lesion": ("Hernia",),
    "COPD": (),
    "Lung tumor": (),
    "Pneumonia": ("Pneumonia",),
    "Tuberculosis": (),
    "Other diseases": (),
}
"""VinDr-CXR's columns and the phantom's findings that make them present; the last five are said of whole films."""
VINDR_GLOBAL = 5


def _vindr_path(film: Drawn) -> str:
    return f"{'test' if film.test else 'train'}/{_hexadecimal(film, 'vindr')}.dicom"


def _save_vindr(pixels: Pixels, path: Path, film: Drawn) -> None:
    age = "" if film.number % 3 == 0 else f"{film.age:03d}Y"
    _save_dicom(pixels, path, film, bits=12, inverted=film.number % 5 == 0, age=age)


def _write_vindr(folder: Path, films: Sequence[Drawn]) -> None:
    """Three readers see the training films, of whom one or two see a subtle finding; the test films have one row."""
    size = _pixels_of(folder, _vindr_path, films)
    last, local = "Other diseases", list(VINDR_WORDS)[:-VINDR_GLOBAL]
    for split, test, readers in (("train", False, 3), ("test", True, 1)):
        labels: list[Sequence[object]] = []
        boxes: list[Sequence[object]] = []
        for film in (film for film in films if film.test == test):
            name = _hexadecimal(film, "vindr")
            for reader in range(readers):
                seen = {
                    one for one in film.findings if one not in film.subtle or readers == 1 or reader <= film.number % 2
                }
                cells = [int(bool(seen & set(names))) for names in VINDR_WORDS.values()]
                person = [] if test else [f"R{1 + (film.number + reader) % 17}"]
                labels.append((name, *person, *cells, int(not any(cells))))
                for word in local:
                    for box in film.boxes:
                        if box.finding in VINDR_WORDS[word] and box.finding in seen:
                            left, top = box.x * size, box.y * size
                            corners = (left, top, left + box.width * size, top + box.height * size)
                            boxes.append((name, *person, word, *(round(value, 3) for value in corners)))
                if not any(cells):
                    boxes.append((name, *person, "No finding", "", "", "", ""))
        readers_column = [] if test else ["rad_id"]
        words = ["Other disease" if test and word == last else word for word in VINDR_WORDS]
        write_rows(
            folder / f"annotations/image_labels_{split}.csv",
            [("image_id", *readers_column, *words, "No finding"), *labels],
        )
        header = ("image_id", *readers_column, "class_name", "x_min", "y_min", "x_max", "y_max")
        write_rows(folder / f"annotations/annotations_{split}.csv", [header, *boxes])


def _pixels_of(folder: Path, path: Callable[[Drawn], str], films: Sequence[Drawn]) -> int:
    """How many pixels a side the films have, which are square."""
    from pydicom import dcmread

    return int(dcmread(folder / path(films[0]), stop_before_pixels=True).Rows)


OPENI_HEADINGS = {
    "Atelectasis": "Pulmonary Atelectasis/base/left",
    "Cardiomegaly": "Cardiomegaly/borderline",
    "Effusion": "Pleural Effusion/right/small",
    "Infiltration": "Infiltrate/lung/lower lobe/right",
    "Mass": "Mass/lung/hilum/left",
    "Nodule": "Nodule/lung/upper lobe/right",
    "Pneumonia": "Pneumonia/middle lobe/right",
    "Pneumothorax": "Pneumothorax/apex/left",
    "Consolidation": "Consolidation/lung/base",
    "Edema": "Pulmonary Edema/mild",
    "Emphysema": "Pulmonary Emphysema",
    "Fibrosis": "Pulmonary Fibrosis",
    "Pleural_Thickening": "Thickening/pleura/apex",
    "Hernia": "Hernia, Hiatal/large",
}


def _openi_name(film: Drawn) -> str:
    return f"IM-{film.number:04d}-{1001 + film.follow_up}"


def _openi_path(film: Drawn) -> str:
    return f"CXR{film.number}_1_{_openi_name(film)}.png"


def _write_openi(folder: Path, films: Sequence[Drawn]) -> None:
    (folder / "ecgen-radiology").mkdir(parents=True, exist_ok=True)
    for film in films:
        report = ElementTree.Element("eCitation")
        ElementTree.SubElement(report, "uId", id=f"CXR{film.number}")
        mesh = ElementTree.SubElement(report, "MeSH")
        headings = [OPENI_HEADINGS[name] for name in film.findings]
        headings += ["Catheters, Indwelling/right"] if film.devices else []
        for heading in headings or ["normal"]:
            ElementTree.SubElement(mesh, "major").text = heading
            ElementTree.SubElement(mesh, "automatic").text = heading.partition("/")[0].lower()
        image = ElementTree.SubElement(report, "parentImage", id=_openi_path(film).removesuffix(".png"))
        ElementTree.SubElement(image, "caption").text = "Simulated chest radiograph"
        content = ElementTree.tostring(report, encoding="utf-8", xml_declaration=True)
        (folder / f"ecgen-radiology/{film.number}.xml").write_bytes(content)
    rows = [(film.number, f"{film.number}_{_openi_name(film)}.dcm.png", "Frontal") for film in films]
    write_rows(folder / "indiana_projections.csv", [("uid", "filename", "projection"), *rows])


CHALLENGE_SIDE = 1024
"""Boxes and outlines of the two challenges count in pixels of films of this side."""
RSNA_OPACITIES = ("Pneumonia", "Consolidation", "Infiltration")
"""The phantom's findings that count as an opacity suspicious for pneumonia."""


def _rsna_name(film: Drawn) -> str:
    digits = _hexadecimal(film, "rsna")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _rsna_path(film: Drawn) -> str:
    return f"stage_2_train_images/{_rsna_name(film)}.dcm"


def _save_challenge(pixels: Pixels, path: Path, film: Drawn) -> None:
    _save_dicom(pixels, path, film, bits=8, age=f"{film.age:03d}Y")


def _write_rsna(folder: Path, films: Sequence[Drawn]) -> None:
    labels: list[Sequence[object]] = []
    classes, mapping = [], []
    for film in films:
        boxes = [box for box in film.boxes if box.finding in RSNA_OPACITIES]
        name, other = _rsna_name(film), "No Lung Opacity / Not Normal" if film.findings else "Normal"
        sides = [[round(CHALLENGE_SIDE * value, 3) for value in box[1:]] for box in boxes]
        labels += [(name, *box, 1) for box in sides] or [(name, "", "", "", "", 0)]
        classes += [(name, "Lung Opacity" if boxes else other)] * max(len(boxes), 1)
        mapping.append({"subset_img_id": name, "img_id": f"{film.patient:08d}_{film.follow_up:03d}.png"})
    write_rows(folder / "stage_2_train_labels.csv", [("patientId", "x", "y", "width", "height", "Target"), *labels])
    write_rows(folder / "stage_2_detailed_class_info.csv", [("patientId", "class"), *classes])
    path = folder / "pneumonia-challenge-dataset-mappings_2018.json"
    path.write_text(json.dumps(mapping, indent=1), encoding="utf-8")


def _siim_name(film: Drawn, kind: str) -> str:
    return f"1.2.276.0.7230010.3.1.{kind}.8323329.{_digits(film, 16, salt=kind)}"


def _siim_path(film: Drawn) -> str:
    study, series, name = (_siim_name(film, kind) for kind in "234")
    return f"dicom-images-train/{study}/{series}/{name}.dcm"


def relative_outline(box: Box) -> str:
    """The ellipse inside a box as SIIM's run lengths: gaps and lengths in turn, down the columns of a film of 1,024."""
    columns, rows = (np.arange(CHALLENGE_SIDE) + 0.5 for _ in range(2))
    across = (columns / CHALLENGE_SIDE - box.x - box.width / 2) / (box.width / 2)
    down = (rows / CHALLENGE_SIDE - box.y - box.height / 2) / (box.height / 2)
    inside = (across[np.newaxis, :] ** 2 + down[:, np.newaxis] ** 2 <= 1).T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]])))
    starts, ends = edges[::2], edges[1::2]
    gaps = starts - np.concatenate([[0], ends[:-1]])
    return " ".join(f"{gap} {length}" for gap, length in zip(gaps, ends - starts, strict=True))


def _write_siim(folder: Path, films: Sequence[Drawn]) -> None:
    rows = []
    for film in films:
        outlines = [relative_outline(box) for box in film.boxes if box.finding == "Pneumothorax"]
        rows += [(_siim_name(film, "4"), outline) for outline in outlines or ["-1"]]
    write_rows(folder / "train-rle.csv", [("ImageId", " EncodedPixels"), *rows])


TUBERCULOSIS = ("Infiltration", "Fibrosis")
"""The phantom's findings that count as tuberculosis, which no phantom has."""


def _tb_name(film: Drawn) -> str:
    ill = int(bool(set(film.findings) & set(TUBERCULOSIS)))
    return f"{'CHNCXR' if film.number % 2 else 'MCUCXR'}_{film.number:04d}_{ill}"


def _tb_folder(film: Drawn) -> str:
    return "ChinaSet_AllFiles" if film.number % 2 else "MontgomerySet"


def _tb_path(film: Drawn) -> str:
    return f"{_tb_folder(film)}/CXR_png/{_tb_name(film)}.png"


def _write_tb(folder: Path, films: Sequence[Drawn]) -> None:
    for film in films:
        shenzhen = f"{'male' if film.sex == 'M' else 'female'} {film.age}yrs\n"
        montgomery = f"Patient's Sex: {film.sex}\nPatient's Age: {film.age:03d}Y\n"
        path = folder / _tb_folder(film) / "ClinicalReadings" / f"{_tb_name(film)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shenzhen if film.number % 2 else montgomery, encoding="utf-8")


JSRT_SIDE = 2048
JSRT_HIGHEST = 4095
JSRT_SPACING_MM = 0.175


def _jsrt_path(film: Drawn) -> str:
    return f"JPC{'LN' if 'Nodule' in film.findings else 'NN'}{film.number:03d}.IMG"


def _save_jsrt(pixels: Pixels, path: Path, film: Drawn) -> None:
    """Raw values without a header, which grow with the film's blackness."""
    full = np.asarray(Image.fromarray(pixels).resize((JSRT_SIDE, JSRT_SIDE), Image.Resampling.BILINEAR))
    path.write_bytes(np.round((255.0 - full) * JSRT_HIGHEST / 255).astype(">u2").tobytes())


def _write_jsrt(folder: Path, films: Sequence[Drawn]) -> None:
    ill, well = [], []
    for film in films:
        sex, name = "Male" if film.sex == "M" else "Female", _jsrt_path(film)
        if "Nodule" not in film.findings:
            well.append(f"{name}\t{film.age}\t{sex}\tnon-nodule\n")
            continue
        box = next(box for box in film.boxes if box.finding == "Nodule")
        size = max(box.width, box.height) * JSRT_SIDE * JSRT_SPACING_MM
        x, y = (box.x + box.width / 2) * JSRT_SIDE, (box.y + box.height / 2) * JSRT_SIDE
        subtlety = 2 if "Nodule" in film.subtle else 4
        where = f"{x:.0f}\t{y:.0f}\tmalignant\tl.upper lobe\tlung cancer"
        ill.append(f"{name}\t{subtlety}\t{size:.1f}\t{film.age}\t{sex}\t{where}\n")
    (folder / "CLNDAT_EN.txt").write_text("".join(ill), encoding="latin-1")
    (folder / "CNNDAT_EN.TXT").write_text("".join(well), encoding="latin-1")


LAYOUTS = {
    "chexpert": Layout(_chexpert_path, _write_chexpert),
    "mimic": Layout(_mimic_path, _write_mimic),
    "brax": Layout(_brax_path, _write_brax),
    "padchest": Layout(_padchest_path, _write_padchest, _save_png16),
    "vindr": Layout(_vindr_path, _write_vindr, _save_vindr, views=("PA",), one_each=True),
    "openi": Layout(_openi_path, _write_openi, one_each=True),
    "rsna": Layout(_rsna_path, _write_rsna, _save_challenge),
    "siim": Layout(_siim_path, _write_siim, _save_challenge, one_each=True),
    "tb": Layout(_tb_path, _write_tb, views=("PA",), one_each=True, most=9999),
    "jsrt": Layout(_jsrt_path, _write_jsrt, _save_jsrt, views=("PA",), one_each=True, most=999),
}
"""Each layout under the name of its source on the command line; ChestX-ray14's is that of `write_phantom` itself."""
