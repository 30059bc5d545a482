"""Heat as a segmentation of the film itself, for viewers that lay it over: a segment for each finding that has heat."""

from datetime import datetime

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationFractionalTypeValues,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from PIL import Image
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from hilum.findings import codes_of
from hilum.model.metadata import on_whole_film, strength
from hilum.pacs.results import ResultModel, blank_subject, derived_uid, describe, shown_findings, take_over, variant
from hilum.predict.scoring import Scored

SERIES_NUMBER = 9903
SERIES = "Hilum heat: research, not for diagnostic use"
_MEANING = "Evidence of the network on its own scale from 0 to 1: no probability, no outline"


def heat_segmentation(
    header: Dataset, scored: Scored, model: ResultModel, *, now: datetime, top: int = 3, content: str = ""
) -> Dataset | None:
    """Heat of the findings that the picture shows, at the film's own resolution; None if there are none.

    It is a segmentation, whose fractions viewers know, and not a parametric map: highdicom makes none of films,
    which have no frame of reference.

    Args:
        header: of the film, with its identifiers, rows and columns.
        scored: the film's scores and class maps.
        now, top, content: see hilum.pacs.results.secondary_capture.

    Raises:
        ValueError: if the film has no scores.

    Source: DICOM PS3.3, A.51. https://dicom.nema.org/medical/dicom/current/output/html/part03.html
    """
    if scored.scores is None or scored.maps is None:
        raise ValueError("scored must have scores and maps, got none")
    findings, shown = model.description.findings, shown_findings(scored, model, top=top)
    if not shown:
        return None
    rows, columns = int(header.Rows), int(header.Columns)
    heat = np.stack(
        [
            _full_size(on_whole_film(heat, scored.seen, elsewhere=0.0), rows, columns)
            for k in shown
            for heat in [strength(scored.maps[k], model.description.heatmap_logits[findings[k]])]
        ],
        axis=-1,
    )[None]
    instance = str(header.SOPInstanceUID)
    result = Segmentation(
        source_images=[blank_subject(header)],
        pixel_array=heat,
        segmentation_type=SegmentationTypeValues.FRACTIONAL,
        fractional_type=SegmentationFractionalTypeValues.PROBABILITY,
        segment_descriptions=[_segment(number, findings[k], model) for number, k in enumerate(shown, 1)],
        series_instance_uid=derived_uid("seg series", str(header.StudyInstanceUID), model.identity),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid(
            "seg", instance, model.identity, model.point or "", str(top), *variant(model, scored.forced, content)
        ),
        instance_number=1,
        manufacturer="Hilum",
        manufacturer_model_name=model.name,
        software_versions=[*model.software],  # type: ignore[arg-type]  # it takes several, but no tuple
        device_serial_number=model.bundle_sha256[:16],
        content_label="HEAT",
        content_description=_MEANING[:64],
        series_description=SERIES,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
    )
    take_over(result, header)
    describe(result, header, model, now=now)
    result.PatientOrientation = None
    return result


def _segment(number: int, finding: str, model: ResultModel) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=finding[:64],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=CodedConcept(*codes_of(model.description.findings)[finding][0]),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model.name, family=codes.DCM.ArtificialIntelligence, version=model.version
        ),
    )


def _full_size(heat: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Heat at the film's size, from 0 to 1."""
    image = Image.fromarray(heat.astype(np.float32)).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(image, dtype=np.float32), 0, 1)
