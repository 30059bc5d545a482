"""From a description to a network, in one visible `match`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hilum.nn.densenet import AttentionPlace, DenseNet

Layers = Annotated[int, Field(ge=1, le=256)]
Width = Annotated[int, Field(ge=1, le=4096)]


class Architecture(BaseModel):
    """Which network, and its free choices. Stored in recipes and bundles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["densenet", "am-densenet"] = "am-densenet"
    block_layers: tuple[Layers, Layers, Layers, Layers] = (6, 12, 24, 16)
    growth: Width = 32
    stem: Width = 64
    attention_place: AttentionPlace = "after-transition"
    reduction: Width = 16
    identity_start: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


def build(architecture: Architecture, *, findings: int, channels: int) -> DenseNet:
    """The network with fresh random weights from torch's current random state.

    Raises:
        ValueError: if the choices do not fit each other, e.g. channels that the reduction does not divide.
    """
    match architecture.network:
        case "densenet":
            attention = False
        case "am-densenet":
            attention = True
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
    )
