"""DenseNet-121 with or without attention: AM_DenseNet, its baseline and its ablations."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import DenseNet as TorchvisionDenseNet

from hilum.nn.classifier import Classifier, ClassMaps, Images, Logits, check_channels, grey_stem

FeatureMap = Float[Tensor, "batch channels height width"]


class ChannelAttention(nn.Module):
    """Scale each channel by a gate computed from its mean and its maximum.

    Args:
        channels: channels of the feature map.
        reduction: how many times narrower the hidden layer of the shared MLP is (r in the paper).
        identity_start: let the gate be 1 at the start instead of about 0.5, by twice the sigmoid of a zero; the gate
            then lies in (0, 2). It keeps pretrained features as they are until the attention has learned something.

    Source: Woo et al., "CBAM", ECCV 2018, section 3. https://arxiv.org/abs/1807.06521
    """

    def __init__(self, channels: int, *, reduction: int = 16, identity_start: bool = False):
        super().__init__()
        if reduction < 1 or channels % reduction:
            raise ValueError(f"channels must be a multiple of the reduction {reduction}, got {channels}")
        self.squeeze = nn.Conv2d(channels, channels // reduction, kernel_size=1, bias=False)
        self.excite = nn.Conv2d(channels // reduction, channels, kernel_size=1, bias=False)
        self.gate_scale = 2.0 if identity_start else 1.0
        if identity_start:
            nn.init.zeros_(self.excite.weight)

    def forward(self, x: FeatureMap) -> FeatureMap:
        """The feature map with its channels scaled."""
        mean, peak = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * (self.gate_scale * (self._mlp(mean) + self._mlp(peak)).sigmoid())

    def _mlp(self, pooled: FeatureMap) -> FeatureMap:
        return cast(Tensor, self.excite(self.squeeze(pooled).relu()))


class SqueezeExcitation(ChannelAttention):
    """Scale each channel by a gate computed from its mean alone: the other attention to compare with CBAM.

    No biases, as the source counts its parameters (2 C^2 / r).

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, section 3. https://arxiv.org/abs/1709.01507
    """

    def forward(self, x: FeatureMap) -> FeatureMap:
        """The feature map with its channels scaled."""
        return x * (self.gate_scale * self._mlp(x.mean((2, 3), keepdim=True)).sigmoid())


class SpatialAttention(nn.Module):
    """Scale each place by a gate computed from the mean and the maximum over the channels around it.

    Args:
        kernel: side of the convolution that looks at [mean; max], odd.
        identity_start: as in ChannelAttention.

    Source: Woo et al., "CBAM", ECCV 2018, section 3. https://arxiv.org/abs/1807.06521
    """

    def __init__(self, *, kernel: int = 7, identity_start: bool = False):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        self.conv = nn.Conv2d(2, 1, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.gate_scale = 2.0 if identity_start else 1.0
        if identity_start:
            nn.init.zeros_(self.conv.weight)

    def forward(self, x: FeatureMap) -> FeatureMap:
        """The feature map with its places scaled."""
        return x * self.gate(x)

    def gate(self, x: FeatureMap) -> Float[Tensor, "batch 1 height width"]:
        """The gate of each place: where this block looks."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)  # eq. 2's order: mean, then max
        return cast(Tensor, self.gate_scale * self.conv(pooled).sigmoid())


class CBAM(nn.Module):
    """Channel attention, then spatial attention, as eq. 1 and 2 of the AM_DenseNet paper: no biases, no batch norm.

    The CBAM authors' code adds biases to the MLP and batch norm to the spatial gate; the equations have neither.

    Source: Zhao et al., "A deep learning method for classification of chest X-ray images", 2021, eq. 1 and 2.
    """

    def __init__(self, channels: int, *, reduction: int = 16, identity_start: bool = False):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction=reduction, identity_start=identity_start)
        self.spatial = SpatialAttention(identity_start=identity_start)

    def forward(self, x: FeatureMap) -> FeatureMap:
        """The feature map, attended to."""
        return cast(Tensor, self.spatial(self.channel(x)))


Attention = Literal["none", "cbam", "se", "channel", "spatial"]
AttentionPlace = Literal["after-transition", "before-transition"]

MINIMUM_SIZE = 32
"""Pixels; one place of the last feature map."""


class DenseNet(Classifier):
    """A DenseNet whose last feature map, averaged, goes into one linear layer: `logits = W mean(f) + b`.

    The parts and their state-dict keys are torchvision's; attention modules are `features.attention1` to `3`.
    Golden counts with 14 findings and three channels; attention after the transition is on 128, 256 and 512 channels:
        none            6,968,206
        cbam            7,011,508   + (2,048 + 98) + (8,192 + 98) + (32,768 + 98)
        se, channel     7,011,214   + 2,048 + 8,192 + 32,768
        spatial         6,968,500   + 3 x 98
        cbam, before    7,140,532   + (8,192 + 98) + (32,768 + 98) + (131,072 + 98), on 256, 512 and 1,024 channels
    A grey stem: 6,272 less.

    Args:
        findings: number of outputs.
        channels: channels of the images, 1 (grey) or 3.
        block_layers: layers of the four dense blocks; (6, 12, 24, 16) is DenseNet-121.
        growth: channels that each layer adds.
        stem: channels of the first convolution.
        attention: what stands behind each of the first three dense blocks. `cbam` is the paper's; `se`, and CBAM's
            two halves alone, stand in the same place, which is our reading of "another attention".
        attention_place: behind the block's transition, as the paper's text says, or before it.
        reduction: see ChannelAttention.
        identity_start: see ChannelAttention.
        dropout: probability of dropping a dense layer's new features in training.
        pixel_mean, pixel_deviation: its own scale of pixels, one or three numbers each; [0, 1] if None.

    Source: Zhao et al., "A deep learning method for classification of chest X-ray images", 2021, figure 1; Huang et
        al., "Densely Connected Convolutional Networks", CVPR 2017. https://arxiv.org/abs/1608.06993
    """

    minimum_size = MINIMUM_SIZE
    stem_key = "features.conv0.weight"
    fresh: tuple[str, ...] = ("features.attention", "pixel_")

    def __init__(
        self,
        *,
        findings: int,
        channels: int = 3,
        block_layers: tuple[int, int, int, int] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
        attention: Attention = "none",
        attention_place: AttentionPlace = "after-transition",
        reduction: int = 16,
        identity_start: bool = False,
        dropout: float = 0.0,
        pixel_mean: Sequence[float] | None = None,
        pixel_deviation: Sequence[float] | None = None,
    ):
        super().__init__()
        check_channels(channels)
        plain = TorchvisionDenseNet(growth, block_layers, stem, drop_rate=dropout, num_classes=findings)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for name, part in plain.features.named_children():
            if name.startswith("denseblock"):
                part = DenseBlock(cast(nn.ModuleDict, part))
            stage = re.fullmatch(r"transition(\d)", name)
            if stage is not None:
                part.conv = part._modules.pop("conv")  # now behind the average: the same sum in a quarter of the time
            if stage is None or attention == "none":
                parts[name] = part
                continue
            before = attention_place == "before-transition"
            width = part.conv.in_channels if before else part.conv.out_channels
            module = _attention(attention, width, reduction=reduction, identity_start=identity_start)
            attend = (f"attention{stage[1]}", module)
            parts.update([attend, (name, part)] if before else [(name, part), attend])
        if channels == 1:
            parts["conv0"] = grey_stem(cast(nn.Conv2d, parts["conv0"]))
        if pixel_mean is not None and pixel_deviation is not None:
            self.set_pixel_scale(pixel_mean, pixel_deviation, channels=channels)
        self.features = nn.Sequential(parts)
        self.classifier = plain.classifier

    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""
        return cast(Tensor, self.classifier(self.feature_map(images).mean((2, 3))))

    def feature_map(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """The last feature map, a 32nd of the images' height and width."""
        self.check_size(images)
        return cast(Tensor, self.features(self.scaled(images))).relu()

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits, and for each finding a map whose mean over the film is exactly its logit.

        A place's value is the logit that the film would have if it looked like this everywhere, so all films share
        one scale and an empty map stays empty.

        Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2, with the bias.
            https://arxiv.org/abs/1512.04150
        """
        maps = torch.einsum("fc,bchw->bfhw", self.classifier.weight, self.feature_map(images))
        maps = maps + self.classifier.bias[:, None, None]
        return maps.mean((2, 3)), maps

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of foreign weights to this network's; see modern_keys."""
        return modern_keys(state)


class DenseBlock(nn.ModuleDict):
    """Torchvision's dense block, whose features so far are kept as one tensor.

    Torchvision joins the list of all features anew for every layer, and its backward pass adds up a gradient per
    member of each list: a training step takes 5 % longer for the same numbers (benchmarks/training.py).

    Args:
        layers: torchvision's block; its layers are taken over with their names.
    """

    def __init__(self, layers: nn.ModuleDict):
        super().__init__(dict(layers.items()))

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch wider height width"]:
        """The features, followed by those that each layer adds."""
        for layer in cast(Iterable[Any], self.values()):  # torchvision's _DenseLayer
            narrow = layer.conv1(layer.relu1(layer.norm1(features)))
            new = layer.conv2(layer.relu2(layer.norm2(narrow)))
            if layer.drop_rate > 0:
                new = nn.functional.dropout(new, layer.drop_rate, training=self.training)
            features = torch.cat([features, new], dim=1)
        return features


def _attention(attention: Attention, width: int, *, reduction: int, identity_start: bool) -> nn.Module:
    match attention:
        case "none":
            return nn.Identity()
        case "cbam":
            return CBAM(width, reduction=reduction, identity_start=identity_start)
        case "se":
            return SqueezeExcitation(width, reduction=reduction, identity_start=identity_start)
        case "channel":
            return ChannelAttention(width, reduction=reduction, identity_start=identity_start)
        case "spatial":
            return SpatialAttention(identity_start=identity_start)


def modern_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under today's names: old DenseNet keys `norm.1` and `module.` prefixes are renamed."""
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        renamed[re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)\.", r"\1\2.", key)] = value
    return renamed
