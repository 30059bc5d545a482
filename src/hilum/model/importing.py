"""Import models that others trained: each becomes a bundle with its own preprocessing, scale of pixels and findings."""

import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor

from hilum.errors import BundleError
from hilum.findings import CHESTXRAY14, name_fault
from hilum.messages import messages
from hilum.metrics.operating_points import SOURCE_POINT
from hilum.metrics.thresholds import Threshold
from hilum.model.bundle import Bundle, Origin, binding_of, save_bundle
from hilum.model.engines import file_sha256
from hilum.model.onnx_files import read_onnx
from hilum.model.thresholds import OperatingPoints
from hilum.model.torchxrayvision import MODELS, OUTPUTS, RELEASE
from hilum.nn.backbones import PREFIX, Backbone
from hilum.nn.build import build
from hilum.nn.classifier import Classifier
from hilum.nn.densenet import modern_keys
from hilum.recipe import Recipe, load_recipe, recipe_from_dict

SourceName = Literal["torchxrayvision", "chexnet", "reproduce-chexnet", "torchvision", "timm", "onnx"]

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_UNIT_TO_1024 = ((0.5,), (1 / 2048,))
"""Mean and deviation that bring [0, 1] to torchxrayvision's -1024..1024."""
HEAT_LOGITS = 4.0
"""From nothing to full in an imported model's heatmaps until films have shown more: odds that are 55 times as high."""
_DENSENETS: dict[str, dict[str, Any]] = {
    "densenet121": {},
    "densenet161": {"block_layers": [6, 12, 36, 24], "growth": 48, "stem": 96},
    "densenet169": {"block_layers": [6, 12, 32, 32]},
    "densenet201": {"block_layers": [6, 12, 48, 32]},
}
_RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
"""Networks of torchvision whose keys are timm's."""


@dataclass(frozen=True)
class Stated:
    """What a user states of a model, each in place of the source's own; None leaves the source's.

    Attributes:
        findings: what the outputs mean, in order.
        size: see hilum.data.images.Preprocessing, as of the next three.
        interpolation: how films are resized.
        crop: what is cut off; `none` is nothing.
        shorter: pixels of the shorter side before the crop; 0 is none.
        mean: what is taken from films in [0, 1]; one or three numbers.
        deviation: what they are then divided by; one or three numbers.
    """

    findings: Sequence[str] | None = None
    size: int | None = None
    interpolation: str | None = None
    crop: str | None = None
    shorter: int | None = None
    mean: Sequence[float] | None = None
    deviation: Sequence[float] | None = None


class _Foreign(NamedTuple):
    """A model as its source describes it.

    Attributes:
        thresholds: per output; None for one that was never trained, which is left out.
        head: what the keys of the last layer begin with.
    """

    name: str
    about: str
    source: str
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]
    outputs: Sequence[str]
    state: dict[str, Tensor]
    head: str = "classifier"
    thresholds: Sequence[float | None] = ()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def import_model(
    source: str,
    model: str,
    file: Path | None,
    out: Path,
    *,
    stated: Stated | None = None,
    tensors_only: bool = False,
) -> Bundle:
    """Make a bundle of a model that others trained, and write it.

    It can be used at once. Its scores are the sigmoid of its own logits, not calibrated; thresholds that the source
    publishes are the operating point `source`; heatmaps have a provisional scale until `hilum calibrate`.

    Args:
        source: one of SourceName.
        model: its name there; for chexnet, reproduce-chexnet and onnx the file.
        file: its weights; downloaded if None, where the source publishes them.
        out: a new folder for the bundle.
        stated: what the source does not say, or says otherwise.
        tensors_only: of a pickled module, take the tensors; see read_tensors.

    Raises:
        BundleError: if there is no such model, its weights cannot be had or read, or they do not fit the network.
        ValueError: if a stated value cannot be.
    """
    stated = stated or Stated()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"out must be a new or empty folder, got {out}. Choose another")
    read = read_tensors if tensors_only else read_weights
    path: Path | None
    match source:
        case "torchxrayvision":
            foreign, path = _torchxrayvision(model, file, read)
        case "chexnet" | "reproduce-chexnet":
            path = file or Path(model)
            foreign = _chexnet(source, path, read)
        case "torchvision":
            path = _given(file, source, model)
            foreign = _torchvision(model, read(path), stated)
        case "timm":
            foreign, path = _timm(model, file, read, stated)
        case "onnx":
            path = file or Path(model)
            foreign = _onnx(path, stated)
        case _:
            raise BundleError(f"source must be one of {', '.join(get_args(SourceName))}, got {source!r}")
    try:
        bundle = _bundle(foreign, stated, path)
    except ValueError as error:
        where = "" if path is None else f" [in {path}]"
        raise BundleError(f"{error}{where}") from None
    save_bundle(bundle, out)
    return bundle


def _torchxrayvision(model: str, file: Path | None, read: Callable[[Path], dict[str, Tensor]]) -> tuple[_Foreign, Path]:
    """A DenseNet or ResNet of torchxrayvision: grey, -1024..1024, the square in the middle, scikit-image's resize."""
    name = model if model in MODELS else f"densenet121-res224-{model}"
    if name not in MODELS:
        raise BundleError(f"model must be one of torchxrayvision's, {', '.join(MODELS)}, got {model!r}")
    published = MODELS[name]
    path = file or download(RELEASE + published.file)
    state = read(path)
    thresholds = list(published.thresholds)
    stored = state.pop("op_threshs", None)
    if stored is not None:
        if stored.shape != (len(OUTPUTS),):
            raise BundleError(f"op_threshs must be {len(OUTPUTS)} numbers, got {tuple(stored.shape)} [in {path}]")
        thresholds = [None if math.isnan(number) else number for number in stored.tolist()]
    state = {key.removeprefix("module.").removeprefix("model."): value for key, value in state.items()}
    mean, deviation = _UNIT_TO_1024
    resnet = name.startswith("resnet")
    scale = {"pixel_mean": mean, "pixel_deviation": deviation}
    foreign = _Foreign(
        name=f"torchxrayvision-{name}",
        about=f"torchxrayvision's {name}, imported. Its recipe is one to train it further by.",
        source="Cohen et al., TorchXRayVision, MIDL 2022",
        architecture={"network": f"{PREFIX}resnet50" if resnet else "densenet", **scale},
        preprocessing={
            "size": 512 if resnet else 224,
            "interpolation": "scikit-image",
            "channels": 1,
            "crop": "square",
        },
        outputs=OUTPUTS,
        state=state if resnet else modern_keys(state),
        head="fc" if resnet else "classifier",
        thresholds=thresholds,
        sources=published.sources,
        notes=(
            "scores are the network's own probabilities; torchxrayvision shows them through op_norm, which puts each "
            f"finding's threshold at 0.5: the calls are those of the operating point {SOURCE_POINT}",
        ),
    )
    return foreign, path


def _chexnet(source: str, path: Path, read: Callable[[Path], dict[str, Tensor]]) -> _Foreign:
    """DenseNet-121 on ChestX-ray14, RGB, ImageNet's scale, from a film whose shorter side is 256 or 224 px."""
    state = {
        key.removeprefix("module.").removeprefix("densenet121."): value for key, value in _on_files(read, path).items()
    }
    state = {key.replace("classifier.0.", "classifier."): value for key, value in modern_keys(state).items()}
    own = source == "chexnet"
    notes = ("its code averages ten crops of a film; here the one in the middle is seen",) if own else ()
    return _Foreign(
        name=source,
        about=f"{source}'s DenseNet-121, imported. Its recipe is one to train it further by.",
        source="https://github.com/arnoweng/CheXNet" if own else "https://github.com/jrzech/reproduce-chexnet",
        architecture={"network": "densenet", "pixel_mean": IMAGENET_MEAN, "pixel_deviation": IMAGENET_DEVIATION},
        preprocessing={"size": 224, "interpolation": "pillow-bilinear", "channels": 3, "shorter": 256 if own else 224},
        outputs=CHESTXRAY14,
        state=state,
        sources=("nih",),
        notes=notes,
    )


def _torchvision(model: str, state: dict[str, Tensor], stated: Stated) -> _Foreign:
    """A DenseNet or ResNet of torchvision with a head of one's own, as its ImageNet weights are evaluated."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if model in _DENSENETS:
        network, head = {"network": "densenet", **_DENSENETS[model]}, "classifier"
        state, stem = modern_keys(state), "features.conv0.weight"
    elif model in _RESNETS:
        network, head, stem = {"network": f"{PREFIX}{model}"}, "fc", "conv1.weight"
    else:
        raise BundleError(
            f"model must be one of torchvision's {', '.join((*_DENSENETS, *_RESNETS))}, got {model!r}. Others are "
            "imported from ONNX, or from timm"
        )
    return _Foreign(
        name=f"torchvision-{model}",
        about=f"torchvision's {model} with weights of one's own, imported. Its recipe is one to train it further by.",
        source="https://github.com/pytorch/vision",
        architecture={**network, "pixel_mean": IMAGENET_MEAN, "pixel_deviation": IMAGENET_DEVIATION},
        preprocessing={
            "size": 224,
            "interpolation": "pillow-bilinear",
            "channels": _channels(state, stem),
            "shorter": 256,
        },
        outputs=stated.findings or (),
        state=state,
        head=head,
    )


def _timm(
    model: str, file: Path | None, read: Callable[[Path], dict[str, Tensor]], stated: Stated
) -> tuple[_Foreign, Path | None]:
    """A network of timm with a head of one's own, preprocessed as timm evaluates it."""
    try:
        probe = Backbone(findings=1, name=model, size=stated.size or 224)
    except ValueError as error:
        raise BundleError(str(error)) from None
    config = probe.body.pretrained_cfg
    size = stated.size or config["input_size"][-1]
    state = {key.removeprefix("module."): value for key, value in (read(file) if file else _hub(model)).items()}
    interpolation = "pillow-bilinear" if config["interpolation"] == "bilinear" else "pillow-bicubic"
    foreign = _Foreign(
        name=f"timm-{model.rpartition('/')[2]}",
        about=f"timm's {model} with weights of one's own, imported. Its recipe is one to train it further by.",
        source="https://github.com/huggingface/pytorch-image-models",
        architecture={"network": f"{PREFIX}{model}", "size": size},
        preprocessing={
            "size": size,
            "interpolation": interpolation,
            "channels": _channels(state, probe.stem_key.removeprefix("body.")),
            "shorter": math.floor(size / config["crop_pct"]),
        },
        outputs=stated.findings or (),
        state=state,
        head=config["classifier"],
    )
    return foreign, file


def _onnx(path: Path, stated: Stated) -> _Foreign:
    """Any network that ends in the mean over the film and one linear layer, with a preprocessing that is stated."""
    found = read_onnx(path)
    size = stated.size or found.size
    if stated.mean is None or stated.deviation is None or stated.interpolation is None or size is None:
        raise BundleError(
            "preprocessing must be stated, since an ONNX file does not say it: --mean, --deviation (0 and 1 for films "
            f"in [0, 1]), --interpolation, --size if the file takes any, --shorter or --crop if it has one; for {path}"
        )
    if found.size is not None and size != found.size:
        raise BundleError(f"size must be {found.size}, for which {path} was made, got {size}")
    operations = [[one.kind, list(one.inputs), one.output, one.options] for one in found.operations]
    shapes = {name: list(values.shape) for name, values in found.weights.items()}
    state = {f"weights.{number}": values for number, values in enumerate(found.weights.values())}
    return _Foreign(
        name=f"onnx-{path.stem}",
        about=f"{path.name}, imported. Its recipe is one to train it further by.",
        source="a file of ONNX",
        architecture={
            "network": "onnx",
            "size": size,
            "features": found.features,
            "operations": operations,
            "weights": shapes,
            "pixel_mean": tuple(stated.mean),
            "pixel_deviation": tuple(stated.deviation),
        },
        preprocessing={"size": size, "interpolation": stated.interpolation, "channels": found.channels},
        outputs=stated.findings or (),
        state=state | {"classifier.weight": found.head[0], "classifier.bias": found.head[1]},
        notes=("a sigmoid at the end of the file is not part of the logits",),
    )


def _channels(state: Mapping[str, Tensor], stem: str) -> int:
    if stem not in state or state[stem].ndim != 4:
        raise BundleError(f"weights must hold the network's first convolution, {stem}, but do not")
    return int(state[stem].shape[1])


def _bundle(foreign: _Foreign, stated: Stated, path: Path | None) -> Bundle:
    trained = [threshold is not None for threshold in foreign.thresholds] or [True] * len(foreign.outputs)
    outputs = list(stated.findings or foreign.outputs)
    if fault := name_fault(outputs):
        raise ValueError(f"findings must be {fault}. State them in the order of the outputs: --findings A,B,C")
    if len(outputs) != len(trained):
        raise ValueError(f"findings must be {len(trained)}, one for each output, got {len(outputs)}")
    kept = [k for k, learned in enumerate(trained) if learned]
    findings = tuple(outputs[k] for k in kept)
    recipe = _recipe(foreign, stated)
    model = build(recipe.architecture, findings=len(findings), channels=recipe.preprocessing.channels)
    _fill(model, foreign, len(outputs), kept)
    limits = [foreign.thresholds[k] for k in kept] if foreign.thresholds else [None] * len(kept)
    clear = [0.0 if limit is None else math.log(limit / (1 - limit)) for limit in limits]
    left_out = [name for name, learned in zip(outputs, trained, strict=True) if not learned]
    notes = [*foreign.notes, "heatmaps have a provisional scale; hilum calibrate measures it on your validation films"]
    if left_out:
        notes.insert(0, f"outputs that were never trained are left out: {', '.join(left_out)}")
    bundle = Bundle(
        model=model.eval(),
        findings=findings,
        recipe=recipe,
        films="",
        heatmap_logits={name: (low, low + HEAT_LOGITS) for name, low in zip(findings, clear, strict=True)},
        sources=foreign.sources,
        origin=Origin(
            model=foreign.name,
            file="the model hub" if path is None else path.name,
            sha256="not known" if path is None else file_sha256(path),
            notes=tuple(notes),
        ),
    )
    if all(limit is None for limit in limits):
        return bundle
    points = {
        name: None if limit is None else Threshold(limit, limit, limit)
        for name, limit in zip(findings, limits, strict=True)
    }
    return replace(bundle, thresholds=OperatingPoints(binding_of(bundle), {SOURCE_POINT: points}))


def _recipe(foreign: _Foreign, stated: Stated) -> Recipe:
    """The model's own network and preprocessing, with a training to go on from it."""
    size = stated.size or foreign.preprocessing["size"]
    preprocessing = {**foreign.preprocessing, "size": size}
    if stated.interpolation is not None:
        preprocessing["interpolation"] = stated.interpolation
    if stated.crop is not None:
        preprocessing = {key: value for key, value in preprocessing.items() if key != "shorter"}
        preprocessing["crop"] = None if stated.crop == "none" else stated.crop
    if stated.shorter is not None:
        preprocessing = {key: value for key, value in preprocessing.items() if key not in ("shorter", "crop")}
        preprocessing |= {"shorter": stated.shorter} if stated.shorter else {}
    architecture = dict(foreign.architecture)
    for key, value in (("pixel_mean", stated.mean), ("pixel_deviation", stated.deviation)):
        if value is not None:
            architecture[key] = tuple(value)
    if "pixel_mean" in architecture and preprocessing["channels"] == 1:
        for key in ("pixel_mean", "pixel_deviation"):
            architecture[key] = (sum(architecture[key]) / len(architecture[key]),)
    if architecture["network"].startswith(PREFIX):
        architecture["size"] = size
    base = load_recipe("imported").to_dict()
    own = {"name": foreign.name, "about": foreign.about, "source": foreign.source}
    fields = {**base, **own, "architecture": architecture, "preprocessing": preprocessing}
    return recipe_from_dict(fields, where=foreign.name)


def _fill(model: Classifier, foreign: _Foreign, outputs: int, kept: Sequence[int]) -> None:
    """Give a new network the weights; every key but the scale of pixels and old counters must be there, none else.

    Raises:
        ValueError: naming the keys that do not fit.
    """
    state = dict(foreign.state)
    weight, bias = (state.pop(f"{foreign.head}.{part}", None) for part in ("weight", "bias"))
    if weight is None or weight.ndim < 2:
        raise ValueError(
            f"weights must hold the last layer, {foreign.head}.weight, but do not: a network without one has no "
            "findings to score. To train it on yours: hilum train RECIPE --set weights=FILE"
        )
    if len(weight) != outputs:
        raise ValueError(f"findings must be {len(weight)}, one for each output of the last layer, got {outputs}")
    if isinstance(model, Backbone):
        if model.norm is not None and "norm.weight" in state and not any(key.startswith("fc_norm.") for key in state):
            raise ValueError(
                f"{model.name} must be averaged over its patches to have class maps, but these weights were trained to "
                "be read at the class token. Train it on: hilum train RECIPE --set weights=FILE"
            )
        state = model.own_keys(state)
    bias = torch.zeros(len(weight)) if bias is None else bias
    state |= {"classifier.weight": weight.flatten(1)[list(kept)], "classifier.bias": bias[list(kept)]}
    own = model.state_dict()
    for key in own:
        if key.endswith("num_batches_tracked") or key in ("pixel_mean", "pixel_deviation"):
            state.setdefault(key, own[key])
    wrong = sorted(own.keys() ^ state.keys()) or [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"weights must match the network of {foreign.name} in every key and shape, but these do not: "
            f"{', '.join(wrong[:5])}{more}"
        )
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()})


def _given(file: Path | None, source: str, model: str) -> Path:
    if file is None:
        raise BundleError(
            f"file must be given for {source}: hilum import {source} {model} FILE --findings ... --out RUN"
        )
    return file


def _on_files(read: Callable[[Path], dict[str, Tensor]], path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BundleError(f"file must be one of weights, got {str(path)!r}, which is no file. Check the path")
    return read(path)


def _hub(model: str) -> dict[str, Tensor]:
    import timm

    try:
        state: dict[str, Tensor] = timm.create_model(model, pretrained=True).state_dict()
    except Exception as error:  # no network, no such file: the hub's clients raise whatever comes handy
        raise BundleError(
            f"weights of {model} could not be had ({reason(error)}). Offline: hilum import timm {model} FILE"
        ) from None
    return state


def download(url: str) -> Path:
    """Fetch a file of weights once, into torch's folder of downloads.

    Raises:
        BundleError: if it cannot be had.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        messages().print(f"Downloading {url}")
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:  # no network, no disk: whatever comes handy
        raise BundleError(
            f"weights could not be had ({reason(error)}). Offline, fetch {url} elsewhere, and give the file"
        ) from None
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file, or in a state dict that torch saved; no code in it is ever run.

    Raises:
        BundleError: if the file cannot be read, or holds something else, such as a pickled module.
    """
    if not path.is_file():
        raise BundleError(f"weights must be a file, got {str(path)!r}, which is none. Check the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)  # never runs code from the file
    except Exception as error:  # on hostile bytes the decoders fail with whatever exception comes handy
        classes = foreign_names(path)
        if classes:
            raise BundleError(_pickled(path, classes)) from None
        raise BundleError(
            f"weights must be a .safetensors, .pth or .pt file, but {path} cannot be read: {reason(error)}"
        ) from None
    return _table(content, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a whole module that was pickled, without its code or the pickle's.

    torch's reader for weights alone reads the file; every class or function that is not a tensor's is replaced by an
    empty one, so that nothing of its package is imported and nothing runs.

    Raises:
        BundleError: if the file holds no module, or cannot be read even so.
    """
    stand_ins: list[Any] = [(type(name.rpartition(".")[2], (_StandIn,), {}), name) for name in foreign_names(path)]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on hostile bytes the decoders fail with whatever exception comes handy
        if foreign_names(path) and not zipfile.is_zipfile(path):
            raise BundleError(f"tensors must be readable alone in {path}, but {_OLD}: {_ELSEWHERE}") from None
        raise BundleError(f"{path} must be a file of torch's, but cannot be read: {reason(error)}") from None
    if isinstance(content, dict):
        modules = [value for value in content.values() if isinstance(value, _StandIn) and "_modules" in vars(value)]
        content = modules[0] if modules else content
    return _table(dict(_flat(content, "")) if isinstance(content, _StandIn) else content, path)


class _StandIn:
    """Takes the place of a class in a pickle: keeps what would be its attributes, and does nothing."""

    def __init__(self, *_: object, **__: object):
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


def _flat(module: object, prefix: str) -> list[tuple[str, Tensor]]:
    """What `state_dict` would give of a module's attributes."""
    fields = vars(module)
    found = [
        (f"{prefix}{name}", value.detach())
        for part in ("_parameters", "_buffers")
        for name, value in (fields.get(part) or {}).items()
        if isinstance(value, Tensor)
    ]
    for name, inner in (fields.get("_modules") or {}).items():
        found += _flat(inner, f"{prefix}{name}.") if isinstance(inner, _StandIn) else []
    return found


def foreign_names(path: Path) -> list[str]:
    """Classes and functions that a pickle of torch's would import and a table of tensors does not need; none is.

    The pickle is taken apart, not run. Empty if it is none.
    """
    try:
        allowed = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        return sorted(allowed)
    except Exception:  # the format before torch 1.6, or no pickle
        return _old_names(path)


def _old_names(path: Path) -> list[str]:
    names: set[str] = set()
    try:
        if zipfile.is_zipfile(path):
            return []
        with path.open("rb") as file:
            for _ in range(4):  # magic number, protocol, system, content
                for code, argument, _ in pickletools.genops(file):
                    if code.name == "GLOBAL":
                        names.add(str(argument).replace(" ", "."))
    except Exception:  # no pickle
        return []
    tensors = ("torch._utils.", "torch.Float", "torch.Long", "torch.Half", "torch.Double", "torch.Int", "torch.Byte")
    return sorted(name for name in names if name != "collections.OrderedDict" and not name.startswith(tensors))


def _pickled(path: Path, classes: Sequence[str]) -> str:
    """What is wrong with a pickled module, and the safe way out: the tensors alone, or another machine."""
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    way = "add --tensors-only, which takes the tensors and opens no class and no function"
    if not zipfile.is_zipfile(path):
        way = f"{_OLD}: {_ELSEWHERE}. Then import weights.pt"
    return (
        f"weights must be a .safetensors, .pth or .pt file, but {path} cannot be read safely: it is a pickle of whole "
        f"Python objects ({shown}), and opening it would run what is in it, which Hilum never does. The safe way out: "
        f"{way}"
    )


_OLD = "it is in the format of before torch 1.6, whose tensors cannot be taken alone"
_ELSEWHERE = (
    "in a container without network that you throw away, with the source's own package installed, run: python -c "
    "\"import torch; m = torch.load('FILE', 'cpu', weights_only=False); m = m['model'] if isinstance(m, dict) else m; "
    "torch.save(m.state_dict(), 'weights.pt')\""
)


def _table(content: object, path: Path) -> dict[str, Tensor]:
    """The table of tensors in what torch read: itself, or under `state_dict` or `model`."""
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    state = {key: value for key, value in content.items() if value is not None} if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise BundleError(f"weights must be a table of tensors, but {path} holds something else")
    return {str(key): value for key, value in state.items()}


def reason(error: Exception) -> str:
    """The first line of what went wrong; of torch's refusals the one that says what it was."""
    lines = str(error).splitlines()
    told = [line for line in lines if "WeightsUnpickler error" in line]
    return (told or lines or [type(error).__name__])[0].strip()
