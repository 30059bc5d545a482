"""Attention: a feature map is told which channels to attend to, which places, or both (CBAM)."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
