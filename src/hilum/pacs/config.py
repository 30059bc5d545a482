"""What a node is told: a TOML file, checked before anything starts. node.toml is the annotated example."""

import ipaddress
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hilum.data.decoding import FEWEST_BITS, MOST_BITS
from hilum.errors import HilumError
from hilum.model.engines import EngineName

EXAMPLE = files("hilum.pacs") / "node.toml"
UNIT = files("hilum.pacs") / "hilum-node.service"

_AE_TITLE = Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e]+$")
AeTitle = Annotated[str, _AE_TITLE]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(_Section):
    """Which model, and what its results hold."""

    run: Annotated[Path, Field(strict=False)]
    engine: EngineName | Literal["auto"] = "auto"
    operating_point: str | None = None
    heatmaps: Annotated[int, Field(ge=1, le=14)] = 3
    bits: Annotated[int | None, Field(ge=FEWEST_BITS, le=MOST_BITS)] = None
    force: bool = False


class Receive(_Section):
    """Who may send, and how much."""

    ae_title: AeTitle
    address: str
    port: Port
    callers: Annotated[list[AeTitle], Field(min_length=1)]
    hosts: Annotated[list[str], Field(min_length=1)]
    most_associations: Annotated[int, Field(ge=1, le=500)] = 32
    largest_film_mb: Annotated[int, Field(ge=1, le=1024)] = 100

    @field_validator("hosts")
    @classmethod
    def _networks(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            ipaddress.ip_network(host)
        return hosts


class Dimse(_Section):
    """Results go by C-STORE."""

    kind: Literal["dimse"]
    ae_title: AeTitle
    host: str
    port: Port


class Stow(_Section):
    """Results go by STOW-RS."""

    kind: Literal["stow"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    user: str | None = None


class Store(_Section):
    """Where films and results wait."""

    folder: Annotated[Path, Field(strict=False)]
    quiet_s: Annotated[float, Field(ge=0, le=3600, strict=False)] = 20.0
    most_waiting: Annotated[int, Field(ge=1)] = 20_000
    keep_free_mb: Annotated[int, Field(ge=0)] = 1024
    keep_days: Annotated[int, Field(ge=1)] = 30


class Watch(_Section):
    """Health and metrics, on loopback."""

    port: Port


class NodeConfig(_Section):
    """All of a node's configuration."""

    model: Model
    receive: Receive
    send: Annotated[Dimse | Stow, Field(discriminator="kind")]
    store: Store
    watch: Watch | None = None


def load_config(path: Path) -> NodeConfig:
    """Read a configuration; relative folders are those beside the file.

    Raises:
        HilumError: if the file cannot be read, or a key is missing, unknown or wrong, naming it.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HilumError(f"config must be a TOML file, got {path}: {error}. See: hilum node example") from None
    try:
        config = NodeConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HilumError(
            f"config must be right, got {where}: {first['msg']} in {path}. See: hilum node example"
        ) from None
    here = path.resolve().parent
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"run": here / config.model.run}),
            "store": config.store.model_copy(update={"folder": here / config.store.folder}),
        }
    )
