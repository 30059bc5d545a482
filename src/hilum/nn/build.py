"""From a description to a network, in one visible `match`."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_serializer,
)

from hilum.nn import backbones, baselines, densenet
from hilum.nn.backbones import Backbone
from hilum.nn.baselines import ChestNet, DNetLoc, Pooling, Wang2017, Wang2017Backbone
from hilum.nn.classifier import Classifier
from hilum.nn.densenet import Attention, AttentionPlace, DenseNet
from hilum.nn.ensemble import Average, Ensemble, Member, View
from hilum.nn.graph import GraphNetwork, Operation

Layers = Annotated[int, Field(ge=1, le=256)]
Width = Annotated[int, Field(ge=1, le=4096)]
FourStages = tuple[Layers, Layers, Layers, Layers]
Dropout = Annotated[float, Field(ge=0, lt=1)]
PixelScale = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] | None
"""A mean or deviation of pixels, of all channels or of each of three."""


class _Choices(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_later_fields(self, serialized: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """The fields, without those that came later and are not stated: recipes and bundles of before have none."""
        later = {"pixel_mean": None, "pixel_deviation": None, "levels": (), "fields": 1, "shown": True}
        return {
            name: value
            for name, value in serialized(self).items()
            if name not in later or (value != later[name] and value != [])
        }


class DenseNetChoices(_Choices):
    """DenseNet-121 without attention, or with one of: CBAM (`am-densenet`), SE, CBAM's two halves alone."""

    network: Literal["densenet", "am-densenet", "se-densenet", "channel-densenet", "spatial-densenet"] = "am-densenet"
    block_layers: FourStages = (6, 12, 24, 16)
    growth: Width = 32
    stem: Width = 64
    attention_place: AttentionPlace = "after-transition"
    reduction: Width = 16
    identity_start: bool = False
    dropout: Dropout = 0.0
    pixel_mean: PixelScale = None
    pixel_deviation: PixelScale = None


class Wang2017Choices(_Choices):
    """See Wang2017."""

    network: Literal["wang2017"] = "wang2017"
    backbone: Wang2017Backbone = "resnet50"
    pooling: Pooling = "lse"
    lse_r: Annotated[float, Field(gt=0)] = 10.0


class ChestNetChoices(_Choices):
    """See ChestNet."""

    network: Literal["chestnet"] = "chestnet"
    size: Annotated[int, Field(ge=baselines.STRIDE, le=4096, multiple_of=baselines.STRIDE)] = 224
    stage_blocks: FourStages = (3, 8, 36, 3)


class DNetLocChoices(_Choices):
    """See DNetLoc."""

    network: Literal["dnetloc"] = "dnetloc"
    locations: Annotated[int, Field(ge=0, le=4096)] = 9
    block_layers: FourStages = (6, 12, 24, 16)
    growth: Width = 32
    stem: Width = 64
    dropout: Dropout = 0.0


class BackboneChoices(_Choices):
    """A network of timm, `timm:NAME`; see Backbone. `size` is that of the films, for networks made for one size."""

    network: Annotated[str, Field(pattern=rf"^{backbones.PREFIX}[\w.:/@-]+$")]
    size: Annotated[int, Field(ge=backbones.MINIMUM_SIZE, le=4096)] = 224
    dropout: Dropout = 0.0
    drop_path: Dropout = 0.0
    pixel_mean: PixelScale = None
    pixel_deviation: PixelScale = None
    levels: tuple[Annotated[int, Field(ge=0, le=64)], ...] = ()
    fields: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def name(self) -> str:
        """What timm calls it."""
        return self.network.removeprefix(backbones.PREFIX)


class GraphChoices(_Choices):
    """A network of others as the operations of its ONNX file; see GraphNetwork. `hilum import onnx` writes this."""

    network: Literal["onnx"] = "onnx"
    size: Annotated[int, Field(ge=1, le=4096)]
    features: Annotated[int, Field(ge=1)]
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)]
    weights: dict[str, tuple[int, ...]]
    pixel_mean: PixelScale
    pixel_deviation: PixelScale


TIMM = backbones.PREFIX + "NAME"

NETWORKS: tuple[str, ...] = (
    *(
        name
        for choices in (DenseNetChoices, Wang2017Choices, ChestNetChoices, DNetLocChoices, GraphChoices)
        for name in get_args(choices.model_fields["network"].annotation)
    ),
    TIMM,
)
"""What `network` may be."""


def _with_network(fields: Any) -> Any:
    return {"network": "am-densenet", **fields} if isinstance(fields, dict) else fields


def _kind(fields: Any) -> str:
    """The tag of the choices that a network has, for pydantic."""
    network = fields.get("network") if isinstance(fields, dict) else fields.network
    return TIMM if isinstance(network, str) and network.startswith(backbones.PREFIX) else str(network)


_Networks = (
    Annotated[DenseNetChoices, Tag("densenet")]
    | Annotated[DenseNetChoices, Tag("am-densenet")]
    | Annotated[DenseNetChoices, Tag("se-densenet")]
    | Annotated[DenseNetChoices, Tag("channel-densenet")]
    | Annotated[DenseNetChoices, Tag("spatial-densenet")]
    | Annotated[Wang2017Choices, Tag("wang2017")]
    | Annotated[ChestNetChoices, Tag("chestnet")]
    | Annotated[GraphChoices, Tag("onnx")]
    | Annotated[DNetLocChoices, Tag("dnetloc")]
    | Annotated[BackboneChoices, Tag(TIMM)]
)

Single = Annotated[_Networks, Discriminator(_kind), BeforeValidator(_with_network)]
"""A network that is no ensemble."""


class MemberChoices(_Choices):
    """A network of an ensemble; see hilum.nn.ensemble.Member. `outputs`: how many it has."""

    architecture: Single
    size: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    outputs: Annotated[int, Field(ge=1)]
    rows: tuple[Annotated[int, Field(ge=0)], ...]
    shown: bool = True


class EnsembleChoices(_Choices):
    """See Ensemble; `hilum ensemble` writes this."""

    network: Literal["ensemble"] = "ensemble"
    average: Average = "logits"
    views: Annotated[tuple[View, ...], Field(min_length=1)] = ("plain",)
    members: Annotated[tuple[MemberChoices, ...], Field(min_length=1)]

    @property
    def size(self) -> int:
        """Height and width of the films in pixels: the largest member's."""
        return max(member.size for member in self.members)


Architecture = Annotated[
    Annotated[EnsembleChoices, Tag("ensemble")] | _Networks,
    Discriminator(_kind),
    BeforeValidator(_with_network),
]
"""Which network, and its free choices. Stored in recipes and bundles."""

_ARCHITECTURE: TypeAdapter[Architecture] = TypeAdapter(Architecture)


def architecture_from_dict(fields: Mapping[str, Any]) -> Architecture:
    """An architecture from its fields; the network is AM_DenseNet unless they say another.

    Raises:
        ValidationError: pydantic's, naming the keys that are wrong.
    """
    return _ARCHITECTURE.validate_python(fields)


def build(architecture: Architecture, *, findings: int, channels: int) -> Classifier:
    """The network with fresh random weights from torch's current random state.

    Raises:
        ValueError: if the choices do not fit each other, e.g. channels that the reduction does not divide.
    """
    match architecture:
        case DenseNetChoices():
            return _densenet(architecture, findings=findings, channels=channels)
        case Wang2017Choices(backbone=backbone, pooling=pooling, lse_r=lse_r):
            return Wang2017(findings=findings, channels=channels, backbone=backbone, pooling=pooling, lse_r=lse_r)
        case ChestNetChoices(size=size, stage_blocks=stage_blocks):
            return ChestNet(findings=findings, channels=channels, size=size, stage_blocks=stage_blocks)
        case DNetLocChoices():
            return DNetLoc(
                findings=findings,
                channels=channels,
                locations=architecture.locations,
                block_layers=architecture.block_layers,
                growth=architecture.growth,
                stem=architecture.stem,
                dropout=architecture.dropout,
            )
        case EnsembleChoices(members=members, average=average, views=views):
            return Ensemble([_member(one) for one in members], size=architecture.size, average=average, views=views)
        case GraphChoices():
            return GraphNetwork(
                findings=findings,
                channels=channels,
                size=architecture.size,
                features=architecture.features,
                operations=architecture.operations,
                weights=architecture.weights,
                pixel_mean=architecture.pixel_mean or (0.0,),
                pixel_deviation=architecture.pixel_deviation or (1.0,),
            )
        case BackboneChoices():
            return Backbone(
                findings=findings,
                name=architecture.name,
                channels=channels,
                size=architecture.size,
                dropout=architecture.dropout,
                drop_path=architecture.drop_path,
                pixel_mean=architecture.pixel_mean,
                pixel_deviation=architecture.pixel_deviation,
                levels=architecture.levels,
                fields=architecture.fields,
            )


def _member(choices: MemberChoices) -> Member:
    model = build(choices.architecture, findings=choices.outputs, channels=choices.channels)
    return Member(model, choices.size, choices.channels, choices.rows, choices.shown)


def whole(architecture: Architecture) -> bool:
    """Whether a network must be built with its memory: those of timm hold tables that are not among their weights."""
    if isinstance(architecture, EnsembleChoices):
        return any(isinstance(member.architecture, BackboneChoices) for member in architecture.members)
    return isinstance(architecture, BackboneChoices)


def _densenet(architecture: DenseNetChoices, *, findings: int, channels: int) -> DenseNet:
    attention: Attention
    match architecture.network:
        case "densenet":
            attention = "none"
        case "am-densenet":
            attention = "cbam"
        case "se-densenet":
            attention = "se"
        case "channel-densenet":
            attention = "channel"
        case "spatial-densenet":
            attention = "spatial"
    return DenseNet(
        findings=findings,
        channels=channels,
        block_layers=architecture.block_layers,
        growth=architecture.growth,
        stem=architecture.stem,
        attention=attention,
        attention_place=architecture.attention_place,
        reduction=architecture.reduction,
        identity_start=architecture.identity_start,
        dropout=architecture.dropout,
        pixel_mean=architecture.pixel_mean,
        pixel_deviation=architecture.pixel_deviation,
    )


def check_size(architecture: Architecture, size: int) -> None:
    """Refuse a size of films that the network cannot take.

    Args:
        size: height and width in pixels.

    Raises:
        ValueError: if it is too small, or not the one that a ChestNet was made for.
    """
    match architecture:
        case ChestNetChoices(size=wanted):
            if size != wanted:
                raise ValueError(
                    f"size must be {wanted} px, for which chestnet's last kernel is made, got {size}. "
                    f"Change both: architecture.size and preprocessing.size"
                )
            return
        case GraphChoices(size=wanted) | EnsembleChoices(size=wanted):
            if size != wanted:
                raise ValueError(f"size must be {wanted} px, for which this network was made, got {size}")
            return
        case DenseNetChoices():
            minimum = densenet.MINIMUM_SIZE
        case DNetLocChoices():
            minimum = baselines.MINIMUM_SIZE
        case BackboneChoices():
            minimum = backbones.MINIMUM_SIZE
        case Wang2017Choices(backbone=backbone):
            minimum = baselines.MINIMUM_SIZES[backbone]
    if size < minimum:
        raise ValueError(f"size must be at least {minimum} px for {architecture.network}, got {size}")
