"""Wang 2017, the network of the ChestX-ray8 paper: a backbone, a transition layer, one pooling, one linear layer."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import alexnet, googlenet, resnet50, vgg16

from hilum.nn.classifier import (
    Classifier,
    ClassMaps,
    Images,
    Logits,
    backbone_keys,
    check_channels,
    grey_stem,
)

Backbone = Literal["alexnet", "googlenet", "vgg16", "resnet50"]
Pooling = Literal["lse", "max", "average"]

MINIMUM_SIZES: dict[Backbone, int] = {"alexnet": 63, "googlenet": 32, "vgg16": 32, "resnet50": 32}
"""Pixels from which the last feature map holds a place that is not padding alone."""


class Wang2017(Classifier):
    """A backbone without its head -> transition -> global pooling -> linear.

    Follows the source: the four backbones on ImageNet weights, their fully connected layers removed; a transition
    layer of D channels, 1,024 for GoogLeNet and 2,048 for ResNet-50; LSE, max or average pooling of each channel; one
    linear layer; the loss, `w-cel`.
    Our reading: the transition is a 1x1 convolution with bias and a ReLU, and D is the backbone's own width (256 for
    AlexNet, 512 for VGG-16), as it is in the two cases that the source names; AlexNet and VGG-16 keep their last max
    pooling; GoogLeNet has no auxiliary heads; pixels are in [0, 1], whatever the backbone saw before.
    Golden counts, 14 findings, three channels, as backbone + transition + classifier: AlexNet 2,539,086 = 2,469,696 +
    65,792 + 3,598; GoogLeNet 6,663,854 = 5,599,904 + 1,049,600 + 14,350; VGG-16 14,984,526 = 14,714,688 + 262,656 +
    7,182; ResNet-50 27,733,070 = 23,508,032 + 4,196,352 + 28,686.

    Args:
        findings: number of outputs.
        backbone: which network comes first. Its keys are torchvision's behind `backbone.`.
        channels: channels of the images, 1 (grey) or 3.
        pooling: how a channel's map becomes one number.
        lse_r: sharpness of LSE pooling, above 0; 10 is the source's best.

    Source: Wang et al., "ChestX-ray8", CVPR 2017, section 3. https://arxiv.org/abs/1705.02315
    """

    fresh = ("transition.",)

    def __init__(
        self,
        *,
        findings: int,
        backbone: Backbone,
        channels: int = 3,
        pooling: Pooling = "lse",
        lse_r: float = 10.0,
    ):
        super().__init__()
        check_channels(channels)
        if not 0 < lse_r < math.inf:
            raise ValueError(f"lse_r must be above 0, got {lse_r}. For its limits choose average or max pooling")
        self.pooling, self.lse_r = pooling, lse_r
        self.backbone_name, self.minimum_size = backbone, MINIMUM_SIZES[backbone]
        match backbone:
            case "alexnet":
                self.backbone, width, stem = _convolutions(alexnet), 256, "features.0"
            case "vgg16":
                self.backbone, width, stem = _convolutions(vgg16), 512, "features.0"
            case "googlenet":
                whole = googlenet(aux_logits=False, init_weights=False)
                self.backbone, width, stem = _without_head(whole), 1024, "conv1.conv"
            case "resnet50":
                self.backbone, width, stem = _without_head(resnet50()), 2048, "conv1"
        self.stem_key = f"backbone.{stem}.weight"
        if channels == 1:
            self.backbone.set_submodule(stem, grey_stem(cast(nn.Conv2d, self.backbone.get_submodule(stem))))
        self.transition = nn.Conv2d(width, width, kernel_size=1)
        nn.init.kaiming_normal_(self.transition.weight, nonlinearity="relu")
        self.classifier = nn.Linear(width, findings)

    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""
        return self._logits(self.feature_map(images))

    def feature_map(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """What the transition layer gives."""
        self.check_size(images)
        return cast(Tensor, self.transition(self.backbone(images))).relu()

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits, and for each finding the source's heatmap: the classifier at each place of the transition's output.

        A place's value is the logit that the film would have if it looked like this everywhere, under each pooling.
        Its mean is the logit under average pooling alone; LSE and max take each channel where it is strong, so that
        the logit may even lie above or below every value of the map.
        """
        features = self.feature_map(images)
        maps = torch.einsum("fc,bchw->bfhw", self.classifier.weight, features)
        return self._logits(features), maps + self.classifier.bias[:, None, None]

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Torchvision's weights of the backbone, or a Wang 2017's own."""
        return backbone_keys(state)

    def _logits(self, features: Float[Tensor, "batch features rows columns"]) -> Logits:
        match self.pooling:
            case "lse":
                pooled = lse_pool(features, r=self.lse_r)
            case "max":
                pooled = features.amax((2, 3))
            case "average":
                pooled = features.mean((2, 3))
        return cast(Tensor, self.classifier(pooled))


def lse_pool(features: Float[Tensor, "batch features rows columns"], *, r: float) -> Float[Tensor, "batch features"]:
    """Log-sum-exp pooling, between the mean (r to 0) and the maximum (r to infinity), in fp32 or finer.

    Args:
        r: sharpness, above 0.

    Source: Wang et al., "ChestX-ray8", CVPR 2017, section 3.2: x* + (1/r) log((1/S) sum exp(r (x - x*))), x* the
        maximum, so that no exponential overflows.
    """
    x = features.float() if features.dtype in (torch.bfloat16, torch.float16) else features
    peak = x.amax((2, 3), keepdim=True).detach()  # cancels in the value, and so in the gradient
    return (peak + ((r * (x - peak)).exp().mean((2, 3), keepdim=True)).log() / r).flatten(1)


def _convolutions(make: Callable[[], nn.Module]) -> nn.Sequential:
    """The convolutions of AlexNet or VGG-16, without their heads, which are up to twenty times as large, in memory."""
    with torch.device("meta"):
        features = cast(nn.Module, make().features)
    features.to_empty(device=torch.get_default_device())
    for part in features.modules():
        if isinstance(part, nn.Conv2d) and part.bias is not None:
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's VGG
            nn.init.zeros_(part.bias)
    return nn.Sequential(OrderedDict(features=features))


def _without_head(network: nn.Module) -> nn.Sequential:
    """A torchvision network's parts up to its last feature map; they stand in the order of its forward pass."""
    head = ("avgpool", "dropout", "fc", "classifier")
    return nn.Sequential(OrderedDict((name, part) for name, part in network.named_children() if name not in head))
