"""A network given as a list of operations: what an ONNX file holds, computed by torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hilum.nn.classifier import Classifier, ClassMaps, Images, Logits, check_channels

Value = int | float | str | tuple[int, ...]


class Operation(NamedTuple):
    """One operation under ONNX's name for it.

    Attributes:
        kind: such as Conv; one of OPERATIONS.
        inputs: names of tensors: the film `images`, weights, or results of earlier operations; empty if left out.
        output: name of its result.
        options: ONNX's attributes. Axes and shapes that newer versions have as inputs stand here too.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    options: dict[str, Value]


IMAGES = "images"
"""The name of the network's input."""


class GraphNetwork(Classifier):
    """A network of others: its operations up to the last feature map -> mean over the film -> linear.

    Its statistics are fixed: batch norms compute as in evaluation, whatever happens to the weights.

    Args:
        findings: number of outputs.
        channels: channels of the images, 1 (grey) or 3.
        size: height and width of the films that it was made for.
        features: channels of the last feature map.
        operations: in an order in which each finds its inputs; the last gives that map.
        weights: the shape of each tensor that is no result of an operation.
        pixel_mean, pixel_deviation: its own scale of pixels, one or three numbers each.

    Raises:
        ValueError: if an operation is not known, or a tensor that it needs is not there.

    Source: ONNX, "Operator schemas". https://onnx.ai/onnx/operators
    """

    fresh: tuple[str, ...] = ("pixel_",)
    stem_key = "none"

    def __init__(
        self,
        *,
        findings: int,
        channels: int,
        size: int,
        features: int,
        operations: Sequence[Operation],
        weights: Mapping[str, Sequence[int]],
        pixel_mean: Sequence[float],
        pixel_deviation: Sequence[float],
    ):
        super().__init__()
        check_channels(channels)
        self.minimum_size = self.size = size
        self.operations = tuple(operations)
        known = {IMAGES, "", *weights}
        for one in self.operations:
            missing = [name for name in one.inputs if name not in known]
            if one.kind not in OPERATIONS or missing:
                what = f"no tensor {missing[0]!r}" if missing else f"{one.kind}, which is not known"
                raise ValueError(f"operations must be known and find their inputs, got {what}")
            known.add(one.output)
        self.places = {name: number for number, name in enumerate(weights)}
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(tuple(shape))) for shape in weights.values())
        self.set_pixel_scale(pixel_mean, pixel_deviation, channels=channels)
        self.classifier = nn.Linear(features, findings)

    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""
        return cast(Tensor, self.classifier(self.feature_map(images).mean((2, 3))))

    def feature_map(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """The last feature map."""
        height, width = images.shape[2:]
        if (height, width) != (self.size, self.size):
            raise ValueError(f"images must be {self.size} px high and wide for this network, got {height} x {width}")
        found = {IMAGES: self.scaled(images)}
        for one in self.operations:
            tensors = [
                None if not name else self.weights[self.places[name]] if name in self.places else found[name]
                for name in one.inputs
            ]
            found[one.output] = OPERATIONS[one.kind](tensors, one.options)
        return found[self.operations[-1].output]

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits, and for each finding a map whose mean over the film is exactly its logit.

        Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2, with the bias.
            https://arxiv.org/abs/1512.04150
        """
        maps = torch.einsum("fc,bchw->bfhw", self.classifier.weight, self.feature_map(images))
        maps = maps + self.classifier.bias[:, None, None]
        return maps.mean((2, 3)), maps

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The keys as they are: only its own weights fit."""
        return dict(state)

    def fold_to_grey(self) -> None:
        """Nothing: a grey film becomes three channels inside, by its scale of pixels."""


Tensors = list[Tensor | None]
Options = Mapping[str, Value]


def _ints(options: Options, name: str, default: Sequence[int]) -> list[int]:
    value = options.get(name)
    return [int(number) for number in (default if value is None else cast(tuple[int, ...], value))]


def _some(tensors: Tensors) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _padding(
    x: Tensor, options: Options, kernel: Sequence[int], strides: Sequence[int], steps: Sequence[int]
) -> list[int]:
    """Rows above, columns before, rows below, columns behind."""
    kind = options.get("auto_pad", "NOTSET")
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        before, behind = [], []
        for side, width, stride, step in zip(x.shape[2:], kernel, strides, steps, strict=True):
            total = max(0, (math.ceil(side / stride) - 1) * stride + (width - 1) * step + 1 - side)
            small, large = total // 2, total - total // 2
            before.append(small if kind == "SAME_UPPER" else large)
            behind.append(large if kind == "SAME_UPPER" else small)
        return [*before, *behind]
    return _ints(options, "pads", (0, 0, 0, 0))


def _conv(tensors: Tensors, options: Options) -> Tensor:
    x, weight = _some(tensors[:2])
    bias = tensors[2] if len(tensors) > 2 else None
    strides, dilations = _ints(options, "strides", (1, 1)), _ints(options, "dilations", (1, 1))
    top, left, bottom, right = _padding(x, options, weight.shape[2:], strides, dilations)
    groups = int(cast(int, options.get("group", 1)))
    if (top, left) == (bottom, right):
        return functional.conv2d(x, weight, bias, strides, (top, left), dilations, groups)
    padded = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(padded, weight, bias, strides, 0, dilations, groups)


def _max_pool(tensors: Tensors, options: Options) -> Tensor:
    (x,) = _some(tensors)
    kernel, strides = _ints(options, "kernel_shape", ()), _ints(options, "strides", (1, 1))
    dilations = _ints(options, "dilations", (1, 1))
    top, left, bottom, right = _padding(x, options, kernel, strides, dilations)
    padded = functional.pad(x, (left, right, top, bottom), value=-math.inf) if any((top, left, bottom, right)) else x
    ceil = bool(options.get("ceil_mode", 0))
    return functional.max_pool2d(padded, kernel, strides, 0, dilations, ceil_mode=ceil)


def _average_pool(tensors: Tensors, options: Options) -> Tensor:
    (x,) = _some(tensors)
    kernel, strides = _ints(options, "kernel_shape", ()), _ints(options, "strides", (1, 1))
    top, left, bottom, right = _padding(x, options, kernel, strides, (1, 1))
    if (top, left) != (bottom, right):
        raise ValueError("AveragePool must be padded alike on both sides")
    ceil, include = (bool(options.get(name, 0)) for name in ("ceil_mode", "count_include_pad"))
    return functional.avg_pool2d(x, kernel, strides, (top, left), ceil, include)


def _batch_norm(tensors: Tensors, options: Options) -> Tensor:
    x, scale, bias, mean, variance = _some(tensors)
    return functional.batch_norm(x, mean, variance, scale, bias, eps=float(cast(float, options.get("epsilon", 1e-5))))


def _layer_norm(tensors: Tensors, options: Options) -> Tensor:
    x, scale = _some(tensors[:2])
    bias = tensors[2] if len(tensors) > 2 else None
    return functional.layer_norm(x, tuple(scale.shape), scale, bias, float(cast(float, options.get("epsilon", 1e-5))))


def _gemm(tensors: Tensors, options: Options) -> Tensor:
    a, b = _some(tensors[:2])
    c = tensors[2] if len(tensors) > 2 else None
    product = (a.T if options.get("transA", 0) else a) @ (b.T if options.get("transB", 0) else b)
    product = product * float(cast(float, options.get("alpha", 1.0)))
    return product if c is None else product + c * float(cast(float, options.get("beta", 1.0)))


def _clip(tensors: Tensors, options: Options) -> Tensor:
    (x,) = _some(tensors[:1])
    low, high = (cast(float | None, options.get(name)) for name in ("min", "max"))
    return x.clamp(low, high)


def _reduce_mean(tensors: Tensors, options: Options) -> Tensor:
    (x,) = _some(tensors)
    return x.mean(_ints(options, "axes", range(x.ndim)), keepdim=bool(options.get("keepdims", 1)))


def _reshape(tensors: Tensors, options: Options) -> Tensor:
    (x,) = _some(tensors)
    shape = _ints(options, "shape", ())
    return x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(shape)])


def _squeeze(tensors: Tensors, options: Options) -> Tensor:
    (x,) = _some(tensors)
    return x.squeeze(tuple(_ints(options, "axes", ())))


def _unsqueeze(tensors: Tensors, options: Options) -> Tensor:
    (x,) = _some(tensors)
    for axis in sorted(_ints(options, "axes", ())):
        x = x.unsqueeze(axis)
    return x


def _leaky(tensors: Tensors, options: Options) -> Tensor:
    return functional.leaky_relu(_some(tensors)[0], float(cast(float, options.get("alpha", 0.01))))


def _hard_sigmoid(tensors: Tensors, options: Options) -> Tensor:
    slope, shift = (float(cast(float, options.get(*default))) for default in (("alpha", 0.2), ("beta", 0.5)))
    return (slope * _some(tensors)[0] + shift).clamp(0, 1)


def _gelu(tensors: Tensors, options: Options) -> Tensor:
    return functional.gelu(_some(tensors)[0], approximate=str(options.get("approximate", "none")))


def _of_one(function: Callable[[Tensor], Tensor]) -> Callable[[Tensors, Options], Tensor]:
    return lambda tensors, _: function(_some(tensors)[0])


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensors, Options], Tensor]:
    return lambda tensors, _: function(*_some(tensors))


OPERATIONS: dict[str, Callable[[Tensors, Options], Tensor]] = {
    "Add": _of_two(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda tensors, options: torch.cat(_some(tensors), dim=int(cast(int, options["axis"]))),
    "Conv": _conv,
    "Div": _of_two(torch.div),
    "Dropout": _of_one(lambda x: x),
    "Erf": _of_one(torch.erf),
    "Flatten": lambda tensors, options: _some(tensors)[0].flatten(int(cast(int, options.get("axis", 1)))),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _of_one(lambda x: x.mean((2, 3), keepdim=True)),
    "GlobalMaxPool": _of_one(lambda x: x.amax((2, 3), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _of_one(functional.hardswish),
    "Identity": _of_one(lambda x: x),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky,
    "MatMul": _of_two(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _of_two(torch.mul),
    "Pow": _of_two(torch.pow),
    "ReduceMean": _reduce_mean,
    "Relu": _of_one(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _of_one(torch.sigmoid),
    "Softmax": lambda tensors, options: _some(tensors)[0].softmax(int(cast(int, options.get("axis", -1)))),
    "Sqrt": _of_one(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _of_two(torch.sub),
    "Tanh": _of_one(torch.tanh),
    "Transpose": lambda tensors, options: _some(tensors)[0].permute(_ints(options, "perm", ())),
    "Unsqueeze": _unsqueeze,
}
"""What an operation computes of its inputs."""
