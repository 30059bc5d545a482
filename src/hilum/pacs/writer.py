"""DICOM and FHIR results beside the scores of `hilum predict`; imported without the extra `dicom`."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from hilum.data.images import image_kind
from hilum.errors import ImageError, missing_extra
from hilum.model.engines import Engine
from hilum.predict.scoring import Scored

_MODULES = ("pydicom", "highdicom", "pynetdicom")


def check_installed() -> None:
    """Refuse to go on without the extra.

    Raises:
        MissingExtraError: if a part of it is not installed.
    """
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise missing_extra(missing[0], "dicom")


def results_writer(
    run: Path,
    point: str | None,
    *,
    dicom: Path | None,
    fhir: Path | None,
    top: int,
    bits: int | None = None,
    engine: Engine | None = None,
    release: Literal["R5", "R4B"] = "R5",
) -> Callable[[Scored, str], Scored]:
    """What writes the results of a film by its name, and gives the film back.

    A film that can have no DICOM results, such as a PNG, keeps its scores, and its error says why there are none. One
    that does not fit the model has a result that says so, if it is DICOM.

    Args:
        dicom: folder for FILM.sr.dcm and FILM.sc.dcm; none are written if None.
        fhir: folder for FILM.fhir.json; likewise.
        top: heatmaps in a picture.
        bits: how many bits the films' values were said to have.
        engine: what scores the films, which results name.
        release: of FHIR.

    Raises:
        MissingExtraError: if the extra is needed and not installed.
        BundleError, HilumError: if there is no such model or operating point.
    """
    if dicom is not None:
        check_installed()
    from hilum.pacs.fhir import write_fhir
    from hilum.pacs.results import result_model

    model = result_model(run, point, bits=bits, engine=engine)

    def write(scored: Scored, film: str) -> Scored:
        if scored.error:
            return scored
        reasons: list[str] = []
        if dicom is not None and (scored.analysed or image_kind(scored.path) == "DICOM"):
            from hilum.pacs.results import write_results

            try:
                write_results(scored.path, scored, model, dicom, film=film, now=datetime.now(), top=top)
            except ImageError as error:
                reasons.append(f"No DICOM result: {error}")
        if fhir is not None:
            try:
                write_fhir(scored, model, fhir, film=film, now=datetime.now().astimezone(), release=release)
            except ImageError as error:
                reasons.append(f"No FHIR result: {error}")
        return replace(scored, error=" ".join(reasons)) if reasons else scored

    return write
