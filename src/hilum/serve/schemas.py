"""What the server answers: the forms that stand in its OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hilum import DISCLAIMER

_EXAMPLE: dict[str, Any] = {
    "films": [
        {
            "film": "chest.dcm",
            "error": "",
            "fit": "ok",
            "forced": False,
            "findings": [
                {
                    "finding": "Effusion",
                    "score": 0.71,
                    "call": "present",
                    "threshold": {"value": 0.31, "low": 0.24, "high": 0.36, "why": ""},
                    "heatmap": None,
                    "region": None,
                }
            ],
            "header": None,
            "id": None,
        },
        {
            "film": "notes.txt",
            "error": "film must be a PNG, JPEG or DICOM image, got something else in 'notes.txt'. Remove it.",
            "fit": "",
            "forced": False,
            "findings": [],
            "header": None,
            "id": None,
        },
        {
            "film": "side.dcm",
            "error": "",
            "fit": "lateral: the header's View Position is LL",
            "forced": False,
            "findings": [],
            "header": None,
            "id": None,
        },
    ],
    "point": "youden",
    "disclaimer": DISCLAIMER,
}
_KEPT_EXAMPLE: dict[str, Any] = {
    "results": [
        {**_EXAMPLE["films"][0], "id": "0123456789abcdef", "kept": "2026-11-25T10:00:00+00:00", "point": "youden"}
    ],
    "disclaimer": DISCLAIMER,
}
_MODEL_EXAMPLE: dict[str, Any] = {
    "name": "nih-small",
    "hilum": "0.1.0",
    "engine": "openvino int8",
    "size": 224,
    "calibrated": True,
    "gated": True,
    "learned_from": "trained on films of NIH ChestX-ray14",
    "simulated": False,
    "points": ["youden"],
    "regions": {"level": 0.66, "iou": 0.26, "boxed": 79, "patients": 40},
    "judged_films": 359,
    "findings": [
        {
            "finding": "Effusion",
            "words": "Fluid in the pleural space.",
            "urgency": 2,
            "auroc": {"value": 0.78, "low": 0.72, "high": 0.83, "why": ""},
            "thresholds": {"youden": {"value": 0.31, "low": 0.24, "high": 0.36, "why": ""}},
        }
    ],
    "films_per_request": 100,
    "keeps": False,
    "dicom": True,
    "disclaimer": DISCLAIMER,
}


READING_EXAMPLE = '{"Effusion": {"present": true, "comment": "small", "call": "present"}}'


class ReaderOpinion(BaseModel):
    """What a reader says of one finding."""

    model_config = ConfigDict(extra="forbid")

    present: bool | None = Field(default=None, description="null if the reader left that open and only commented")
    comment: str = Field(default="", max_length=10_000)
    call: Literal["present", "absent", "indeterminate", "no threshold", ""] = Field(
        default="", description="the model's, as the reader saw it"
    )


class Refusal(BaseModel):
    """Why a request is not answered."""

    detail: str = Field(examples=["too many films are waiting; try again in 3 s"])


class ThresholdAnswer(BaseModel):
    """A film is called from `value` on, and indeterminate from `low` to below `high`."""

    value: float
    low: float
    high: float
    why: str = Field(default="", description="why the band is no narrower and every film indeterminate")


class HeatmapAnswer(BaseModel):
    """Where the evidence lies, on the model's one scale: the same colour means the same on every film."""

    png: str = Field(
        description="base64 of a clear PNG to be stretched over the film: yellow to red, opaque where full"
    )


class RegionAnswer(BaseModel):
    """Where the evidence for a finding is outlined, as in Hilum's pictures and DICOM objects."""

    outlines: list[list[tuple[float, float]]] = Field(
        description="closed lines of points (across, down) from 0 to 1 of the film"
    )
    area: float = Field(description="proportion of the film inside them")
    side: Literal["left", "right", "both", "central"] = Field(
        description="the patient's, if the film is hung as usual; the film's own side marker is not read"
    )
    zone: Literal["upper", "mid", "lower"]


class FindingAnswer(BaseModel):
    """What the model says of one finding."""

    finding: str
    score: float = Field(description="0 to 1; a probability only for films like those that it was calibrated on")
    call: Literal["present", "absent", "indeterminate", "no threshold"]
    threshold: ThresholdAnswer | None
    heatmap: HeatmapAnswer | None = Field(default=None, description="if asked for; never below the threshold")
    region: RegionAnswer | None = Field(default=None, description="if asked for; never below the threshold")


class FilmHeader(BaseModel):
    """What a DICOM film's header says of it, for lists and overlays; empty where it says nothing."""

    patient: str = Field(description="Patient ID")
    study: str = Field(description="Study Instance UID")
    date: str = Field(description="of the study, as YYYY-MM-DD")
    view: str = Field(description="PA, AP or LATERAL, or as the header has it")
    sex: str
    age: str = Field(description="such as 45 y")
    detector: bool = Field(description="whether lengths are at the detector, and so larger than in the patient")


class FilmAnswer(BaseModel):
    """One film's result, or why it has none."""

    film: str = Field(description="its name as it was sent, without folders")
    error: str = Field(description="empty if the film was read")
    fit: str = Field(description="ok, or why the film is not one that the model knows; empty if the model cannot tell")
    forced: bool = Field(default=False, description="whether there are findings although the film does not fit")
    findings: list[FindingAnswer] = Field(description="empty if the film was not read, or does not fit")
    header: FilmHeader | None = Field(default=None, description="of a DICOM film; never kept")
    id: str | None = Field(default=None, description="under which the result is kept, if that was asked for")


class Prediction(BaseModel):
    """The films of a request, in their order."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    films: list[FilmAnswer]
    point: str | None = Field(description="operating point of the calls; null if the model has none")
    disclaimer: str = DISCLAIMER


class Interval(BaseModel):
    """An estimate and its 95 % interval."""

    value: float
    low: float | None
    high: float | None
    why: str = Field(default="", description="why there is no interval, such as too few patients; else empty")


class FindingFacts(BaseModel):
    """A finding, in plain words, and how well the model was measured to find it."""

    finding: str
    words: str
    urgency: int = Field(description="1 (look first) to 4; an order for lists, no triage")
    auroc: Interval | None = Field(description="from the report on these weights; null if there is none")
    thresholds: dict[str, ThresholdAnswer | None]


class RegionFacts(BaseModel):
    """The level of outlined regions, chosen on films with true boxes."""

    level: float = Field(description="part of a map's strongest place from which a place belongs to the region")
    iou: float = Field(description="mean intersection over union of these regions with the true boxes")
    boxed: int = Field(description="findings on films with true boxes")
    patients: int


class ModelFacts(BaseModel):
    """The model that answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MODEL_EXAMPLE]})

    name: str
    hilum: str
    engine: str
    size: int = Field(description="pixels a side of the network's input")
    calibrated: bool
    gated: bool = Field(description="whether it says which films it does not know")
    learned_from: str = Field(description="the films that it learned from, to be shown beside its name; may be empty")
    simulated: bool = Field(description="whether these were simulated, all of them")
    points: list[str] = Field(description="operating points")
    regions: RegionFacts | None = Field(
        description="how the level of outlined regions was chosen on true boxes; null if it never was"
    )
    judged_films: int | None = Field(description="films that the report was measured on")
    findings: list[FindingFacts]
    films_per_request: int
    keeps: bool = Field(description="whether results can be kept")
    dicom: bool = Field(description="whether a DICOM film's result can be had as DICOM objects")
    disclaimer: str = DISCLAIMER


class KeptResult(FilmAnswer):
    """A result that was kept."""

    id: str
    kept: str = Field(description="when, in UTC")
    point: str | None


class KeptResults(BaseModel):
    """Kept results, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEPT_EXAMPLE]})

    results: list[KeptResult]
    disclaimer: str = DISCLAIMER


class Deleted(BaseModel):
    """How many results were deleted."""

    deleted: int


class State(BaseModel):
    """Whether the server lives, or can take films."""

    status: Literal["ok", "busy"]
