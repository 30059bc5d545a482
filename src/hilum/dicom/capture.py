"""What a radiologist sees of a result in the PACS: heatmaps, the table of scores and the disclaimer, as one picture."""

from datetime import datetime

import numpy as np
from highdicom.sc import SCImage
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

import hilum
from hilum.dicom.model import ResultModel
from hilum.dicom.source import derived_uid, take_over
from hilum.predict.heatmaps import overlay, strength
from hilum.predict.scoring import Scored

Picture = UInt8[np.ndarray, "height width 3"]

SERIES_NUMBER = 9902
SERIES = "Hilum heatmaps: research, not for diagnostic use"

_SIDE = 512
_MARGIN = 16
_LINE = 26
_COLUMNS = (0, 300, 470, 640)


def secondary_capture(header: Dataset, scored: Scored, model: ResultModel, *, now: datetime, top: int = 3) -> Dataset:
    """The picture of a result in the film's own study.

    Args:
        header: of the film, with its identifiers.
        scored: the film's scores and class maps.
        now: the time of the picture; its identifiers do not depend on it.
        top: for how many findings a heatmap is shown, from the highest score on.

    Raises:
        ValueError: if the film has no scores.
    """
    picture = result_picture(scored, model, top=top)
    capture = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=str(header.StudyInstanceUID),
        series_instance_uid=derived_uid("sc series", str(header.StudyInstanceUID), model.bundle_sha256),
        series_number=SERIES_NUMBER,
        sop_instance_uid=capture_uid(str(header.SOPInstanceUID), model, top),
        instance_number=1,
        manufacturer="Hilum",
        patient_orientation=("L", "F"),  # the constructor asks for one; a page has none, see below
        series_description=SERIES,
        manufacturer_model_name=model.name,
        software_versions=model.version,
        content_date=now.date(),
        content_time=now.time().replace(microsecond=0),
    )
    take_over(capture, header)
    capture["PatientOrientation"].value = None
    capture.BodyPartExamined = "CHEST"
    capture.Modality = "OT"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DerivationDescription = f"{model.name} {model.version}. {hilum.DISCLAIMER}"
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    capture.SourceImageSequence = [source]
    if "BurnedInAnnotation" in header:
        capture.BurnedInAnnotation = header.BurnedInAnnotation
    return capture


def capture_uid(film: str, model: ResultModel, top: int) -> str:
    """The identifier of the picture that a model makes of a film, by the film's own."""
    return derived_uid("sc", film, model.bundle_sha256, model.point or "", str(top))


def result_picture(scored: Scored, model: ResultModel, *, top: int = 3) -> Picture:
    """Heatmaps beside each other, then the table, then the disclaimer, on black.

    Raises:
        ValueError: if the film has no scores.
    """
    if scored.image is None or scored.scores is None or scored.maps is None:
        raise ValueError("scored must have scores and maps, got none")
    findings, order = model.description.findings, np.argsort(-scored.scores, kind="stable")
    shown = order[:top]
    rows = -(-len(shown) // 3)
    height = rows * (_SIDE + 2 * _LINE) + (len(findings) + 4) * _LINE + 2 * _MARGIN
    page = Image.new("RGB", (3 * _SIDE, height), "black")
    draw, font, large = ImageDraw.Draw(page), ImageFont.load_default(size=20), ImageFont.load_default(size=32)
    film = Image.fromarray(scored.image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    grey = np.clip(np.asarray(film), 0, 1)
    for place, k in enumerate(shown):
        left, top_edge = place % 3 * _SIDE, place // 3 * (_SIDE + 2 * _LINE)
        heat = strength(scored.maps[k], model.description.heatmap_logits[findings[k]])
        page.paste(Image.fromarray(overlay(grey, heat)), (left, top_edge))
        words = f"{findings[k].replace('_', ' ')}: score {scored.scores[k]:.3f}"
        draw.text((left + _MARGIN, top_edge + _SIDE + 4), words, fill="white", font=font)
    y = rows * (_SIDE + 2 * _LINE) + _MARGIN
    table = [("Finding", "Score", "Threshold", f"Call at {model.point}" if model.point else "")]
    for k in order:
        threshold = model.threshold(findings[k])
        limit = "" if threshold is None else f"{threshold.value:.3f}"
        answer = model.call(findings[k], float(scored.scores[k]))
        table.append((findings[k].replace("_", " "), f"{scored.scores[k]:.3f}", limit, answer))
    made_by = f"{model.name} {model.version}. Heatmaps show where the network's evidence lies, not where a finding is."
    for line in [*table, (made_by,)]:
        for x, words in zip(_COLUMNS, line, strict=False):
            draw.text((_MARGIN + x, y), words, fill="white", font=font)
        y += _LINE
    draw.text((_MARGIN, y + _LINE), hilum.DISCLAIMER, fill="yellow", font=large)
    return np.asarray(page)
