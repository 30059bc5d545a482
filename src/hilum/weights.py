"""The weights that a training starts from: none, ImageNet's, a file, or another bundle."""

import pickle
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hilum.bundle import load_bundle
from hilum.errors import BundleError
from hilum.nn.densenet import load_backbone

IMAGENET_FILE = "densenet121-a639ec97.pth"
"""The name of torchvision's DenseNet-121 weights, as its download and its cache call them."""


def load_weights(model: nn.Module, weights: str) -> list[str]:
    """Fill a new model with the weights that its training starts from; return the keys left at random.

    Args:
        model: the new model.
        weights: `none`; `imagenet` for torchvision's; or a path: .pth, .pt, .safetensors, or the folder of a bundle.

    Raises:
        BundleError: if they cannot be had or read, or a key other than classifier and attention does not match.
    """
    if weights == "none":
        return sorted(model.state_dict())
    state = _imagenet() if weights == "imagenet" else _local(Path(weights))
    try:
        return load_backbone(model, state)
    except ValueError as error:
        raise BundleError(f"{error} [in {weights}]. Choose the architecture that the weights were made for.") from None


def _imagenet() -> dict[str, Tensor]:
    from torchvision.models import DenseNet121_Weights

    weights = DenseNet121_Weights.IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (URLError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise BundleError(
            f"ImageNet weights could not be had ({_reason(error)}). Offline, fetch {weights.url} elsewhere and put it "
            f"in {cache} as {IMAGENET_FILE}, or give its path with --set weights=FILE, or start from random weights "
            "with --set weights=none"
        ) from None
    return state


def _local(path: Path) -> dict[str, Tensor]:
    if (path / "bundle.json").is_file():
        return dict(load_bundle(path).model.state_dict())
    if not path.is_file():
        raise BundleError(f"weights must be none, imagenet, a file or the folder of a bundle, got {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)  # never runs code from the file
    except (
        SafetensorError,
        OSError,
        ValueError,
        RuntimeError,
        EOFError,
        KeyError,
        pickle.UnpicklingError,
    ) as error:
        raise BundleError(
            f"weights must be a .safetensors, .pth or .pt file, but {path} cannot be read: {_reason(error)}"
        ) from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BundleError(f"weights must be a table of tensors, but {path} holds something else")
    return {str(key): value for key, value in state.items()}


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
