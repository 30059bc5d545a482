"""Any network of timm by its name: its features, one pooling, one linear layer, and class maps in closed form."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.errors import extras_named
from hilum.nn.classifier import Classifier, ClassMaps, Images, Logits, check_channels, overlap

PREFIX = "timm:"
"""How a network of timm is told from Hilum's own in a recipe: `timm:convnext_tiny`."""

MINIMUM_SIZE = 32
"""Pixels; one place of the last feature map of a network that halves the film five times."""


class Backbone(Classifier):
    """A network of timm without its head: features -> mean over the film -> norm, if it has one -> linear.

    The features' state-dict keys are timm's behind `body.`; the classifier is ours. Films in [0, 1] are brought to the
    mean and deviation that the network's published weights were trained with, inside the network. A vision
    transformer is averaged over its patches, not read at its class token, so that its class maps have a closed form.
    Golden counts, 14 findings, three channels: efficientnet-lite0 3,388,942 = 3,371,008 + 17,934; resnet50 23,536,718;
    convnext_tiny 27,830,894; vit_small_patch16_224 21,671,054.

    Args:
        findings: number of outputs.
        name: timm's name of the network, such as `tf_efficientnet_lite0`, or `hf-hub:owner/name`, whose configuration
            timm fetches.
        channels: channels of the images, 1 (grey) or 3.
        size: height and width of the films, for networks that are made for one size, such as transformers.
        dropout: probability of dropping a pooled feature in training.
        drop_path: probability of skipping the deepest residual block in training; others less, in proportion.
        pixel_mean, pixel_deviation: its own scale of pixels, one or three numbers each; timm's for the network if None.
        levels: which of its stages the classifier reads, counted from 0 as timm's `forward_intermediates` gives them
            (of an EfficientNet the stem and each stage of blocks); the last features alone if empty. Early stages see
            small things and are the least bound to the photographs of ImageNet.
        fields: how many fields a side the film is pooled into, so that the classifier knows where something is; with
            levels only.

    Raises:
        MissingExtraError: if timm is not installed.
        ValueError: if timm has no such network, it has layers between pooling and classifier, or it has no such stage.

    Source: Wightman, "PyTorch Image Models". https://github.com/huggingface/pytorch-image-models
    """

    fresh: tuple[str, ...] = ("pixel_",)

    def __init__(
        self,
        *,
        findings: int,
        name: str,
        channels: int = 3,
        size: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        pixel_mean: Sequence[float] | None = None,
        pixel_deviation: Sequence[float] | None = None,
        levels: Sequence[int] = (),
        fields: int = 1,
    ):
        super().__init__()
        check_channels(channels)
        self.name = name
        self.body = _body(name, channels=channels, size=size, drop_path=drop_path)
        config = self.body.pretrained_cfg
        stem = config["first_conv"]
        self.stem_key = f"body.{stem if isinstance(stem, str) else stem[0]}.weight"
        self.only_size = size if _made_for_one_size(self.body) else None
        self.minimum_size = MINIMUM_SIZE
        self.set_pixel_scale(pixel_mean or config["mean"], pixel_deviation or config["std"], channels=channels)
        self.levels, self.fields = tuple(levels), fields
        self.norm = None if levels else _norm_after_pooling(name, self.body)
        self.dropout = nn.Dropout(dropout)
        if (levels and dropout) or (fields > 1 and not levels):
            raise ValueError("levels must be without dropout, and fields with levels")
        side = self.only_size or 64
        wide = (
            sum(_widths(name, self.body, self.levels, torch.zeros(1, channels, side, side))) * fields**2
            if levels
            else self.body.num_features
        )
        self.classifier = nn.Linear(wide, findings)

    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""
        if self.levels:
            return cast(Tensor, self.classifier(self.pooled(images)))
        pooled = self.feature_map(images).mean((2, 3))
        if self.norm is not None:
            pooled = _normed(pooled, pooled, self.norm)
        return cast(Tensor, self.classifier(self.dropout(pooled)))

    def feature_map(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """The last feature map, whatever timm's form of it."""
        self.check_size(images)
        height, width = images.shape[2:]
        if self.only_size is not None and (height, width) != (self.only_size, self.only_size):
            raise ValueError(
                f"images must be {self.only_size} px high and wide, for which {self.name} was built, got {height} x "
                f"{width}. Change both: architecture.size and preprocessing.size"
            )
        features = self.body.forward_features(self.scaled(images))
        if features.ndim == 3:
            rows, columns = self.body.patch_embed.dynamic_feat_size(images.shape[2:])
            patches = features[:, self.body.num_prefix_tokens :]
            return cast(Tensor, patches.transpose(1, 2).unflatten(2, (rows, columns)))
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":
            return cast(Tensor, features.permute(0, 3, 1, 2))
        return cast(Tensor, features)

    def level_maps(self, images: Images) -> list[Float[Tensor, "batch features rows columns"]]:
        """The feature map of each of `levels`."""
        self.check_size(images)
        return _stages(self.body, self.scaled(images), list(self.levels))

    def pooled(self, images: Images) -> Float[Tensor, "batch features"]:
        """What the classifier reads: each level's mean over each field, level after level."""
        return torch.cat([_by_field(features, self.fields).flatten(1) for features in self.level_maps(images)], dim=1)

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits, and for each finding a map whose mean over the film is exactly its logit.

        With levels, each place of a level is weighed by the weights of its field, and the levels' maps are added on the
        finest grid, area by area.

        Where a norm follows the pooling, each place is normed with the film's own deviation, so that the maps stay
        linear in the features: the mean over places is still the logit.

        Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2, with the bias.
            https://arxiv.org/abs/1512.04150
        """
        if self.levels:
            return self._maps_of_levels(images)
        features = self.feature_map(images)
        if self.norm is not None:
            features = _normed(features, features.mean((2, 3)), self.norm)
        features = features * self.dropout(torch.ones_like(features[:, :, :1, :1]))
        maps = torch.einsum("fc,bchw->bfhw", self.classifier.weight, features)
        maps = maps + self.classifier.bias[:, None, None]
        return maps.mean((2, 3)), maps

    def _maps_of_levels(self, images: Images) -> tuple[Logits, ClassMaps]:
        levels = self.level_maps(images)
        rows, columns = (max(features.shape[axis] for features in levels) for axis in (2, 3))
        maps, used = torch.zeros(()), 0
        for features in levels:
            channels, height, width = features.shape[1:]
            cells = self.fields**2
            of_level = self.classifier.weight[:, used : used + channels * cells]
            used += channels * cells
            by_field = of_level.reshape(-1, channels, self.fields, self.fields)
            down, across = (overlap(side, self.fields).to(features) * side for side in (height, width))
            placed = torch.einsum("fchw,bchw->bfhw", down.T @ by_field @ across, features)
            maps = maps + overlap(height, rows).to(placed) @ placed @ overlap(width, columns).to(placed).T
        maps = maps + self.classifier.bias[:, None, None]
        return maps.mean((2, 3)), maps

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename timm's keys to this network's; its head, made for other classes, is left out."""
        plain = {key.removeprefix("module."): value for key, value in state.items()}
        if any(key.startswith("body.") for key in plain):
            return self._placed(plain)
        renamed = {}
        norms = _NORMS if any(key.startswith(_NORMS) for key in plain) else ("norm.",)  # read at the class token before
        for key, value in plain.items():
            if key.startswith(norms) and self.norm is not None:
                renamed[f"norm.{key.rsplit('.', 1)[1]}"] = value
            elif not key.startswith(_HEADS):
                renamed[f"body.{key}"] = value
        return self._placed(renamed)

    def _placed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same with a transformer's places interpolated to the size of these films."""
        key, own = "body.pos_embed", getattr(self.body, "pos_embed", None)
        if key not in state or own is None or state[key].shape[1] == own.shape[1]:
            return state
        from timm.layers.pos_embed import resample_abs_pos_embed

        prefix = 0 if getattr(self.body, "no_embed_class", False) else self.body.num_prefix_tokens
        grid = list(self.body.patch_embed.grid_size)
        return state | {key: resample_abs_pos_embed(state[key], grid, num_prefix_tokens=prefix)}


_NORMS = ("head.norm.", "fc_norm.")
_HEADS = ("head.", "fc.", "classifier.", "last_linear.", "head_dist.", "fc_norm.", "aux")


def _normed(features: Tensor, pooled: Float[Tensor, "batch features"], norm: nn.LayerNorm) -> Tensor:
    """A layer norm of features, vector by vector or place by place, with the deviation of the pooled vector."""
    deviation = (pooled.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    weight: Tensor = norm.weight
    bias: Tensor = norm.bias
    if features.ndim == 4:
        deviation, weight, bias = (part[..., None, None] for part in (deviation, weight, bias))
    return (features - features.mean(1, keepdim=True)) / deviation * weight + bias


def _by_field(
    features: Float[Tensor, "batch features rows columns"], fields: int
) -> Float[Tensor, "batch features fields fields"]:
    """The mean over each of fields x fields equal parts of the film."""
    down, across = (overlap(side, fields).to(features) for side in features.shape[2:])
    return down @ features @ across.T


def _stages(body: Any, images: Tensor, levels: list[int] | None) -> list[Tensor]:
    """The features of these stages of a timm network; of all if None."""
    options = {"extra_blocks": True} if "extra_blocks" in signature(body.forward_intermediates).parameters else {}
    found = body.forward_intermediates(images, indices=levels, intermediates_only=True, **options)
    return cast(list[Tensor], found)


def _widths(name: str, body: Any, levels: Sequence[int], image: Tensor) -> list[int]:
    """Channels of each of these stages.

    Raises:
        ValueError: if the network has no such stage, or timm cannot read its stages.
    """
    if not hasattr(body, "forward_intermediates"):
        raise ValueError(f"levels must be empty for {name}, whose stages timm cannot read")
    training = body.training
    with torch.no_grad():  # timm states the widths of some stages alone
        stages = [features.shape[1] for features in _stages(body.eval(), image, None)]
    body.train(training)
    if any(level not in range(len(stages)) for level in levels) or sorted(set(levels)) != list(levels):
        raise ValueError(f"levels must rise and be below {len(stages)} for {name}, got {list(levels)}")
    return [stages[level] for level in levels]


def _body(name: str, *, channels: int, size: int, drop_path: float) -> Any:
    with extras_named():
        import timm
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        hint = f" Near it are: {', '.join(close)}." if close else ""
        raise ValueError(f"network must be a name of timm behind {PREFIX}, got {name!r}.{hint}")
    refused: TypeError | None = None
    for sized in ({"img_size": size, "global_pool": "avg"}, {}):  # most are made for no size
        words: dict[str, Any] = {"num_classes": 0, "in_chans": channels, **options, **sized}
        try:
            return timm.create_model(name, pretrained=False, **words)
        except TypeError as error:
            refused = error
    raise ValueError(f"drop_path must be 0 for {name}, which does not take it, got {drop_path}") from refused


def _made_for_one_size(body: Any) -> bool:
    return hasattr(body, "patch_embed") and not getattr(body, "dynamic_img_size", False)


def _norm_after_pooling(name: str, body: Any) -> nn.LayerNorm | None:
    """Take the norm between pooling and classifier out of timm's network; None if there is none.

    Raises:
        ValueError: if other layers stand there.
    """
    head = getattr(body, "head", None)
    norms = [getattr(body, "fc_norm", None), getattr(head, "norm", None)]
    found = [norm for norm in norms if norm is not None and not isinstance(norm, nn.Identity)]
    hidden = [
        getattr(body, "conv_head", None) if hasattr(body, "norm_head") else None,
        getattr(head, "pre_logits", None),
    ]
    others = [part for part in hidden if part is not None and not isinstance(part, nn.Identity)]
    if len(found) > 1 or any(not isinstance(norm, nn.LayerNorm) for norm in found) or others:
        raise ValueError(
            f"network must end in pooling, at most one layer norm and one linear layer, but {name} has others there"
        )
    if not found:
        return None
    norm = nn.LayerNorm(found[0].normalized_shape, eps=found[0].eps)
    if norms[0] is found[0]:
        body.fc_norm = nn.Identity()
    else:
        body.head.norm = nn.Identity()
    return norm
