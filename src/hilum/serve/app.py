"""The web application: routes of the REST API and of the page, and what they answer."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from threading import Lock
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, File, Form, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp

import hilum
from hilum.errors import HilumError, ImageError, MissingExtraError
from hilum.metrics.operating_points import DEFAULT_POINT
from hilum.phantom.dataset import plan_films
from hilum.phantom.film import render
from hilum.serve.inference import FullError, Room, StoppedError
from hilum.serve.schemas import (
    READING_EXAMPLE,
    Deleted,
    KeptResult,
    KeptResults,
    ModelFacts,
    Prediction,
    ReaderOpinion,
    Refusal,
    State,
)
from hilum.serve.security import Access, Guard
from hilum.serve.uploads import RequestError, unpack

Done = TypeVar("Done")

STATIC = "static"
_ABOUT = f"""Scores, calls and heatmaps of frontal chest films (PNG, JPEG, DICOM, or a zip of them).

{hilum.DISCLAIMER}"""
_Responses = dict[int | str, dict[str, Any]]
_LATER = {"Retry-After": {"description": "seconds after which to try again", "schema": {"type": "integer"}}}
_ALL: _Responses = {
    401: {"model": Refusal, "description": "the token is missing or wrong"},
    403: {"model": Refusal, "description": "another site's page asks"},
    413: {"model": Refusal, "description": "too large, or too many films"},
    421: {"model": Refusal, "description": "the Host header names another server"},
}
_INVALID: _Responses = {422: {"model": Refusal, "description": "not what this document asks for"}}
_NONE: _Responses = {404: {"model": Refusal, "description": "there is none"}, **_INVALID}
_FILMS: _Responses = {
    **_INVALID,
    400: {"model": Refusal, "description": "not a form"},
    408: {"model": Refusal, "description": "the request came too slowly"},
    429: {"model": Refusal, "description": "too much is under way", "headers": _LATER},
    500: {"model": Refusal, "description": "the server failed; its log says where"},
    503: {"model": Refusal, "description": "not answered in time, or the server is being stopped"},
}
_CHUNK = 1 << 20


def application(room: Room, access: Access) -> ASGIApp:
    """Build the ASGI application with its middleware."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        room.close()

    app = FastAPI(
        title="Hilum",
        version=hilum.__version__,
        description=_ABOUT,
        docs_url=None,  # they would be loaded from another site
        redoc_url=None,
        lifespan=lifespan,
        responses=_ALL,
    )
    _add_refusals(app)
    _add_films(app, room)
    _add_pixels(app, room)
    _add_model(app, room)
    _add_kept(app, room)
    _add_page(app)
    return Guard(app, access, room.limits, room.counts)


def _add_films(app: FastAPI, room: Room) -> None:
    points: dict[str, Any] = {"enum": room.points} if room.points else {}
    at_point = Form(
        description="operating point of the calls; youden if not given", examples=["youden"], json_schema_extra=points
    )

    forcing = Form(description="score films that do not fit the model too; their results say so")

    @app.post("/v1/predict", responses=_FILMS, summary="Score films")
    async def predict(
        films: Annotated[list[UploadFile], File(min_length=1, description="PNG, JPEG, DICOM, or zip files of these")],
        point: Annotated[str | None, at_point] = None,
        heatmaps: Annotated[
            bool, Form(description="with a heatmap of each finding that is not below threshold")
        ] = False,
        regions: Annotated[bool, Form(description="with the outlined region of each such finding")] = False,
        keep: Annotated[bool, Form(description="keep the results, if the server does")] = False,
        force: Annotated[bool, forcing] = False,
    ) -> Prediction:
        """Scores, calls and, if asked for, heatmaps. A film that cannot be read, or does not fit, has the reason."""
        if keep and room.kept is None:
            raise RequestError(422, "keep must be false: this server keeps nothing. Start it with --keep FILE.")
        at = _point(room, point)
        uploads = await asyncio.to_thread(unpack, [(one.filename or "film", one.file) for one in films], room.limits)
        answers = await _held(
            room, len(uploads), lambda: room.answers(uploads, at, heatmaps=heatmaps, regions=regions, force=force)
        )
        if keep and room.kept is not None:
            for answer in answers:
                slim = [{**one.model_dump(), "heatmap": None, "region": None} for one in answer.findings]
                content = {**answer.model_dump(exclude={"id", "header"}), "findings": slim, "point": at}
                answer.id = await asyncio.to_thread(room.kept.add, content)
        return Prediction(films=answers, point=at)

    @app.post(
        "/v1/dicom",
        responses={**_FILMS, 200: {"content": {"application/zip": {}}}},
        response_class=Response,
        summary="A DICOM film's result as DICOM objects",
    )
    async def dicom(
        film: Annotated[UploadFile, File(description="one DICOM file")],
        point: Annotated[str | None, at_point] = None,
        force: Annotated[bool, forcing] = False,
    ) -> Response:
        """A zip file with a structured report (result.sr.dcm) and a picture (result.sc.dcm) in the film's own study.

        Of a film that does not fit the model there is the report alone: it says that it was not analysed, and why.
        """
        at = _point(room, point)
        upload = (await asyncio.to_thread(unpack, [(film.filename or "film", film.file)], room.limits))[0]
        try:
            content = await _held(room, 1, lambda: room.objects(upload, at, force=force))
        except (ImageError, MissingExtraError) as error:
            raise RequestError(422, str(error)) from None
        return Response(content, media_type="application/zip")

    @app.post(
        "/v1/reading",
        responses={**_FILMS, 200: {"content": {"application/dicom": {}}}},
        response_class=Response,
        summary="A reader's opinion on a DICOM film as a DICOM report",
    )
    async def reading(
        film: Annotated[UploadFile, File(description="one DICOM file")],
        reading: Annotated[str, Form(description=f"JSON: for each finding what the reader says. {READING_EXAMPLE}")],
        reader: Annotated[str, Form(description="the reader's name, as DICOM writes names: Family^Given")] = "",
        point: Annotated[str | None, at_point] = None,
    ) -> Response:
        """A structured report of a person in the film's own study: presence, the model's call, and comments."""
        at, said = _point(room, point), read_opinions(reading)
        upload = (await asyncio.to_thread(unpack, [(film.filename or "film", film.file)], room.limits))[0]
        try:
            content = await _held(room, 1, lambda: room.reading(upload, said, at, reader=reader))
        except HilumError as error:
            raise RequestError(422, str(error)) from None
        return Response(content, media_type="application/dicom")

    examples = _Examples()

    @app.get(
        "/v1/examples/{number}",
        response_class=Response,
        responses={**_NONE, 200: {"content": {"image/png": {}}}},
        summary="A phantom",
    )
    async def example(number: int) -> Response:
        """A simulated film to try the page with, as PNG."""
        drawn = await asyncio.to_thread(examples.film, number)
        if drawn is None:
            raise RequestError(404, f"number must be from 0 to {examples.count - 1}.")
        return Response(drawn, media_type="image/png")


def _add_pixels(app: FastAPI, room: Room) -> None:
    async def turn() -> AsyncIterator[list[memoryview]]:
        try:
            async with asyncio.timeout(room.limits.answer_s):
                await room.shown.acquire()
        except TimeoutError:
            raise _late(room) from None
        greys: list[memoryview] = []
        try:
            yield greys
        finally:  # after the answer was sent, or given up; then the error's frames would hold the film for a while
            for film in greys:
                film.release()
            room.shown.release()

    @app.post(
        "/v1/pixels",
        responses={**_FILMS, 200: {"content": {"application/octet-stream": {}}}},
        response_class=Response,
        summary="A film's greys, as the model sees them before they are resized",
    )
    async def pixels(
        film: Annotated[UploadFile, File(description="one PNG, JPEG or DICOM file")],
        greys: Annotated[list[memoryview], Depends(turn)],
    ) -> Response:
        """Grey values row by row, little-endian, black is 0; the X- headers say the rest."""
        upload = (await asyncio.to_thread(unpack, [(film.filename or "film", film.file)], room.limits))[0]
        try:
            read = await _held(room, 1, lambda: room.read(upload))
        except ImageError as error:
            raise RequestError(422, str(error)) from None
        rows, columns = read.pixels.shape
        depth = read.pixels.dtype.itemsize
        headers = {"X-Rows": str(rows), "X-Columns": str(columns), "X-Bits": str(8 * depth)}
        if read.spacing_mm is not None:
            headers["X-Spacing-Mm"] = "{:.6g},{:.6g}".format(*read.spacing_mm)
        content = np.ascontiguousarray(read.pixels, dtype=f"<u{depth}").data.cast("B")
        greys.append(content)
        headers["Content-Length"] = str(len(content))

        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(content), _CHUNK):
                yield bytes(content[start : start + _CHUNK])

        return StreamingResponse(parts(), media_type="application/octet-stream", headers=headers)


def _add_model(app: FastAPI, room: Room) -> None:
    @app.get("/v1/model", summary="The model that answers")
    async def model() -> ModelFacts:
        """Findings in plain words, thresholds, and AUROC with its interval where a report on these weights is there."""
        return room.facts

    @app.get("/health", summary="Whether the server lives")
    async def health() -> State:
        """Answer ok while the server lives."""
        return State(status="ok")

    @app.get("/ready", responses={503: {"model": State}}, summary="Whether the server takes films")
    async def ready(response: Response) -> State:
        """Answer 503 while the queue is full or the engine has stopped."""
        free = room.batches.alive and room.batches.taken < room.limits.waiting
        response.status_code = 200 if free else 503
        return State(status="ok" if free else "busy")

    text: _Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses=text, summary="Counts for Prometheus")
    async def metrics() -> PlainTextResponse:
        """Requests, seconds, films, and films that wait."""
        return PlainTextResponse(room.counts.text(waiting=room.batches.taken))


def _add_kept(app: FastAPI, room: Room) -> None:
    @app.get("/v1/results", responses=_INVALID, summary="Kept results")
    async def results(
        most: Annotated[int, Query(ge=1, le=1000)] = 100, after: Annotated[int, Query(ge=0, le=1 << 40)] = 0
    ) -> KeptResults:
        """Newest first, `most` of them after the first `after`."""
        kept = [] if room.kept is None else await asyncio.to_thread(room.kept.all, most=most, after=after)
        return KeptResults(results=[KeptResult(**one) for one in kept])

    @app.delete("/v1/results/{name}", responses=_NONE, summary="Delete a kept result")
    async def delete(name: str) -> Deleted:
        """It is gone from the file, too."""
        deleted = 0 if room.kept is None else await asyncio.to_thread(room.kept.delete, name)
        if not deleted:
            raise RequestError(404, "id must be that of a kept result.")
        return Deleted(deleted=deleted)

    @app.delete("/v1/results", summary="Delete all kept results")
    async def delete_all() -> Deleted:
        """All of them."""
        return Deleted(deleted=0 if room.kept is None else await asyncio.to_thread(room.kept.delete, None))


def _add_page(app: FastAPI) -> None:
    place = files("hilum.serve") / STATIC

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(str(place / "index.html"))

    app.mount("/static", StaticFiles(directory=str(place)), name="static")


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status)

    @app.exception_handler(FullError)
    async def busy(_: Request, error: FullError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 429, headers={"retry-after": str(error.retry_after_s)})

    @app.exception_handler(StoppedError)
    async def stopped(_: Request, error: StoppedError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # without what was sent: it may be a patient's
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{where} must be as the OpenAPI document says: {first['msg']}."}, 422)


async def _held(room: Room, films: int, work: Callable[[], Awaitable[Done]]) -> Done:
    """Run `work` for `films` films: 429 if the queue is full, 503 on timeout."""
    room.batches.take(films)
    try:
        return await asyncio.wait_for(work(), room.limits.answer_s)
    except TimeoutError:
        raise _late(room) from None
    finally:
        room.batches.give_back(films)


def read_opinions(text: str) -> dict[str, ReaderOpinion]:
    """A reading as a request has it.

    Raises:
        RequestError: if it is not JSON of opinions by finding.
    """
    try:
        return TypeAdapter(dict[str, ReaderOpinion]).validate_json(text)
    except ValidationError as error:  # without what was sent: it may be of a patient
        why = error.errors()[0]["msg"]
        raise RequestError(422, f"reading must be JSON such as {READING_EXAMPLE}: {why}.") from None


def _late(room: Room) -> RequestError:
    return RequestError(503, f"films must be answered within {room.limits.answer_s:g} s, and were not.")


def _point(room: Room, point: str | None) -> str | None:
    if point is None:
        return DEFAULT_POINT if DEFAULT_POINT in room.points else None
    if point not in room.points:
        raise RequestError(
            422, f"point must be one of {', '.join(room.points) or 'none: the model has no thresholds'}."
        )
    return point


_EXAMPLE_SIDE, _EXAMPLE_SEED = 512, 4


class _Examples:
    """A few phantom films to try the page with, as PNG files in memory; drawn when they are first asked for."""

    count = 6

    def __init__(self) -> None:
        self._lock = Lock()
        self._drawn: dict[int, bytes] = {}

    def film(self, number: int) -> bytes | None:
        """One of them; None if there is none of that number."""
        if not 0 <= number < self.count:
            return None
        with self._lock:  # drawn once, however many ask
            if number not in self._drawn:
                file = io.BytesIO()
                plan = plan_films(self.count, _EXAMPLE_SEED)[number].plan
                Image.fromarray(render(plan, _EXAMPLE_SIDE)[0]).save(file, format="PNG", compress_level=1)
                self._drawn[number] = file.getvalue()
            return self._drawn[number]
