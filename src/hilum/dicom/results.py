"""The DICOM objects that a film's result is, made, written and named."""

from datetime import datetime
from io import BytesIO
from pathlib import Path

from pydicom import Dataset

from hilum.data.spoil import OK
from hilum.dicom.capture import secondary_capture
from hilum.dicom.model import ResultModel
from hilum.dicom.report import structured_report
from hilum.dicom.source import read_header
from hilum.errors import ImageError
from hilum.files import write_whole
from hilum.predict.heatmaps import place_of
from hilum.predict.scoring import Scored


def result_objects(path: Path, scored: Scored, model: ResultModel, *, now: datetime, top: int = 3) -> list[Dataset]:
    """A structured report and a picture for a film, or nothing if it does not fit the model.

    Raises:
        ValueError: if the film has no scores.
        ImageError: if the film is no DICOM file with its identifiers, or its header holds what no result can.
    """
    if scored.fit not in ("", OK):
        return []
    if scored.scores is None or scored.maps is None:
        raise ValueError("scored must have scores and maps, got none")
    header = read_header(path)
    try:
        return [
            structured_report(header, scored, model, now=now),
            secondary_capture(header, scored, model, now=now, top=top),
        ]
    except Exception as error:  # a header may hold anything
        raise _unfit_header(path, error) from error


def encoded(result: Dataset, path: Path) -> bytes:
    """A result of a film as the content of a file.

    Raises:
        ImageError: if it holds a value of the film's header that cannot be written.
    """
    content = BytesIO()
    try:
        result.save_as(content, enforce_file_format=True)
    except Exception as error:
        raise _unfit_header(path, error) from error
    return content.getvalue()


def _unfit_header(path: Path, error: Exception) -> ImageError:
    return ImageError(
        f"film must have a header that a result can take over, got {type(error).__name__} in {str(path)!r}. "
        "Ask whoever wrote the file for a right one."
    )


def write_results(
    path: Path, scored: Scored, model: ResultModel, folder: Path, *, film: str, now: datetime, top: int = 3
) -> list[Path]:
    """Write a film's objects as FILM.sr.dcm and FILM.sc.dcm; return their paths, none if it does not fit.

    Raises:
        ImageError: if the film is no DICOM file with its identifiers.
    """
    place, written = place_of(folder, film), []
    for kind, result in zip(("sr", "sc"), result_objects(path, scored, model, now=now, top=top), strict=False):
        file = place.with_name(f"{place.name}.{kind}.dcm")
        write_whole(file, encoded(result, path))
        written.append(file)
    return written
