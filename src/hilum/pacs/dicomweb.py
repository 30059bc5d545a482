"""Films from any DICOMweb server and results back to it: QIDO to find, WADO to get, STOW to store."""

import logging
import math
import os
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from requests import HTTPError, Session

from hilum.data.dicom import FILM_CLASSES
from hilum.data.quality import OK
from hilum.errors import HilumError, ImageError
from hilum.messages import quiet_dicom
from hilum.model.engines import Engine
from hilum.pacs.results import (
    ResultModel,
    capture_uid,
    fit_in,
    not_analysed_uid,
    report_uid,
    result_objects,
    scores_of,
)
from hilum.predict.files import Row
from hilum.predict.scoring import Scored, is_fit, score_files

PASSWORD = "HILUM_WEB_PASSWORD"
MODALITIES = ("CR", "DX")

_NOT_FOUND = 404
_RANGED = ("DA", "TM", "DT")
_STUDY, _SERIES, _CLASS, _INSTANCE = "0020000D", "0020000E", "00080016", "00080018"


class WebFilm(NamedTuple):
    """Where a film is on a server: the identifiers of its study, its series and itself."""

    study: str
    series: str
    instance: str
    unsaid: tuple[tuple[str, str], ...] = ()  # filters that the server's answers did not speak of


@dataclass
class Found:
    """What a search of a server left out, and why; a message says it at the end.

    Attributes:
        filtered: films and series that do not fit the filter that was asked for.
        others: instances that turned out to be no films.
        unnamed: answers without the identifiers that a film is fetched by.
        repeated: what was found before an answer came again, where the server does not go on at an offset.
    """

    filtered: int = 0
    others: int = 0
    unnamed: int = 0
    repeated: list[str] = field(default_factory=list)

    @property
    def sentences(self) -> list[str]:
        """What a user must know, empty if the server did as it was asked."""
        said = [*self.repeated]
        if self.filtered:
            said.append(
                f"Left out {self.filtered:,} series or films: the server gave them, but they do not fit --filter."
            )
        if self.others:
            said.append(f"Left out {self.others:,} objects of CR and DX series that are no films.")
        if self.unnamed:
            said.append(f"Left out {self.unnamed:,} answers of the server without identifiers: they cannot be fetched.")
        return said


def open_client(url: str, user: str | None, *, password: str | None = None) -> DICOMwebClient:
    """A client for a server; the password of a user is in the environment, in HILUM_WEB_PASSWORD, or in the address.

    Args:
        password: of the user; that of the environment if None.

    Raises:
        HilumError: if the address is none; it is not repeated where it may hold a password.
    """
    try:
        parts = urlsplit(url)
        credentials, _, host = parts.netloc.rpartition("@")
        if ("@" in url and not credentials) or parts.port == 0:  # reading the port refuses one that is none
            raise ValueError("a password must have its own #, / and ? written as %23, %2F and %3F")
        bare = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        name, _, in_address = credentials.partition(":")
        if credentials and not user:
            session = create_session_from_user_pass(unquote(name), unquote(in_address))
        else:
            known = os.environ.get(PASSWORD, "") if password is None else password
            session = create_session_from_user_pass(user, known) if user else Session()
        client = DICOMwebClient(bare, session=session)
    except ValueError:
        got = "another" if "@" in url else repr(url)
        raise HilumError(f"url must be like http://host:8042/dicom-web, got {got}. Check the address") from None
    client.set_http_retry_params(retry=False)
    logging.getLogger("retrying").setLevel(logging.CRITICAL)  # it prints a traceback for what is a sentence here
    return client


def find_films(client: DICOMwebClient, filters: Mapping[str, str], found: Found | None = None) -> Iterator[WebFilm]:
    """The films of CR and DX series that fit the filters, such as StudyDate=20260101-20260131; each once.

    What the server answers is held against the filters: some servers ignore those that they do not know.

    Args:
        found: counts what is left out.

    Raises:
        HilumError: if the server cannot be asked, or the filters ask for another modality.
    """
    found = found if found is not None else Found()
    wanted = filters.get("Modality")
    modalities = [one for one in MODALITIES if wanted is None or _fits(one, wanted, "CS")]
    if not modalities:
        raise HilumError(f"filter Modality must be {' or '.join(MODALITIES)}, got {wanted!r}. Other films are not read")
    seen: set[str] = set()
    try:
        for modality in modalities:
            asked = {**filters, "Modality": modality}
            fields = [*dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", *asked))]
            series_pages = _pages(
                client.search_for_series, f"{modality} series", found, search_filters=asked, fields=fields
            )
            for series in series_pages:
                study, number = _value(series, _STUDY), _value(series, _SERIES)
                if not study or not number:
                    found.unnamed += 1
                elif not all(_answer_fits(series, *one) for one in asked.items()):
                    found.filtered += 1
                else:
                    yield from _instances(client, study, number, asked, seen, found)
    except HilumError:
        raise
    except Exception as error:  # the client raises what requests and HTTP raise
        raise _away(client, error) from error


def _instances(
    client: DICOMwebClient, study: str, series: str, asked: Mapping[str, str], seen: set[str], found: Found
) -> Iterator[WebFilm]:
    """The films of a series that were not seen yet. One whose class the answer does not say may be one."""

    def search(**options: Any) -> list[Any]:
        return list(client.search_for_instances(study, series, **options))

    for film in _pages(search, f"instances of series {series}", found):
        instance, kind = _value(film, _INSTANCE), _value(film, _CLASS)
        if not instance:
            found.unnamed += 1
        elif instance in seen or (kind and kind not in FILM_CLASSES):
            continue
        elif not all(_answer_fits(film, *one) for one in asked.items()):
            found.filtered += 1
        else:
            seen.add(instance)
            unsaid = {key: value for key, value in asked.items() if not _value(film, _tag(key) or key)}
            yield WebFilm(study, series, instance, tuple(unsaid.items()))


def _pages(search: Callable[..., Any], what: str, found: Found, **options: Any) -> Iterator[dict[str, Any]]:
    """All that a search finds, page after page, each answer once; a page that brings nothing new is the last.

    Servers may give fewer answers at a time than there are. Some do not know `offset`, and give the same for ever.
    """
    seen: set[tuple[str, str, str]] = set()
    offset = 0
    while True:
        try:
            page = list(search(offset=offset, **options))
        except HTTPError as error:
            if offset and error.response is not None and error.response.status_code == _NOT_FOUND:
                return  # how some servers say that nothing is left
            raise
        if not page:
            return
        fresh = 0
        for item in page:
            key = _value(item, _STUDY), _value(item, _SERIES), _value(item, _INSTANCE)
            if not any(key) or key not in seen:
                fresh += any(key)
                seen.add(key)
                yield item
        if not fresh:
            if offset:
                found.repeated.append(
                    f"The server gave the same {len(page):,} {what} again when it was asked to go on after {offset:,}. "
                    "If there are more, it does not give them: ask for fewer at a time with --filter."
                )
            return
        offset += len(page)


def _answer_fits(item: Mapping[str, Any], key: str, asked: str) -> bool:
    """Whether an answer fits one filter, as far as it says."""
    tag = _tag(key)
    if tag is None or tag not in item:
        return True
    values = [_text(value) for value in item[tag].get("Value", []) if value is not None]
    return not values or any(_fits(value, asked, str(item[tag].get("vr", ""))) for value in values)


def _text(value: Any) -> str:
    """A value of an answer as text; a name is an object of its spellings."""
    return str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)


def _fits(value: str, asked: str, kind: str) -> bool:
    """Whether a value fits a filter: a range of dates or times, one of several, or a pattern of * and ?.

    Source: DICOM PS3.4, C.2.2.2. https://dicom.nema.org/medical/dicom/current/output/html/part04.html
    """
    if kind in _RANGED and "-" in asked:
        first, _, last = asked.partition("-")
        return (not first or value[: len(first)] >= first) and (not last or value[: len(last)] <= last)
    options = re.split(r"[\\,]", asked) if kind == "UI" else asked.split("\\")
    patterns = (re.escape(one.strip()).replace(r"\*", ".*").replace(r"\?", ".") for one in options)
    return any(re.fullmatch(pattern, value.strip(), re.IGNORECASE | re.DOTALL) for pattern in patterns)


def _tag(key: str) -> str | None:
    """The tag of a filter's key, which is a keyword or the tag itself; None for what is no element."""
    if re.fullmatch("[0-9A-Fa-f]{8}", key):
        return key.upper()
    tag = tag_for_keyword(key)
    return None if tag is None else f"{tag:08X}"


def _header_fits(header: Dataset, unsaid: tuple[tuple[str, str], ...]) -> bool:
    """Whether a fetched film fits the filters that the server's answers did not speak of."""
    for key, asked in unsaid:
        tag = _tag(key)
        if tag is None or int(tag, 16) not in header:
            continue
        element = header[int(tag, 16)]
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        if not any(_fits(str(value if value is not None else ""), asked, str(element.VR)) for value in values):
            return False
    return True


def predict_from_web(
    client: DICOMwebClient,
    films: Iterator[WebFilm],
    engine: Engine,
    model: ResultModel,
    *,
    send: bool,
    top: int = 3,
    found: Found | None = None,
    force: bool = False,
) -> Iterator[Row]:
    """Score films of a server; a film that fails is a row that says why, as in `hilum predict`.

    Args:
        send: whether reports and pictures go back to the server. Films that have theirs there already, from this model
            at this operating point, are not scored again: their rows are read from the reports.
        top: heatmaps in a picture.
        found: counts films that turn out not to fit the filters when they are there.
        force: whether films that do not fit the model are scored too.
    """
    found = found if found is not None else Found()
    known = _Known(client, model, top, force) if send else None
    looked_up = ((film, known.row(film) if known else None) for film in films)
    for is_new, group in groupby(looked_up, key=lambda pair: pair[1] is None):
        if is_new:
            yield from _score(
                client, (film for film, _ in group), engine, model, found, send=send, top=top, force=force
            )
        else:
            yield from (row for _, row in group if row is not None)


def _score(
    client: DICOMwebClient,
    films: Iterator[WebFilm],
    engine: Engine,
    model: ResultModel,
    found: Found,
    *,
    send: bool,
    top: int,
    force: bool,
) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        coming: deque[tuple[WebFilm, str]] = deque()

        def paths() -> Iterator[Path]:
            for number, film in enumerate(films):
                path = Path(folder) / f"{number}.dcm"
                why_not = _get(client, film, path, found)
                if why_not is None:
                    continue
                coming.append((film, why_not))
                yield path

        for scored in score_files(engine, paths(), force=force):
            film, why_not = coming.popleft()
            error = why_not or scored.error.replace(str(scored.path), film.instance)
            if not error and send:
                error = _send(client, scored, model, top=top)
            scored.path.unlink(missing_ok=True)
            findings = model.description.findings
            numbers = [float("nan")] * len(findings) if scored.scores is None else scored.scores.tolist()
            yield _row(film, numbers, model, error=error, fit=scored.fit)


def _row(film: WebFilm, scores: list[float], model: ResultModel, *, error: str, fit: str) -> Row:
    calls = [model.call(*pair) for pair in zip(model.description.findings, scores, strict=True)] if model.point else []
    return Row(film.instance, scores, error, calls, fit, forced=not (is_fit(fit) or math.isnan(scores[0])))


class _Known:
    """The results of a model that a server has already; its answers are kept for one study at a time."""

    def __init__(self, client: DICOMwebClient, model: ResultModel, top: int, force: bool):
        self._client, self._model, self._top, self._force = client, model, top, force
        self._study, self._series_of = "", dict[str, str]()

    def row(self, film: WebFilm) -> Row | None:
        """What the report of a film says; None if report or picture is not there, or says something else."""
        findings = self._model.description.findings
        try:
            if film.study != self._study:
                instances = _pages(partial(self._client.search_for_instances, film.study), "instances", Found())
                self._series_of = {_value(one, _INSTANCE): _value(one, _SERIES) for one in instances}
                self._study = film.study
            report = self._report(film.instance)
            if report is None:
                return None
            read = self._client.retrieve_instance(film.study, self._series_of[report], report)
            said, fit = scores_of(read), fit_in(read)
            scores = [float(np.float32(said[finding][0])) for finding in findings] if said else []
        except Exception:  # whatever the server sent, or did not: then the film is scored, and that says why it cannot
            return None
        if not scores and not fit:
            return None
        checked = OK if self._model.description.quality_check else ""
        return _row(film, scores or [float("nan")] * len(findings), self._model, error="", fit=fit or checked)

    def _report(self, instance: str) -> str | None:
        """The report of a film that is on the server with its picture, if it has one, as it would be made now."""
        for forced in (False, True) if self._force else (False,):
            report = report_uid(instance, self._model, forced=forced)
            if {report, capture_uid(instance, self._model, self._top, forced=forced)} <= set(self._series_of):
                return report
        report = not_analysed_uid(instance, self._model)
        return report if report in self._series_of and not self._force else None


def _get(client: DICOMwebClient, film: WebFilm, path: Path, found: Found) -> str | None:
    """Write a film as a file; why that failed, in a sentence, empty if it did not, None if it is to be left out."""
    try:
        with quiet_dicom():
            got = client.retrieve_instance(*film[:3], media_types=(("application/dicom", "*"),))
            if got.SOPInstanceUID != film.instance:
                return f"film must be the one that was asked for, got another for {film.instance}. Look at the server."
            if got.get("SOPClassUID") not in FILM_CLASSES:
                found.others += 1
                return None
            if not _header_fits(got, film.unsaid):
                found.filtered += 1
                return None
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
    if not objects:
        return ""
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
