"""The models of a node: whole, verified copies in its own folder, switched all at once, and back by name."""

import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from hilum.errors import BundleError, HilumError
from hilum.files import write_whole
from hilum.model.engines import (
    ENGINE_JSON,
    EXPORT_JSON,
    FILES,
    Choice,
    Engine,
    EngineName,
    Precision,
    choose_engine,
    file_sha256,
    is_export,
    open_engine,
    read_choice,
    read_exported,
    state_bits,
    write_choice,
)
from hilum.model.metadata import BUNDLE_JSON, WEIGHTS
from hilum.pacs.config import MAIN, ConfigError, Model, NodeConfig, Route
from hilum.pacs.results import ResultModel, result_model

_LOG = logging.getLogger("hilum.node")
_KEPT_JSON, _PINS_JSON, _CHOICES = "kept.json", "pins.json", "engines"
_KEPT = re.compile(r"[0-9a-f]{12}-[a-z]+-[a-z0-9]+")
_MOST_KEPT = 5


class KeptModel(NamedTuple):
    """A copy of a model that the node can switch to.

    Attributes:
        name: the start of the bundle's hash, engine and precision, such as 3f2a91c04b7e-openvino-int8.
        source: the folder that it was copied from.
    """

    name: str
    engine: EngineName
    precision: Precision
    source: str


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to score, and how its results look.

    Attributes:
        name: of its copy; see KeptModel.
    """

    name: str
    engine: Engine
    results: ResultModel
    heatmaps: int
    force: bool


class Models:
    """The models of a node by the names of their routes; `main` takes what no route takes.

    A model is copied into the node's folder, verified there, read into memory and tried before it is used, so that
    whatever happens to the folder it came from changes nothing until the next `load`.

    Args:
        folder: for copies, choices of engines, and what was rolled back to.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._lock = threading.Lock()
        self._routes: tuple[Route, ...] = ()
        self._loaded: Mapping[str, Loaded] = {}

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        """The models that score now, by route."""
        with self._lock:
            return self._loaded

    def use(self, routes: tuple[Route, ...], loaded: Mapping[str, Loaded]) -> None:
        """Switch to other models; a film that is being scored is finished by the one it began with."""
        with self._lock:
            self._routes, self._loaded = routes, dict(loaded)

    def choose(self, *, calling: str, station: str, study: str) -> Loaded:
        """The model of the first route that takes a film; `main` if none does."""
        with self._lock:
            routes, loaded = self._routes, self._loaded
        for route in routes:
            if route.takes(calling=calling, station=station, study=study):
                return loaded[route.name]
        return loaded[MAIN]

    @property
    def by_header(self) -> bool:
        """Whether a film's header must be read to choose its model."""
        return bool(self._routes)

    def load(self, config: NodeConfig, *, to: Mapping[str, str] | None = None) -> list[str]:
        """Read, verify and try all models of a configuration, then switch to them at once; what changed, in words.

        Args:
            to: names of kept models by route, to go back to; they stay until the next load without them. If None, what
                was gone back to before stays.

        Raises:
            HilumError: if any cannot be used; then all stay what they were.
        """
        pins = self.pins() if to is None else dict(to)
        wanted = config.models()
        unknown = set(pins) - set(wanted)
        if unknown and to is not None:
            raise HilumError(f"route must be one of {', '.join(wanted)}, got {', '.join(sorted(unknown))}")
        loaded = {}
        for route, model in wanted.items():
            name = pins.get(route) or self._copy(model)
            loaded[route] = self._open(name, model)
        before = self.loaded
        self._write_pins({route: name for route, name in pins.items() if route in wanted})
        self.use(tuple(config.route), loaded)
        self._prune({one.name for one in loaded.values()} | {one.name for one in before.values()})
        return [
            f"{route} is {one.name}{' (gone back to)' if route in pins else ''}"
            + (f", was {before[route].name}" if route in before and before[route].name != one.name else "")
            for route, one in loaded.items()
        ]

    def pins(self) -> dict[str, str]:
        """The kept models that were gone back to, by route."""
        try:
            content = json.loads((self._folder / _PINS_JSON).read_text(encoding="utf-8"))
            return {str(route): str(name) for route, name in content.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def kept(self) -> list[KeptModel]:
        """The copies that there are, the newest first."""
        places = [place for place in self._folder.glob("*/" + _KEPT_JSON) if _KEPT.fullmatch(place.parent.name)]
        places.sort(key=lambda place: place.stat().st_mtime, reverse=True)
        return [self._kept(place.parent.name) for place in places]

    def _write_pins(self, pins: dict[str, str]) -> None:
        if pins != self.pins():
            write_whole(self._folder / _PINS_JSON, json.dumps(pins, indent=2).encode())

    def _kept(self, name: str) -> KeptModel:
        path = self._folder / name / _KEPT_JSON
        try:
            if not _KEPT.fullmatch(name):
                raise ValueError(name)
            fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if fields["engine"] not in get_args(EngineName) or fields["precision"] not in get_args(Precision):
                raise ValueError(name)
            return KeptModel(name, fields["engine"], fields["precision"], str(fields["source"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise HilumError(f"model must be one that the node keeps, got {name}. See: hilum node models") from None

    def _copy(self, model: Model) -> str:
        """Copy a model's files into the node's folder, as one whole; the copy's name."""
        alone = is_export(model.run)
        digest = read_exported(model.run).bundle_sha256 if alone else file_sha256(model.run / BUNDLE_JSON)
        engine, precision = self._chosen(model, digest)
        name = f"{digest[:12]}-{engine}-{precision}"
        files = [EXPORT_JSON, *FILES[engine]] if alone else [BUNDLE_JSON]
        if not alone:
            inside = f"{engine}-{precision}"
            files += [WEIGHTS] if engine == "torch" else [f"{inside}/{file}" for file in (EXPORT_JSON, *FILES[engine])]
        beside = self._folder / f"new-{os.getpid()}"
        shutil.rmtree(beside, ignore_errors=True)
        try:
            try:
                for file in files:
                    (beside / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(model.run / file, beside / file)
            except OSError as error:
                raise BundleError(f"model must have files that can be copied, got {error}") from None
            content = {"engine": engine, "precision": precision, "source": str(model.run)}
            (beside / _KEPT_JSON).write_text(json.dumps(content, indent=2))
            _check_copy(beside, digest, engine, precision)
            shutil.rmtree(self._folder / name, ignore_errors=True)  # the same model, maybe damaged
            beside.rename(self._folder / name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return name

    def _chosen(self, model: Model, digest: str) -> tuple[EngineName, Precision]:
        """Engine and precision as configured, else as they were chosen for this bundle; chosen now if never before."""
        if model.engine != "auto" or model.precision is not None:
            opened = open_engine(model.run, engine=model.engine, precision=model.precision)
            return opened.name, opened.precision
        choice = self.choice(model, digest)
        return choice.engine, choice.precision

    def choice(self, model: Model, digest: str, *, anew: bool = False) -> Choice:
        """What runs a model whose engine is `auto`: as written in the node's folder, or in the bundle's, or measured.

        Args:
            anew: measure again, whatever was written.
        """
        path = self._folder / _CHOICES / f"{digest[:32]}.json"
        written = None if anew else read_choice(path, digest) or read_choice(model.run / ENGINE_JSON, digest)
        if written is not None:
            alone, inside = is_export(model.run), model.run / f"{written.engine}-{written.precision}" / EXPORT_JSON
            if not (alone or written.engine == "torch" or inside.is_file()):
                _LOG.warning("%s %s was chosen and is not there any more", written.engine, written.precision)
                written = None
        choice = written or choose_engine(model.run)
        if read_choice(path, digest) != choice:
            path.parent.mkdir(exist_ok=True)
            write_choice(path, choice, digest)
        return choice

    def _open(self, name: str, asked: Model) -> Loaded:
        """Read a copy into memory, verify it, and try it on a film of noise."""
        kept, run = self._kept(name), self._folder / name
        engine = open_engine(run, engine=kept.engine, precision=kept.precision)
        try:
            results = result_model(run, asked.operating_point, bits=asked.bits, engine=engine)
        except BundleError:
            raise
        except HilumError as error:  # it has no such operating point
            raise ConfigError(str(error)) from None
        if not results.bundle_sha256.startswith(name[:12]):
            raise BundleError(f"model must be the one that was kept as {name}, got another. Copy the model again")
        try_engine(engine, name)
        return Loaded(name, state_bits(engine, asked.bits), results, asked.heatmaps, asked.force)

    def _prune(self, used: set[str]) -> None:
        """Delete copies that are not used, but for the newest few."""
        for left in self._folder.glob("new-*"):  # of a process that ended while it copied
            shutil.rmtree(left, ignore_errors=True)
        unused = [one.name for one in self.kept() if one.name not in used]
        for name in unused[_MOST_KEPT:]:
            shutil.rmtree(self._folder / name, ignore_errors=True)


def _check_copy(folder: Path, digest: str, engine: EngineName, precision: Precision) -> None:
    """Refuse a copy that was made while its source changed, or of a damaged one."""
    alone = is_export(folder)
    found = read_exported(folder).bundle_sha256 if alone else file_sha256(folder / BUNDLE_JSON)
    if found != digest:
        raise BundleError(f"model must not change while it is read, but {folder} did. Try again")
    open_engine(folder, engine=engine, precision=precision)


def try_engine(engine: Engine, name: str) -> None:
    """Refuse a model that does not give numbers, or gives every film the same.

    Raises:
        BundleError: saying which.
    """
    size = engine.description.preprocessing.size
    grey = np.random.default_rng(0).random((2, size, size), dtype=np.float32)
    grey[1] = np.linspace(0, 1, size, dtype=np.float32)
    outputs = engine.run(grey)
    right = np.isfinite(outputs.logits).all() and np.isfinite(outputs.maps).all()
    if not (right and ((outputs.scores >= 0) & (outputs.scores <= 1)).all()):
        raise BundleError(f"model must give scores from 0 to 1, got others from {name}. Export it again")
    if np.array_equal(outputs.logits[0], outputs.logits[1]):
        raise BundleError(f"model must tell films apart, but {name} gives noise and a ramp the same logits")
