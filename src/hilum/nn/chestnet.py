"""ChestNet: a ResNet-152 that classifies, and an attention branch that judges where each finding may be."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from hilum.nn.classifier import (
    Classifier,
    ClassMaps,
    Images,
    Logits,
    backbone_keys,
    check_channels,
    grey_stem,
)

STRIDE = 32
"""Pixels of the film between two places of the last feature map; the penultimate stage has half of it."""

_PENULTIMATE, _LAST, _NARROW = 1024, 2048, 512  # a ResNet's widths, as in its own last stage
_FIRST, _SECOND = 14, 512


class AttentionBranch(nn.Module):
    """From the penultimate stage's features to a map per finding whose mean is this branch's logit.

    Args:
        side: places along each side of the penultimate feature map: the side of the last kernel.
    """

    def __init__(self, side: int):
        super().__init__()
        self.conv1 = nn.Conv2d(_PENULTIMATE, _NARROW, kernel_size=1, bias=False)
        self.norm1 = nn.BatchNorm2d(_NARROW)
        self.conv2 = nn.Conv2d(_NARROW, _NARROW, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(_NARROW)
        self.conv3 = nn.Conv2d(_NARROW, _LAST, kernel_size=1, bias=False)
        self.norm3 = nn.BatchNorm2d(_LAST)
        self.first = nn.Conv2d(1, _FIRST, kernel_size=1)
        self.second = nn.Conv2d(_FIRST, _SECOND, kernel_size=1)
        self.whole = nn.Conv2d(_SECOND, 1, kernel_size=side)

    def forward(
        self, penultimate: Float[Tensor, "batch 1024 side side"], alpha: Float[Tensor, "findings 2048"]
    ) -> Float[Tensor, "batch findings side side"]:
        """A map per finding whose mean is the logit; alpha weighs the channels of the third convolution."""
        x = self.norm1(self.conv1(penultimate)).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = self.norm3(self.conv3(x)).relu()
        maps = torch.einsum("fc,bchw->bfhw", alpha, x)
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        maps = (maps - low) / (high - low).clamp(min=1e-6)
        each = maps.flatten(0, 1)[:, None]  # every finding's map alone, as a picture of one channel
        hidden = self.second(self.first(each).relu()).relu()
        places = maps.shape[2] * maps.shape[3]
        votes = (hidden * self.whole.weight).sum(1) * places + self.whole.bias  # their mean is self.whole(hidden)
        return cast(Tensor, votes.reshape(maps.shape))


class ChestNet(Classifier):
    """The mean of two logits: a ResNet's, and its attention branch's.

    Follows the source, as far as we could learn of it: ResNet-152 with one linear layer; an attention branch on the
    penultimate stage's output (1,024 channels, 14 x 14 at 224 px): convolutions 1x1, 3x3, 1x1, a map per finding
    weighted with Grad-CAM's alpha, normalised, then convolutions (14, 1x1), (512, 1x1) and (1, the whole map).
    Could not be verified: how the branches are fused, and the loss. We take the mean of the two logits, and BCE.
    Our reading: the three convolutions are a bottleneck of the last stage's widths (512, 512, 2,048), so that
    Grad-CAM's alpha for the last stage, in closed form the classifier's weights over the number of places, fits them;
    no gradient flows through alpha; to normalise is to bring each map to [0, 1]; the findings share the last three
    convolutions, which see one finding's map each.
    Golden count, 14 findings, three channels: 62,218,859 = ResNet-152 58,143,808 + classifier 28,686 + bottleneck
    3,938,304 + the last three 28 + 7,680 + 100,353.

    Args:
        findings: number of outputs.
        channels: channels of the images, 1 (grey) or 3.
        size: height and width of the films in pixels, a multiple of 32; the last kernel is made for it.
        stage_blocks: blocks of the four stages; (3, 8, 36, 3) is ResNet-152.

    Source: Wang and Xia, "ChestNet", 2018. https://arxiv.org/abs/1807.03058; known to us by description only.
    """

    fresh = ("attention.",)
    stem_key = "backbone.conv1.weight"

    def __init__(
        self,
        *,
        findings: int,
        channels: int = 3,
        size: int = 224,
        stage_blocks: tuple[int, int, int, int] = (3, 8, 36, 3),
    ):
        super().__init__()
        check_channels(channels)
        if size < STRIDE or size % STRIDE:
            raise ValueError(f"size must be a multiple of {STRIDE}, got {size}")
        self.size = self.minimum_size = size
        parts = OrderedDict(ResNet(Bottleneck, list(stage_blocks), num_classes=1).named_children())
        del parts["avgpool"], parts["fc"]
        if channels == 1:
            parts["conv1"] = grey_stem(cast(nn.Conv2d, parts["conv1"]))
        self.backbone = nn.Sequential(parts)
        self.attention = AttentionBranch(2 * size // STRIDE)
        self.classifier = nn.Linear(_LAST, findings)

    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""
        return self.class_maps(images)[0]

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits, and for each finding a map whose mean is its logit: the mean of both branches' maps.

        The classification branch's half is a class activation map, enlarged twofold; the attention branch's half is
        what each place adds through a kernel that differs from place to place. A value therefore says how much a
        place spoke for the finding on this film, not what the film would score if it looked like this everywhere.

        Raises:
            ValueError: if the films are not of the size that the network was made for.
        """
        if images.shape[2:] != (self.size, self.size):
            height, width = images.shape[2:]
            raise ValueError(f"images must be {self.size} x {self.size} px for this ChestNet, got {height} x {width}")
        x = penultimate = images
        for name, part in self.backbone.named_children():
            x = part(x)
            if name == "layer3":
                penultimate = x
        seen = torch.einsum("fc,bchw->bfhw", self.classifier.weight, x) + self.classifier.bias[:, None, None]
        attended = self.attention(penultimate, self.classifier.weight.detach())
        maps = (F.interpolate(seen, scale_factor=2, mode="nearest") + attended) / 2  # nearest keeps the mean
        return maps.mean((2, 3)), maps

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Torchvision's weights of the ResNet, or a ChestNet's own."""
        return backbone_keys(state)
