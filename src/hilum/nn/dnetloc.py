"""DNetLoc, approximately: a DenseNet for large films that also says where an abnormality lies."""

from collections import OrderedDict
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from hilum.nn.classifier import ClassMaps, Images, Logits, check_channels
from hilum.nn.densenet import MINIMUM_SIZE as DENSENET_MINIMUM_SIZE
from hilum.nn.densenet import DenseNet

MINIMUM_SIZE = 4 * DENSENET_MINIMUM_SIZE
"""Pixels; the two convolutions in front take a quarter."""


class DNetLoc(DenseNet):
    """A DenseNet-121 behind two convolutions of stride 2, with outputs for findings and then for locations.

    AN APPROXIMATION. Follows the source: DenseNet-121 on ImageNet weights, films of 1,024 px, two 3x3 convolutions of
    stride 2 and three kernels in front, BCE weighted by class, sigmoid outputs for locations.
    Our reading: each convolution in front has no bias and is followed by batch norm and ReLU, as DenseNet's own stem.
    Missing: the source learns its locations and more findings from PLCO, which is not public. ChestX-ray14 has no
    location labels, so these outputs are masked: they get no gradient, and nothing but `all_logits` shows them.
    Golden count, 14 findings, 9 locations, three channels: 6,977,605 = DenseNet-121 6,968,206 + in front 2 x (81 + 6)
    + locations 9 x 1,025. Grey films: 54 less, two of three channels of the first convolution.

    Args:
        findings: number of findings, the first outputs.
        channels: channels of the images, 1 (grey) or 3; DenseNet's own stem always sees three.
        locations: number of location outputs; the source has 21 outputs for PLCO, 12 of them findings.
        block_layers: see DenseNet; also growth, stem and dropout.

    Source: Guendel et al., "Learning to recognize abnormalities in chest X-rays with location-aware dense networks",
        2018. https://arxiv.org/abs/1803.04565; known to us by description only.
    """

    minimum_size = MINIMUM_SIZE
    stem_key = "front.conv0.weight"
    fresh = ("front.",)

    def __init__(
        self,
        *,
        findings: int,
        channels: int = 3,
        locations: int = 9,
        block_layers: tuple[int, int, int, int] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
        dropout: float = 0.0,
    ):
        check_channels(channels)
        if locations < 0:
            raise ValueError(f"locations must be 0 or more, got {locations}")
        super().__init__(
            findings=findings + locations, block_layers=block_layers, growth=growth, stem=stem, dropout=dropout
        )
        self.findings = findings
        self.front = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(channels, 3, kernel_size=3, stride=2, padding=1, bias=False),
                norm0=nn.BatchNorm2d(3),
                relu0=nn.ReLU(),
                conv1=nn.Conv2d(3, 3, kernel_size=3, stride=2, padding=1, bias=False),
                norm1=nn.BatchNorm2d(3),
                relu1=nn.ReLU(),
            )
        )

    def forward(self, images: Images) -> Logits:
        """Logits of the findings alone."""
        return self.all_logits(images)[:, : self.findings]

    def all_logits(self, images: Images) -> Float[Tensor, "batch outputs"]:
        """Logits of the findings, then of the locations; the latter mean nothing unless trained on their labels."""
        return super().forward(images)

    def feature_map(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """The last feature map, a 128th of the images' height and width."""
        self.check_size(images)
        return cast(Tensor, self.features(self.front(images))).relu()

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits of the findings and their maps; see DenseNet.class_maps."""
        logits, maps = super().class_maps(images)
        return logits[:, : self.findings], maps[:, : self.findings]
