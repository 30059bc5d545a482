"""Networks to compare with: Wang 2017, ChestNet, and DNetLoc, approximately."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import alexnet, googlenet, resnet50, vgg16
from torchvision.models.resnet import Bottleneck, ResNet

from hilum.nn.classifier import Classifier, ClassMaps, Images, Logits, backbone_keys, check_channels, grey_stem
from hilum.nn.densenet import MINIMUM_SIZE as DENSENET_MINIMUM_SIZE
from hilum.nn.densenet import DenseNet

Wang2017Backbone = Literal["alexnet", "googlenet", "vgg16", "resnet50"]
Pooling = Literal["lse", "max", "average"]

MINIMUM_SIZES: dict[Wang2017Backbone, int] = {"alexnet": 63, "googlenet": 32, "vgg16": 32, "resnet50": 32}
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
        backbone: Wang2017Backbone,
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
        """Rename the keys of torchvision's backbone to this network's; a Wang 2017's own stay."""
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
        """Rename the keys of torchvision's ResNet to this network's; a ChestNet's own stay."""
        return backbone_keys(state)


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
