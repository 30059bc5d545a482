"""What a node is told: a TOML file, checked before anything starts. node.toml is the annotated example."""

import ipaddress
import os
import re
import ssl
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hilum.data.decoding import FEWEST_BITS, MOST_BITS
from hilum.errors import HilumError
from hilum.model.engines import EngineName, Precision

EXAMPLE = files("hilum.pacs") / "node.toml"
UNIT = files("hilum.pacs") / "hilum-node.service"

_AE_TITLE = Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e]+$")
AeTitle = Annotated[str, _AE_TITLE]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Place = Annotated[Path, Field(strict=False)]
Seconds = Annotated[float, Field(ge=0, strict=False)]

MAIN = "main"
"""The name of the model under `[model]`, beside those of the routes."""
TOKEN = "HILUM_WATCH_TOKEN"


class ConfigError(HilumError):
    """A configuration is wrong; starting again does not help until it is changed."""


class BusyError(HilumError):
    """Something that the node needs, such as a port, is in other hands now; starting again later may help."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(_Section):
    """Which model, and what its results hold."""

    run: Place
    engine: EngineName | Literal["auto"] = "auto"
    precision: Precision | None = None
    operating_point: str | None = None
    heatmaps: Annotated[int, Field(ge=1, le=14)] = 3
    bits: Annotated[int | None, Field(ge=FEWEST_BITS, le=MOST_BITS)] = None
    force: bool = False


class Route(Model):
    """Another model, for the films that fit all of its patterns: `*` stands for anything, capitals do not matter."""

    name: Name
    calling: str = "*"
    station: str = "*"
    study: str = "*"

    def takes(self, *, calling: str, station: str, study: str) -> bool:
        """Whether a film from a caller, with this station's name and description of the study, is this model's."""
        pairs = ((calling, self.calling), (station, self.station), (study, self.study))
        return all(fnmatchcase(value.strip().upper(), pattern.upper()) for value, pattern in pairs)


class Tls(_Section):
    """DICOM over TLS after BCP 195: TLS 1.2 with forward secrecy and authenticated ciphers, or 1.3.

    Source: DICOM PS3.15, B.9 to B.11. https://dicom.nema.org/medical/dicom/current/output/html/part15.html
    """

    certificate: Place | None = None
    key: Place | None = None
    authorities: Place | None = None

    def context(self, *, server: bool) -> ssl.SSLContext:
        """What connections are wrapped with. A peer's certificate is demanded wherever authorities are known.

        Raises:
            ConfigError: if a file is missing, cannot be read or does not fit its partner.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        try:
            if self.authorities is not None:
                context.load_verify_locations(self.authorities)
                context.verify_mode = ssl.CERT_REQUIRED
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            words = error.strerror or getattr(error, "reason", "") or type(error).__name__
            raise ConfigError(
                f"tls must name PEM files that can be read and fit each other, got {words} for "
                f"{self.certificate}, {self.key}, {self.authorities}"
            ) from None
        return context


class ServerTls(Tls):
    """TLS of the node's own port; with `authorities`, senders must show a certificate of theirs."""

    certificate: Place
    key: Place


class ClientTls(Tls):
    """TLS towards a PACS, whose certificate must be of these authorities and for its host's name."""

    authorities: Place
    check_name: bool = True


class Committed(_Section):
    """Where a sender takes answers to storage commitments, if it is not a PACS that results go to."""

    ae_title: AeTitle
    host: str
    port: Port
    tls: ClientTls | None = None


class Receive(_Section):
    """Who may send, and how much."""

    ae_title: AeTitle
    address: str
    port: Port
    callers: Annotated[list[AeTitle], Field(min_length=1)]
    hosts: Annotated[list[str], Field(min_length=1)]
    most_associations: Annotated[int, Field(ge=1, le=500)] = 32
    largest_film_mb: Annotated[int, Field(ge=1, le=1024)] = 100
    tls: ServerTls | None = None
    committed: list[Committed] = []
    ask_again: Name | None = None

    @field_validator("hosts")
    @classmethod
    def _networks(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            ipaddress.ip_network(host)
        return hosts


class Target(_Section):
    """A place that results go to, with a queue of its own.

    Attributes:
        sr: the class of report that is sent; where the PACS does not take it, the next one that it takes.
        sc: whether pictures are sent.
        seg: whether heat is sent as a segmentation.
    """

    name: Name = "pacs"
    sr: Literal["comprehensive-3d", "comprehensive", "enhanced", "none"] = "comprehensive-3d"
    sc: bool = True
    seg: bool = False


class Dimse(Target):
    """Results go by C-STORE."""

    kind: Literal["dimse"]
    ae_title: AeTitle
    host: str
    port: Port
    tls: ClientTls | None = None


class Stow(Target):
    """Results go by STOW-RS."""

    kind: Literal["stow"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    user: str | None = None
    password_file: Place | None = None

    @field_validator("url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        if "@" in urlsplit(url).netloc:
            raise ValueError("holds a user or a password: use the keys user and password_file")
        return url


class Store(_Section):
    """Where films and results wait."""

    folder: Place
    quiet_s: Annotated[float, Field(ge=0, le=3600, strict=False)] = 20.0
    most_waiting: Annotated[int, Field(ge=1)] = 20_000
    keep_free_mb: Annotated[int, Field(ge=0)] = 1024
    keep_days: Annotated[int, Field(ge=1)] = 30
    keep_failed_days: Seconds = 7.0
    keep_sent_days: Seconds = 1.0


class Watch(_Section):
    """Health and metrics; off loopback, a token is demanded."""

    port: Port
    address: str = "127.0.0.1"
    token_file: Place | None = None
    away_s: Seconds = 900.0
    refused_s: Seconds = 600.0
    stuck_s: Seconds = 600.0

    @field_validator("address")
    @classmethod
    def _address(cls, address: str) -> str:
        ipaddress.ip_address(address)
        return address

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can ask."""
        return ipaddress.ip_address(self.address).is_loopback

    def token(self) -> str | None:
        """What askers must send; None if they need not.

        Raises:
            ConfigError: if one must be there and is not.
        """
        token = _secret(self.token_file, TOKEN)
        if token is None and not self.on_loopback:
            raise ConfigError(
                f"watch must have a token to be asked from {self.address}, got none. Set watch.token_file, or "
                f"{TOKEN} in the environment"
            )
        return token


class Log(_Section):
    """How the log's lines are written."""

    form: Literal["text", "json"] = "text"


class NodeConfig(_Section):
    """All of a node's configuration."""

    model: Model
    route: list[Route] = []
    receive: Receive
    send: Annotated[list[Annotated[Dimse | Stow, Field(discriminator="kind")]], Field(min_length=1)]
    store: Store
    watch: Watch | None = None
    log: Log = Log()

    @field_validator("send", mode="before")
    @classmethod
    def _one_or_more(cls, send: Any) -> Any:
        return [send] if isinstance(send, dict) else send

    @model_validator(mode="after")
    def _names_differ(self) -> "NodeConfig":
        again, dimse = self.receive.ask_again, [one.name for one in self.send if isinstance(one, Dimse)]
        if again is not None and again not in dimse:
            raise ValueError(f"receive.ask_again must be a [send] of kind dimse, got {again}")
        for what, names in (("send", [one.name for one in self.send]), ("route", [one.name for one in self.route])):
            if len(set(names)) < len(names) or MAIN in names:
                raise ValueError(f"{what} must have names that differ (and are not {MAIN!r}), got {', '.join(names)}")
        return self

    def peer(self, ae_title: str) -> Committed | Dimse | None:
        """Where a sender is called, by its AE title; None if nobody knows."""
        peers: list[Committed | Dimse] = [*self.receive.committed]
        peers += [one for one in self.send if isinstance(one, Dimse)]
        return next((one for one in peers if one.ae_title == ae_title), None)

    def models(self) -> dict[str, Model]:
        """The models by name; `[model]` last, as it takes what no route takes."""
        return {**{one.name: one for one in self.route}, MAIN: self.model}


def _secret(path: Path | None, variable: str) -> str | None:
    """A secret from its file, else from the environment; None if there is none.

    Raises:
        ConfigError: if the file cannot be read.
    """
    if path is None:
        return os.environ.get(variable) or None
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError) as error:
        raise ConfigError(f"secret must be in a file that can be read, got {type(error).__name__} for {path}") from None


def password_of(stow: Stow, variable: str) -> str:
    """The password of a STOW-RS server's user; empty if there is none.

    Raises:
        ConfigError: if its file cannot be read.
    """
    return _secret(stow.password_file, variable) or ""


def load_config(path: Path) -> NodeConfig:
    """Read a configuration; relative folders and files are those beside it.

    Raises:
        ConfigError: if the file cannot be read, or keys are missing, unknown or wrong: all of them, with their lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"config must be a TOML file, got {path}: {error}. See: hilum node example") from None
    try:
        config = NodeConfig.model_validate(content)
    except ValidationError as error:
        faults = [f"{fault} in {path}{_line(text, where)}" for where, fault in _faults(error)]
        raise ConfigError(f"config must be right, got {'; '.join(faults)}. See: hilum node example") from None
    return _beside(config, path.resolve().parent)  # type: ignore[return-value]


def _faults(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Where each fault is, and what it is; a value is never repeated, as it may be a secret."""
    found: dict[tuple[str | int, ...], str] = {}
    for one in error.errors(include_input=False, include_url=False):
        where = tuple(part for part in one["loc"] if part not in ("dimse", "stow"))
        words = one["msg"].removeprefix("Value error, ")
        found.setdefault(where, f"{'.'.join(map(str, where))}: {words}" if where else words)
    return list(found.items())


_HEADER = re.compile(r"^\s*\[(\[?)\s*([\w.\s\"'-]+?)\s*\]?\]")
_KEY = re.compile(r"^\s*[\"']?([\w-]+)[\"']?\s*(?:=|\.)")


def _line(text: str, where: Sequence[str | int]) -> str:
    """The line of a key, or of the table where it should stand, in words; empty if it stands nowhere.

    tomllib says no lines of keys, so tables and keys are looked for as TOML writes them, one to a line.
    """
    wanted = [str(part) for part in where]
    counts: dict[str, int] = {}
    table: list[str] = []
    best = (0, 0)
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            name = re.sub(r"[\s\"']", "", header[2])
            table = name.split(".")
            if header[1]:
                counts[name] = counts.get(name, -1) + 1
            if table[0] in counts:
                table.insert(1, str(counts[table[0]]))
            at = table
        elif key:
            at = [*table, key[1]]
        else:
            continue
        if table and table[0] == "send" and "send" not in counts and len(wanted) > 1 and wanted[:2] == ["send", "0"]:
            at = ["send", "0", *at[1:]]
        if at == wanted[: len(at)] and len(at) > best[0]:
            best = (len(at), number)
    return f", line {best[1]}" if best[1] else ""


def _beside(section: BaseModel, folder: Path) -> BaseModel:
    """The section with its relative paths made those beside the file."""

    def absolute(value: Any) -> Any:
        if isinstance(value, Path):
            return folder / value
        if isinstance(value, BaseModel):
            return _beside(value, folder)
        return [absolute(one) for one in value] if isinstance(value, list) else value

    return section.model_copy(update={name: absolute(getattr(section, name)) for name in type(section).model_fields})
