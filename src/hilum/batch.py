"""Score many files resumably: scores are on disk batch by batch, on this machine or on a Ray cluster."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

from hilum.errors import HilumError, extras_named
from hilum.files import alone, write_whole
from hilum.messages import messages, track
from hilum.metrics.thresholds import Threshold
from hilum.model.devices import Device
from hilum.model.engines import (
    EXPORT_JSON,
    Engine,
    EngineName,
    Precision,
    description_of,
    is_export,
    open_engine,
    state_bits,
)
from hilum.model.metadata import BUNDLE_JSON
from hilum.model.thresholds import call
from hilum.predict.files import LeftOut, Listed, Listing, Row, Table, check_out, expand, write_rows
from hilum.predict.scoring import Scored, is_fit, score_batches

FORMAT = 4

LoggedFilm = tuple[str, list[float] | None, str, str]
"""A film's error or note, its scores if any, whether it fits, and of a DICOM film what tells it from others."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; a run goes on only under the same command.

    Attributes:
        inputs: files, folders and patterns.
        heatmaps: folder for each film's `top` overlays; see write_heatmaps.
        ray: address of a Ray cluster that does the work, "local" for one on this machine.
        calls: the operating point for a call per finding beside the scores; none if None.
        dicom: folder for each film's structured report and picture; see hilum.pacs.results.
        fhir: folder for each film's FHIR bundle; see hilum.pacs.fhir.
        bits: how many bits the films' values have, see hilum.data.images.read; as the model says if None.
        force: whether films that do not fit the model are scored too.
        release: of FHIR.
        device: where torch computes.
    """

    run: Path
    inputs: tuple[str, ...]
    engine: EngineName | Literal["auto"] = "auto"
    precision: Precision | None = None
    heatmaps: Path | None = None
    top: int = 3
    ray: str | None = None
    calls: str | None = None
    dicom: Path | None = None
    fhir: Path | None = None
    bits: int | None = None
    force: bool = False
    release: Literal["R5", "R4B"] = "R5"
    device: Device = "auto"


@dataclass(frozen=True)
class Job:
    """A run that has begun: its folder, and what was chosen for it once and for all.

    Attributes:
        batch: films per forward pass. It is kept, as the last bits of scores may depend on it.
        done: batches whose scores are on disk.
    """

    folder: Path
    asked: Asked
    engine: EngineName
    precision: Precision
    batch: int
    findings: tuple[str, ...]
    done: int = 0

    @property
    def listing(self) -> Listing:
        """The films in their order."""
        return Listing(self.folder)

    @property
    def films(self) -> int:
        """How many films there are."""
        return len(self.listing)

    @property
    def log(self) -> Path:
        """The scores so far: one line of JSON for each batch."""
        return self.folder / "scores.jsonl"


class Counts(NamedTuple):
    """How many films a run had, and what became of them.

    Attributes:
        bad: could not be read.
        noted: were read, and have a note in `error`.
        unfit: were read and have no scores, as they do not fit the model.
    """

    films: int
    bad: int
    noted: int = 0
    unfit: int = 0

    def to_dict(self) -> dict[str, int]:
        """As JSON; notes and films that do not fit only where there are any."""
        return {name: count for name, count in self._asdict().items() if count or name in ("films", "bad")}


class Instances:
    """The DICOM films of a run by their SOP Instance UID, which names one film and no other."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str]] = {}

    def clash(self, instance: str, film: str) -> str:
        """Why a film is not the one that its identifier names, in a sentence; empty if it is, or has none.

        Args:
            instance: see `_instance`.
        """
        uid, _, digest = instance.partition(" ")
        first, known = self._seen.setdefault(uid, (film, digest)) if uid else (film, digest)
        if known == digest:
            return ""
        return (
            f"film must have a SOP Instance UID of its own, got {uid} in {film!r}, "
            f"which {first!r} has with other pixels. Ask whoever wrote the two which is right."
        )


def _instance(scored: Scored) -> str:
    """A DICOM film's SOP Instance UID and a hash of what the network sees of it."""
    if not scored.instance or scored.image is None:
        return ""
    return f"{scored.instance} {hashlib.blake2b(scored.image.tobytes(), digest_size=8).hexdigest()}"


def predict_to_file(asked: Asked, out: Path, *, resume: bool = False) -> Counts:
    """Score files into CSV, JSON or Parquet, by the suffix of `out`, which appears when all is done.

    Until then everything is in a folder beside it, .NAME.unfinished; a killed run goes on there, film for film.

    Raises:
        HilumError: if there is an unfinished run and it is not to be resumed, was begun by another command, or is at
            work in another process.
        ImageError: if an input names nothing.
        BundleError: if there is no bundle.
    """
    check_out(out)
    _check(asked)
    folder = out.parent / f".{out.name}.unfinished"
    if resume and out.exists() and not (folder / "job.json").is_file():
        raise HilumError(f"resume must find an unfinished run, but {out} is finished. Start anew without --resume")
    with alone(folder):
        return _predict_in(folder, asked, out, resume=resume)


def _predict_in(folder: Path, asked: Asked, out: Path, *, resume: bool) -> Counts:
    unfinished = (folder / "job.json").is_file()
    if unfinished and not resume:
        raise HilumError(f"out must not have an unfinished run, got {folder}. Go on with --resume, or delete it")
    job, engine = _resumed(folder, asked) if unfinished else _begun(folder, asked)
    job = _score(job, engine)
    beside = folder / f"predictions{out.suffix}"
    table, counts = _table(job)
    write_rows(table, beside)
    beside.replace(out)
    shutil.rmtree(folder)
    return counts


@contextmanager
def predicted(asked: Asked) -> Iterator[tuple[Table, Counts]]:
    """Score files without a file for the scores; the rows are there inside the block, and can be read once.

    Raises:
        ImageError: if an input names nothing.
        BundleError: if there is no bundle.
    """
    _check(asked)
    with tempfile.TemporaryDirectory() as folder:
        job = _score(*_begun(Path(folder), asked))
        yield _table(job)


def answers(job: Job, engine: Engine, films: Iterator[Listed]) -> Iterator[list[LoggedFilm]]:
    """What the engine says of films, batch by batch; heatmaps and results are written on the way."""
    names: list[str] = []
    write_results, instances = _results_writer(job.asked, engine), Instances()

    def with_results(scored: Scored, film: str) -> Scored:
        clash = instances.clash(_instance(scored), film)
        if write_results is None or clash:
            return replace(scored, error=clash or scored.error)
        return write_results(scored, film)

    def paths() -> Iterator[Path]:
        for film, path in films:
            names.append(film)
            yield path

    for batch in score_batches(engine, paths(), batch=job.batch, force=job.asked.force):
        for scored, film in zip(batch, names, strict=False):
            if job.asked.heatmaps is not None:
                from hilum.predict.heatmaps import write_heatmaps

                write_heatmaps(
                    engine.description,
                    scored,
                    job.asked.heatmaps,
                    film=film,
                    top=job.asked.top,
                    point=job.asked.calls,
                )
        batch = [with_results(scored, film) for scored, film in zip(batch, names, strict=False)]
        del names[: len(batch)]
        yield [
            (scored.error, None if scored.scores is None else scored.scores.tolist(), scored.fit, _instance(scored))
            for scored in batch
        ]


def _results_writer(asked: Asked, engine: Engine | None = None) -> Callable[[Scored, str], Scored] | None:
    if asked.dicom is None and asked.fhir is None:
        return None
    from hilum.pacs.writer import results_writer

    return results_writer(
        asked.run,
        asked.calls,
        dicom=asked.dicom,
        fhir=asked.fhir,
        top=asked.top,
        bits=asked.bits,
        engine=engine,
        release=asked.release,
    )


def _begun(folder: Path, asked: Asked) -> tuple[Job, Engine]:
    try:
        _results_writer(asked)  # what is wrong with it shall be said before there is work to lose
        for left in folder.iterdir():  # of a run that was killed before it began
            left.unlink()
        listing = Listing(folder)
        left_out = LeftOut()
        listing.write(expand(asked.inputs, left_out))
        if left_out.others:
            messages().print(str(left_out), markup=False)
        engine = open_engine(
            asked.run, engine=asked.engine, precision=asked.precision, films=len(listing), device=asked.device
        )
        state_bits(engine, asked.bits)
        chosen: dict[str, Any] = {
            "engine": engine.name,
            "precision": engine.precision,
            "batch": min(engine.batch, len(listing)),
            "findings": engine.description.findings,
        }
        job = Job(folder, asked, **chosen)
        content = {"format": FORMAT, "asked": _identity(asked), "chosen": chosen}
        write_whole(folder / "job.json", json.dumps(content, indent=2).encode())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return job, engine


def _resumed(folder: Path, asked: Asked) -> tuple[Job, Engine]:
    identity = _identity(asked)
    try:
        content = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        begun, chosen = content["asked"], {**content["chosen"], "findings": tuple(content["chosen"]["findings"])}
        differs = [key for key, value in identity.items() if begun.get(key) != value]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise HilumError(
            f"job.json must be whole, got a damaged one in {folder}. Delete the folder to start anew"
        ) from None
    if content["format"] != FORMAT or begun != identity:
        raise HilumError(
            f"resume must have the command that began {folder}, but {', '.join(differs) or 'format'} differs. "
            "Give the same command, or delete the folder to start anew"
        )
    job = Job(folder, asked, **chosen)
    engine = open_engine(asked.run, engine=job.engine, precision=job.precision, films=job.films, device=asked.device)
    state_bits(engine, asked.bits)
    done, end = 0, 0
    with job.log.open("a+b") as log:
        log.seek(0)
        for line in log:
            try:
                json.loads(line if line.endswith(b"\n") else b"")
            except ValueError:  # cut off by the kill
                break
            done, end = done + 1, end + len(line)
        log.truncate(end)
    return replace(job, done=done), engine


def _identity(asked: Asked) -> dict[str, Any]:
    """What a run depends on, as JSON: the command, where it was given, and the bundle's content."""
    description = asked.run / (EXPORT_JSON if is_export(asked.run) else BUNDLE_JSON)
    bundle = hashlib.sha256(description.read_bytes()).hexdigest()
    words = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(asked).items()}
    return {**words, "inputs": list(asked.inputs), "working_folder": str(Path.cwd()), "bundle": bundle}


def _score(job: Job, engine: Engine) -> Job:
    """Do the batches that are not done yet; the job with all done."""
    messages().print(f"Engine: {engine.name} in {engine.precision}. {engine.note}".rstrip())
    with job.log.open("ab", buffering=0) as log:
        rest = max(0, job.films - job.done * job.batch)
        for _ in track(_logged(job, engine, log), "scoring films", total=rest):
            pass
    return replace(job, done=-(-job.films // job.batch))


def _logged(job: Job, engine: Engine, log: IO[bytes]) -> Iterator[LoggedFilm]:
    if job.asked.ray is None:
        batches = answers(job, engine, job.listing.read(job.done * job.batch))
    else:
        batches = ray_answers(job)
    for batch in batches:
        log.write(json.dumps(batch).encode() + b"\n")  # in one write, so that a kill leaves whole lines and one part
        yield from batch


def _table(job: Job) -> tuple[Table, Counts]:
    """The rows of a run that is done, and how many there are of each kind."""
    bad, noted, unfit, gated = 0, 0, 0, description_of(job.asked.run).quality_check is not None
    for row, scored in _rows(job):
        is_unfit = not scored and not is_fit(row.fit)
        unfit += is_unfit
        bad += not scored and not is_unfit
        noted += (scored or is_unfit) and bool(row.error)
        gated = gated or bool(row.fit)
    rows, asked = (row for row, _ in _rows(job)), job.asked
    table = Table(job.findings, rows, bad + noted > 0, asked.calls is not None, gated, asked.force)
    return table, Counts(job.films, bad, noted, unfit)


def _check(asked: Asked) -> None:
    """Refuse, before any work is done, what could only fail at its end."""
    _thresholds(asked)
    if asked.heatmaps is not None and asked.heatmaps.exists() and not asked.heatmaps.is_dir():
        raise HilumError(f"heatmaps must be a folder, but {asked.heatmaps} is a file. Name a new folder")


def _thresholds(asked: Asked) -> list[Threshold | None]:
    """What calls are made with, in the order of the bundle's findings; empty if none are wanted."""
    description = description_of(asked.run)
    return [] if asked.calls is None else description.call_thresholds(asked.calls, where=asked.run)


def _rows(job: Job) -> Iterator[tuple[Row, bool]]:
    """Each film's row, and whether it has scores."""
    films, thresholds, instances = job.listing.read(), _thresholds(job.asked), Instances()
    with job.log.open("rb") as log:
        for line in log:
            batch = json.loads(line)
            for (film, _), (error, scores, fit, instance) in zip(islice(films, len(batch)), batch, strict=True):
                numbers = [float("nan")] * len(job.findings) if scores is None else scores
                calls = [call(*pair) for pair in zip(numbers, thresholds, strict=True)] if thresholds else []
                clash = instances.clash(instance, film)  # all over again, for what a resumed run or Ray did apart
                forced = job.asked.force and not is_fit(fit)
                yield Row(film, numbers, error or clash, calls, fit, forced), scores is not None


FILMS_A_TASK = 256
"""What a worker answers for at a time, and what is done again where one is lost."""

WORKERS_A_NODE = 1
"""An engine takes all cores of its node."""

_THREADS = "OMP_NUM_THREADS"
_STORE_BYTES = 128 << 20  # answers are small; films do not go through Ray


class RayWorker:
    """An engine on a node. It reads the listing and the films itself, in the folder where the command was given."""

    def __init__(self, job: Job, working_folder: Path, batches: int, threads: str | None):
        os.chdir(working_folder)
        if threads is None:  # Ray sets 1 for a worker that asks for less than two cores; the engine takes all
            os.environ.pop(_THREADS, None)
        self.job, self.batches = job, batches
        asked = job.asked
        engine = open_engine(asked.run, engine=job.engine, precision=job.precision, device=asked.device)
        self.engine = state_bits(engine, asked.bits)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        """The task's batches, as JSON."""
        first = self.job.done + int(task["id"]) * self.batches
        films = islice(self.job.listing.read(first * self.job.batch), self.batches * self.job.batch)
        return {"answers": json.dumps(list(answers(self.job, self.engine, films)))}


def ray_answers(job: Job) -> Iterator[list[LoggedFilm]]:
    """As hilum.batch.answers, for the films of a job that are not done; a lost worker's films are done again.

    Films, bundle and output must have the same paths on every node.

    Raises:
        MissingExtraError: if Ray is not installed.
        HilumError: if there is no cluster at the address, or a worker cannot work.
    """
    with extras_named():
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.exceptions import RayError
    batches = -(-FILMS_A_TASK // job.batch)
    tasks = -(-(job.films - job.done * job.batch) // (batches * job.batch))
    if tasks <= 0:
        return
    threads = os.environ.get(_THREADS)
    try:
        _connect(str(job.asked.ray))
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        nodes = sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
        answered = ray.data.range(tasks, override_num_blocks=tasks).map(
            cast(Any, RayWorker),
            fn_constructor_args=(job, Path.cwd(), batches, threads),
            compute=ActorPoolStrategy(size=min(nodes * WORKERS_A_NODE, tasks)),
            num_cpus=0.5,  # room for Ray's own tasks on a node with one core
        )
        for task in answered.iter_rows():
            yield from json.loads(task["answers"])
    except (RayError, ConnectionError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise HilumError(f"ray must be a cluster that can do the work, got {job.asked.ray!r}: {reason}") from error
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address != "local":
        ray.init(address=address, **options)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by the processes that Ray starts
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        **options,
    )
