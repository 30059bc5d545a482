"""Films from any DICOMweb server and results back to it: QIDO to find, WADO to get, STOW to store."""

import logging
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from requests import Session

from hilum.data.dicom import FILM_CLASSES
from hilum.data.quality import OK
from hilum.errors import HilumError, ImageError
from hilum.model.engines import Engine
from hilum.pacs.results import ResultModel, capture_uid, report_uid, result_objects, scores_of
from hilum.predict.files import Row
from hilum.predict.scoring import Scored, score_files

PASSWORD = "HILUM_WEB_PASSWORD"
MODALITIES = ("CR", "DX")

_STUDY, _SERIES, _CLASS, _INSTANCE = "0020000D", "0020000E", "00080016", "00080018"


class WebFilm(NamedTuple):
    """Where a film is on a server: the identifiers of its study, its series and itself."""

    study: str
    series: str
    instance: str


def open_client(url: str, user: str | None) -> DICOMwebClient:
    """A client for a server; the password of a user is in the environment, in HILUM_WEB_PASSWORD."""
    session = create_session_from_user_pass(user, os.environ.get(PASSWORD, "")) if user else Session()
    client = DICOMwebClient(url, session=session)
    client.set_http_retry_params(retry=False)
    logging.getLogger("retrying").setLevel(logging.CRITICAL)  # it prints a traceback for what is a sentence here
    return client


def find_films(client: DICOMwebClient, filters: Mapping[str, str]) -> Iterator[WebFilm]:
    """The films of CR and DX series that fit the filters, such as StudyDate=20260101-20260131.

    Raises:
        HilumError: if the server cannot be asked.
    """
    try:
        for modality in MODALITIES:
            for series in client.search_for_series(
                search_filters={**filters, "Modality": modality}, fields=["StudyInstanceUID"], get_remaining=True
            ):
                study, number = _value(series, _STUDY), _value(series, _SERIES)
                for film in client.search_for_instances(study, number, get_remaining=True):
                    if _value(film, _CLASS) in FILM_CLASSES:
                        yield WebFilm(study, number, _value(film, _INSTANCE))
    except HilumError:
        raise
    except Exception as error:  # the client raises what requests and HTTP raise
        raise _away(client, error) from error


def predict_from_web(
    client: DICOMwebClient,
    films: Iterator[WebFilm],
    engine: Engine,
    model: ResultModel,
    *,
    send: bool,
    top: int = 3,
) -> Iterator[Row]:
    """Score films of a server; a film that fails is a row that says why, as in `hilum predict`.

    Args:
        send: whether reports and pictures go back to the server. Films that have theirs there already, from this model
            at this operating point, are not scored again: their rows are read from the reports.
        top: heatmaps in a picture.
    """
    known = _Known(client, model, top) if send else None
    looked_up = ((film, known.row(film) if known else None) for film in films)
    for is_new, group in groupby(looked_up, key=lambda pair: pair[1] is None):
        if is_new:
            yield from _score(client, (film for film, _ in group), engine, model, send=send, top=top)
        else:
            yield from (row for _, row in group if row is not None)


def _score(
    client: DICOMwebClient, films: Iterator[WebFilm], engine: Engine, model: ResultModel, *, send: bool, top: int
) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        coming: deque[tuple[WebFilm, str]] = deque()

        def paths() -> Iterator[Path]:
            for number, film in enumerate(films):
                path = Path(folder) / f"{number}.dcm"
                coming.append((film, _get(client, film, path)))
                yield path

        for scored in score_files(engine, paths()):
            film, why_not = coming.popleft()
            error = why_not or scored.error.replace(str(scored.path), film.instance)
            if scored.scores is not None and send and scored.fits:
                error = _send(client, scored, model, top=top)
            scored.path.unlink(missing_ok=True)
            findings = model.description.findings
            numbers = [float("nan")] * len(findings) if scored.scores is None else scored.scores.tolist()
            yield _row(film, numbers, model, error=error, fit=scored.fit)


def _row(film: WebFilm, scores: list[float], model: ResultModel, *, error: str, fit: str) -> Row:
    calls = [model.call(*pair) for pair in zip(model.description.findings, scores, strict=True)] if model.point else []
    return Row(film.instance, scores, error, calls, fit)


class _Known:
    """The results of a model that a server has already; its answers are kept for one study at a time."""

    def __init__(self, client: DICOMwebClient, model: ResultModel, top: int):
        self._client, self._model, self._top = client, model, top
        self._study, self._series_of = "", dict[str, str]()

    def row(self, film: WebFilm) -> Row | None:
        """What the report of a film says; None if report or picture is not there, or says something else."""
        report = report_uid(film.instance, self._model)
        try:
            if film.study != self._study:
                found = self._client.search_for_instances(film.study, get_remaining=True)
                self._series_of = {_value(one, _INSTANCE): _value(one, _SERIES) for one in found}
                self._study = film.study
            if not {report, capture_uid(film.instance, self._model, self._top)} <= set(self._series_of):
                return None
            said = scores_of(self._client.retrieve_instance(film.study, self._series_of[report], report))
            scores = [float(np.float32(said[finding][0])) for finding in self._model.description.findings]
        except Exception:  # whatever the server sent, or did not: then the film is scored, and that says why it cannot
            return None
        return _row(film, scores, self._model, error="", fit=OK if self._model.description.gate else "")


def _get(client: DICOMwebClient, film: WebFilm, path: Path) -> str:
    """Write a film as a file; why that failed, in a sentence, empty if it did not."""
    try:
        got = client.retrieve_instance(*film, media_types=(("application/dicom", "*"),))
        if got.SOPInstanceUID != film.instance:
            return f"film must be the one that was asked for, got another for {film.instance}. Look at the server."
        got.save_as(path)
    except Exception as error:  # the client raises what requests and HTTP raise, pydicom what comes handy
        return f"film must come from the server, got {reason(error)} for {film.instance}. Run the command again."
    return ""


def _send(client: DICOMwebClient, scored: Scored, model: ResultModel, *, top: int) -> str:
    """Store a film's results; why that failed, in a sentence, empty if it did not."""
    try:
        objects = result_objects(scored.path, scored, model, now=datetime.now(), top=top)
    except ImageError as error:
        return str(error)
    try:
        answer = client.store_instances(objects)
    except Exception as error:  # the client raises what requests and HTTP raise
        return f"server must store the results, got {reason(error)}. Run the command again."
    return "server must store the results, got a refusal." if answer.get("FailedSOPSequence") else ""


def reason(error: Exception) -> str:
    """What went wrong in a request, without a word that the server chose: the status, or the kind of error."""
    response = getattr(error, "response", None)
    return type(error).__name__ if response is None else f"HTTP status {response.status_code}"


def _value(item: Mapping[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value", [])
    return str(values[0]) if values else ""


def _away(client: DICOMwebClient, error: Exception) -> HilumError:
    return HilumError(
        f"server must answer as DICOMweb at {client.base_url}, got {reason(error)}. "
        f"Check the address, --user and {PASSWORD}"
    )
