"""An exported model as a folder: the model's files and export.json, which says what they are. No code runs from it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from hilum.description import BUNDLE_JSON, Description, read_description, read_json_object
from hilum.engines import EXPORT_JSON, EngineName, Precision, is_export
from hilum.errors import BundleError

FORMAT = 1
FILES: dict[EngineName, tuple[str, ...]] = {"onnx": ("weights.onnx",), "openvino": ("model.xml", "model.bin")}
"""The model's files; the first is the one that the engine is given."""
MODULES: dict[EngineName, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What an engine imports."""


@dataclass(frozen=True)
class Exported:
    """What export.json holds.

    Attributes:
        folder: where the files are.
        engine: onnx or openvino.
        precision: of its arithmetic.
        description: what must be known to use it.
        bundle_sha256: of the bundle.json that it was made from, which vouches for the weights.
        accuracy: of INT8, what the quantisation cost on validation films; see hilum.quantise.
    """

    folder: Path
    engine: EngineName
    precision: Precision
    description: Description
    bundle_sha256: str
    accuracy: dict[str, Any] | None

    @property
    def model(self) -> Path:
        """The file that the engine is given."""
        return self.folder / FILES[self.engine][0]

    @property
    def note(self) -> str:
        """What a user must be told, in a sentence; empty if there is nothing."""
        if self.accuracy is None or not self.accuracy["accepted_loss"]:
            return ""
        return (
            f"{self.folder} was quantised with --accept-loss: its mean AUC on validation films changed by "
            f"{self.accuracy['mean_change']:+.4f}, the worst finding's by {self.accuracy['worst_change']:+.4f}."
        )


def read_exported(folder: Path) -> Exported:
    """Read export.json, and verify that the files are those that it was written for.

    Raises:
        BundleError: if a file is missing, damaged or another one.
    """
    path = folder / EXPORT_JSON
    if not path.is_file():
        raise BundleError(
            f"exported model must be a folder with {EXPORT_JSON}, but there is no {path}. See: hilum export"
        )
    fields = read_json_object(path)
    if fields.get("format") != FORMAT:
        raise BundleError(
            f"format must be {FORMAT}, got {fields.get('format')!r} in {path}. Use the Hilum that exported it."
        )
    try:
        exported = _from_dict(folder, fields)
        expected = {name: str(fields["files"][name]) for name in FILES[exported.engine]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} must describe an export of format {FORMAT}, but does not: {error!r}") from None
    for name, digest in expected.items():
        _verify(folder / name, digest)
    return exported


def description_of(run: Path) -> Description:
    """What must be known to use a bundle, or an exported model alone.

    Raises:
        BundleError: if the folder holds neither, or what it holds is damaged.
    """
    return read_exported(run).description if is_export(run) else read_description(run)


def check_current(exported: Exported, run: Path) -> None:
    """Refuse an export of another bundle, or of this one before it was trained or calibrated again.

    Raises:
        BundleError: if bundle.json is not the one that the export was made from.
    """
    if file_sha256(run / BUNDLE_JSON) != exported.bundle_sha256:
        raise BundleError(
            f"{exported.folder} must be exported from the bundle as it is now, but {run / BUNDLE_JSON} has changed "
            f"since. Export again: hilum export {run} --to {exported.engine} --precision {exported.precision}"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content.

    Raises:
        BundleError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path.name} must be a file that can be read, but {path} cannot: {error.strerror}") from None


def _from_dict(folder: Path, fields: Mapping[str, Any]) -> Exported:
    engine, precision, accuracy = (fields[name] for name in ("engine", "precision", "accuracy"))
    if engine not in FILES or precision not in get_args(Precision):
        raise ValueError(f"engine and precision must be known, got {engine!r} and {precision!r}")
    if accuracy is not None:
        accuracy = dict(accuracy)
        accuracy["accepted_loss"], float(accuracy["mean_change"]), float(accuracy["worst_change"])
    return Exported(
        folder=folder,
        engine=cast(EngineName, engine),
        precision=cast(Precision, precision),
        description=Description.from_dict(fields),
        bundle_sha256=str(fields["bundle_sha256"]),
        accuracy=accuracy,
    )


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BundleError(f"the model's files must be beside {EXPORT_JSON}, but there is no {path}. Export again")
    digest = file_sha256(path)
    if digest != expected:
        raise BundleError(
            f"{path} must be the file that {EXPORT_JSON} was written for, but its SHA-256 is {digest[:12]}.... "
            "Export again"
        )
