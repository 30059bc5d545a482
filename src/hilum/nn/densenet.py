"""DenseNet with or without attention: AM_DenseNet, and DenseNet-121 as its own baseline."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import DenseNet as TorchvisionDenseNet

from hilum.nn.attention import CBAM

Images = Float[Tensor, "batch channels height width"]
Logits = Float[Tensor, "batch findings"]

AttentionPlace = Literal["after-transition", "before-transition"]


class DenseNet(nn.Module):
    """A DenseNet whose last feature map, averaged, goes into one linear layer: `logits = W mean(f) + b`.

    The parts and their state-dict keys are torchvision's; attention modules are `features.attention1` to `3`.
    Golden counts with 14 findings and three channels: 6,968,206 without attention; 7,011,508 with CBAM after each
    transition, on 128, 256 and 512 channels: + (2,048 + 98) + (8,192 + 98) + (32,768 + 98). A grey stem: 6,272 less.

    Args:
        findings: number of outputs.
        channels: channels of the images, 1 (grey) or 3.
        block_layers: layers of the four dense blocks; (6, 12, 24, 16) is DenseNet-121.
        growth: channels that each layer adds.
        stem: channels of the first convolution.
        attention: put a CBAM behind each of the first three dense blocks.
        attention_place: behind the block's transition, as the paper's text says, or before it.
        reduction: see ChannelAttention.
        identity_start: see ChannelAttention.
        dropout: probability of dropping a dense layer's new features in training.

    Source: Zhao et al., "A deep learning method for classification of chest X-ray images", 2021, figure 1; Huang et
        al., "Densely Connected Convolutional Networks", CVPR 2017. https://arxiv.org/abs/1608.06993
    """

    def __init__(
        self,
        *,
        findings: int,
        channels: int = 3,
        block_layers: tuple[int, int, int, int] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
        attention: bool = False,
        attention_place: AttentionPlace = "after-transition",
        reduction: int = 16,
        identity_start: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        plain = TorchvisionDenseNet(growth, block_layers, stem, drop_rate=dropout, num_classes=findings)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for name, part in plain.features.named_children():
            stage = re.fullmatch(r"transition(\d)", name)
            if stage is None or not attention:
                parts[name] = part
                continue
            before = attention_place == "before-transition"
            width = part.conv.in_channels if before else part.conv.out_channels
            cbam = CBAM(width, reduction=reduction, identity_start=identity_start)
            attend = (f"attention{stage[1]}", cbam)
            parts.update([attend, (name, part)] if before else [(name, part), attend])
        if channels == 1:
            parts["conv0"] = nn.Conv2d(1, stem, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(cast(nn.Conv2d, parts["conv0"]).weight)
        self.features = nn.Sequential(parts)
        self.classifier = plain.classifier

    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""
        return cast(Tensor, self.classifier(self.feature_map(images).mean((2, 3))))

    def feature_map(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """The last feature map, a 32nd of the images' height and width."""
        return cast(Tensor, self.features(images)).relu()

    def class_maps(self, images: Images) -> tuple[Logits, Float[Tensor, "batch findings rows columns"]]:
        """Logits, and for each finding a map whose mean over the film is exactly its logit.

        A place's value is the logit that the film would have if it looked like this everywhere, so all films share
        one scale and an empty map stays empty.

        Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2, with the bias.
            https://arxiv.org/abs/1512.04150
        """
        maps = torch.einsum("fc,bchw->bfhw", self.classifier.weight, self.feature_map(images))
        maps = maps + self.classifier.bias[:, None, None]
        return maps.mean((2, 3)), maps


def modern_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under today's names: old DenseNet keys `norm.1` and `module.` prefixes are renamed."""
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        renamed[re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)\.", r"\1\2.", key)] = value
    return renamed


def load_backbone(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Fill a model from weights that were trained for other classes, and return the keys that stay at their start.

    Only these may differ: the classifier, if its shape does, and attention that the weights lack. A stem for RGB is
    summed over its channels for a grey model: on a grey film, equal output at a third of the input.

    Raises:
        ValueError: if any other key is missing, unknown or of another shape; it names them.
    """
    state = modern_keys(state)
    own = model.state_dict()
    stem = "features.conv0.weight"
    if stem in state and stem in own and (state[stem].shape[1:2], own[stem].shape[1:2]) == ((3,), (1,)):
        state[stem] = state[stem].sum(1, keepdim=True)
    head = [k for k in own if k.startswith("classifier.")]
    if any(k in state and state[k].shape != own[k].shape for k in head):
        state = {k: v for k, v in state.items() if k not in head}
    missing = sorted(own.keys() - state.keys())
    wrong = [k for k in missing if k not in head and ".attention" not in k and not k.endswith("num_batches_tracked")]
    wrong += sorted(state.keys() - own.keys())
    wrong += sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ValueError(f"weights must match the model's keys and shapes, but these do not: {shown}")
    model.load_state_dict(own | state)
    return missing
