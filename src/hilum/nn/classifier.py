"""What every system is: a network from films to logits that can also say where it looked."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "batch channels height width"]
Logits = Float[Tensor, "batch findings"]
ClassMaps = Float[Tensor, "batch findings rows columns"]


class Classifier(nn.Module, ABC):
    """A network from films to logits that can also say where it looked. All systems share this road.

    Attributes:
        classifier: the last linear layer; its first outputs are the findings.
        minimum_size: the shortest height and width of a film, in pixels.
        stem_key: state-dict key of the first convolution's weight, the only one that sees the film's channels.
        fresh: beginnings of the keys that weights trained elsewhere may lack, beside the classifier.
        pixel_mean, pixel_deviation: what the network takes from films in [0, 1] and then divides them by, per channel:
            its own scale of pixels; None if that is [0, 1].
    """

    classifier: nn.Linear
    minimum_size: int
    stem_key: str
    fresh: tuple[str, ...]
    pixel_mean: Float[Tensor, "channels 1 1"] | None
    pixel_deviation: Float[Tensor, "channels 1 1"] | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", None)  # not in the state dict until it is set
        self.register_buffer("pixel_deviation", None)

    @abstractmethod
    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""

    @abstractmethod
    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits, and for each finding a map in the unit of its logit; what relates the two, each system says."""

    @abstractmethod
    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of foreign weights to this network's."""

    def set_pixel_scale(self, mean: Sequence[float], deviation: Sequence[float], *, channels: int) -> None:
        """Have films in [0, 1] brought to a mean and deviation inside the network; a grey one takes the colours' mean.

        Raises:
            ValueError: if there are not 1 or 3 of each, or a deviation is not above 0.
        """
        if len(mean) != len(deviation) or len(mean) not in (1, 3) or min(deviation) <= 0:
            raise ValueError(
                f"pixel_mean and pixel_deviation must be 1 or 3 numbers each, deviations above 0, got {list(mean)} and "
                f"{list(deviation)}"
            )
        for name, values in (("pixel_mean", mean), ("pixel_deviation", deviation)):
            numbers = torch.tensor(list(values), dtype=torch.float32)
            numbers = numbers.mean(0, keepdim=True) if channels == 1 else numbers.expand(channels).clone()
            setattr(self, name, numbers[:, None, None])

    def scaled(self, images: Images) -> Float[Tensor, "batch colours height width"]:
        """Films in [0, 1] on the network's own scale of pixels: grey ones in its three colours where these differ."""
        if self.pixel_mean is None or self.pixel_deviation is None:
            return images
        return (images - self.pixel_mean) / self.pixel_deviation

    def fold_to_grey(self) -> None:
        """Make the first convolution see one channel: for three equal ones, the same sum in a third of the time.

        Where the colours differ in mean or deviation, a grey film becomes three channels inside instead: zeros around
        a film that is normed colour by colour are three different greys, which one channel cannot hold.
        """
        if self.pixel_mean is not None and self.pixel_deviation is not None:
            mean, deviation = self.pixel_mean.flatten(), self.pixel_deviation.flatten()
            if (mean != mean[0]).any() or (deviation != deviation[0]).any():
                return
            self.pixel_mean, self.pixel_deviation = self.pixel_mean[:1], self.pixel_deviation[:1]
        stem = cast(nn.Conv2d, self.get_submodule(self.stem_key.removesuffix(".weight")))
        stem.weight = nn.Parameter(stem.weight.detach().sum(1, keepdim=True))
        stem.in_channels = 1

    def check_size(self, images: Images) -> None:
        """Refuse films that are too small.

        Raises:
            ValueError: if a side is below `minimum_size`.
        """
        height, width = images.shape[2:]
        if min(height, width) < self.minimum_size:
            raise ValueError(
                f"images must be at least {self.minimum_size} px high and wide for this network, got {height} x {width}"
            )


def overlap(before: int, after: int) -> Float[Tensor, "after before"]:
    """One axis of the exact area mean: rows sum to 1 and columns are alike, so that the mean stays, growing or not."""
    return torch.tensor(_shares(before, after))


@lru_cache(maxsize=64)
def _shares(before: int, after: int) -> list[list[float]]:
    step = before / after
    return [
        [max(0.0, min(old + 1, (new + 1) * step) - max(old, new * step)) / step for old in range(before)]
        for new in range(after)
    ]


def check_channels(channels: int) -> None:
    """Refuse what is neither grey nor RGB.

    Raises:
        ValueError: if the number of channels is not 1 or 3.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")


def grey_stem(colour: nn.Conv2d) -> nn.Conv2d:
    """A fresh first convolution for grey films, in all else like the one for RGB."""
    kernel, stride, padding = (cast(Any, value) for value in (colour.kernel_size, colour.stride, colour.padding))
    grey = nn.Conv2d(1, colour.out_channels, kernel, stride, padding, bias=colour.bias is not None)
    nn.init.kaiming_normal_(grey.weight)
    return grey


def backbone_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision network's weights without its head, as those of a system's `backbone`; a system's own stay."""
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    if any(key.startswith("backbone.") for key in plain):
        return plain
    head = ("fc.", "classifier.", "aux1.", "aux2.")
    return {f"backbone.{key}": value for key, value in plain.items() if not key.startswith(head)}


def load_backbone(model: Classifier, state: Mapping[str, Tensor]) -> list[str]:
    """Fill a model from weights that were trained for other classes, and return the keys that stay at their start.

    Only these may differ: the classifier, if its shape does, and the model's `fresh` parts, if the weights lack them.
    A stem for RGB is summed over its channels for a grey model: on a grey film, equal output at a third of the input.
    A grey one is shared out to the three of an RGB model. The scale of pixels must be the one of the weights.

    Raises:
        ValueError: if any other key is missing, unknown or of another shape; it names them.
    """
    state = model.own_keys(state)
    own = model.state_dict()
    stem = model.stem_key
    if stem in state and stem in own and (state[stem].shape[1:2], own[stem].shape[1:2]) == ((3,), (1,)):
        state[stem] = state[stem].sum(1, keepdim=True)
    elif stem in state and stem in own and (state[stem].shape[1:2], own[stem].shape[1:2]) == ((1,), (3,)):
        state[stem] = state[stem].expand_as(own[stem]) / 3
    for key in ("pixel_mean", "pixel_deviation"):
        if key in state:
            if key not in own or not torch.isclose(state[key].mean(), own[key].mean(), rtol=1e-3, atol=1e-4):
                here = own[key].flatten().tolist() if key in own else "none"
                raise ValueError(
                    f"architecture.{key} must be that of the weights, {state[key].flatten().tolist()}, got {here}"
                )
            state[key] = own[key]  # of as many channels
    head = [k for k in own if k.startswith("classifier.")]
    if any(k in state and state[k].shape != own[k].shape for k in head):
        state = {k: v for k, v in state.items() if k not in head}
    missing = sorted(own.keys() - state.keys())
    wrong = [k for k in missing if not k.startswith(("classifier.", *model.fresh)) and not _is_counter(k)]
    wrong += sorted(state.keys() - own.keys())
    wrong += sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ValueError(f"weights must match the model's keys and shapes, but these do not: {shown}")
    model.load_state_dict(own | state)
    return missing


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")  # files older than this counter lack it
