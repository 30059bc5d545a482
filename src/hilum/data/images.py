"""Read an image file and preprocess it to the network's input."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float32, Int
from PIL import Image

from hilum.data.decoding import (
    FEWEST_BITS,
    GET_AGAIN,
    JPEG,
    LARGEST_SIDE,
    MOST_BITS,
    PNG,
    SAVE_AGAIN,
    FaultError,
    Film,
    GreyPixels,
    array_pixels,
    check_size,
    grey_pixels,
    read_jpeg,
    read_jsrt,
    read_png,
    unused_bits,
)
from hilum.errors import ImageError, MissingExtraError

if TYPE_CHECKING:
    from pydicom import Dataset
    from scipy.sparse import csr_array

WHOLE_BLOCKS = (1, 2, 4, 8, 16)
"""By how much a film may shrink so that float32 holds the sum of a block's pixels, and its mean, without rounding."""


def block_mean(pixels: GreyPixels, times: int) -> Float32[np.ndarray, "rows columns"]:
    """The mean of each block of times x times pixels: bit for bit what `coverage` gives, in a fifth of its time.

    Args:
        times: one of WHOLE_BLOCKS, and a divisor of height and width.
    """
    rows = pixels[::times].astype(np.float32)
    for first in range(1, times):
        rows += pixels[first::times]
    blocks = rows[:, ::times].copy()
    for first in range(1, times):
        blocks += rows[:, first::times]
    blocks /= np.float32(times**2)
    return blocks


@lru_cache(maxsize=64)
def coverage(before: int, after: int) -> "csr_array":
    """One axis of the area resize: each row holds the weights of the old pixels in one new one, which sum to 1.

    When it shrinks, the weight of an old pixel is the proportion of the new one that it covers: the exact mean of an
    area, so that any other program can have the same numbers. (Pillow's BOX takes each pixel whole or not at all.)
    When it grows, the two old pixels whose centres are nearest are weighed by distance.
    """
    from scipy.sparse import csr_array  # here, because it takes a tenth of a second to import

    if after <= before:
        edges = np.arange(after + 1) * (before / after)
        pixel = np.arange(before)
        covered = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
        shares = np.clip(covered, 0, None)
    else:
        position = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
        shares = np.clip(1 - np.abs(position[:, None] - np.arange(before)), 0, None)
    return csr_array((shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


@lru_cache(maxsize=64)
def antialiased(before: int, after: int, *, cubic: bool) -> "csr_array":
    """One axis of the resize of Pillow, and of torch with antialias: rows of weights of the old pixels, which sum to 1.

    A triangle two pixels wide, or a cubic (a = -0.5) four pixels wide, in old pixels where the axis grows and in new
    ones where it shrinks.

    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29, 1981, eq. 4.
    """
    from scipy.sparse import csr_array

    new, old = np.arange(after)[:, None], np.arange(before)
    distance = np.abs((2 * old + 1) * after - (2 * new + 1) * before) / (2 * max(before, after))
    weights = cubic_weight(distance) if cubic else np.clip(1 - distance, 0, None)
    return csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def cubic_weight(distance: Any) -> Any:
    """Keys' cubic with a = -0.5 at a distance in pixels, at least 0; of arrays and of tensors."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return near * (distance < 1) + far * ((distance >= 1) & (distance < 2))


@lru_cache(maxsize=64)
def blurred(before: int, after: int) -> "csr_array":
    """One axis of scikit-image's resize: a Gaussian blur where it shrinks, then linear between the two nearest pixels.

    Weights sum to less than 1 near the edge, where the rest falls on what lies beyond it.
    """
    from scipy.sparse import csr_array

    sigma = max(0.0, (before / after - 1) / 2)
    radius = int(4 * sigma + 0.5)
    curve = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (sigma or 1.0)) ** 2)
    position = (np.arange(after) + 0.5) * (before / after) - 0.5
    lower = np.floor(position).astype(int)
    weights = np.zeros((after, before))
    for neighbour, share in ((lower, 1 - (position - lower)), (lower + 1, position - lower)):
        distance = np.arange(before) - neighbour[:, None]
        near = (np.abs(distance) <= radius) & ((neighbour >= 0) & (neighbour < before))[:, None]
        weights += near * share[:, None] * curve[np.clip(distance, -radius, radius) + radius]
    return csr_array((weights / curve.sum()).astype(np.float32))


class Axis(NamedTuple):
    """Which pixels of one axis of a film become which of the network's input.

    Of the film's pixels, `kept` from `start` on are resized to `after`, of which those from `first` on are taken.
    """

    start: int
    kept: int
    after: int
    first: int


Seen = tuple[float, float, float, float]
"""Left, top, right and bottom of the part of a film that the network sees, in proportions of its width and height."""

WHOLE: Seen = (0.0, 0.0, 1.0, 1.0)


def centres(before: int, after: int) -> Int[np.ndarray, " after"]:
    """The pixel in which each new pixel's centre lies, as Pillow's NEAREST finds it for 8-bit images.

    Pillow itself gives 16-bit images other neighbours where a centre falls on an edge; here both depths get the same.
    """
    steps = np.full(after, before / after)
    steps[0] /= 2
    return np.cumsum(steps).astype(np.intp)  # added one by one as Pillow does: its rounding decides at the edges


ModelInput = Float32[np.ndarray, "channels size size"]

LARGEST_FILE_BYTES = 1 << 30

_DICOM_SUFFIXES = (".dcm", ".dicom")
_JSRT_SUFFIX = ".img"


class InMemory(NamedTuple):
    """A film that is no file, and what messages call it.

    Attributes:
        content: a file's bytes, an image of Pillow's, an array (see `array_pixels`), or a data set of pydicom's.
    """

    name: str
    content: "bytes | Image.Image | np.ndarray | Dataset"


def read_grey(film: Path | InMemory, *, bits: int | None = None) -> GreyPixels:
    """The pixels of a film; see `read`."""
    return read(film, bits=bits).pixels


def read(film: Path | InMemory, *, bits: int | None = None) -> Film:
    """Read a film: PNG, JPEG or DICOM, or one that is in memory.

    What a file is, is told by its content, never by its name; JSRT's raw films alone, which have no header, by `.IMG`.
    Colour becomes grey by the ITU-R 601 weights.

    Args:
        bits: how many bits the values have where the format has room for more and nothing in the file says it: in a
            16-bit PNG, and in DICOM without a window whose Bits Stored are more. Films of 8 bits stay as they are.

    Raises:
        ImageError: if the file is no film that can be read without loss or guess, naming the file and the remedy.
        MissingExtraError: if it is DICOM and what reads it is not installed.
        ValueError: if `bits` is not from 8 to 16.
        TypeError: if the film is neither a Path nor InMemory: a str is no damaged film.
    """
    if not isinstance(film, Path | InMemory):
        raise TypeError(f"film must be a Path or InMemory, got {type(film).__name__}. Wrap a path's text: Path(film)")
    if bits is not None:
        check_bits(bits)
    if isinstance(film, Path):
        return _read(lambda: _decoded(_content(film), film.suffix, bits), str(film))
    return _read(lambda: _from_memory(film, bits), film.name)


def read_content(content: bytes, name: str, *, bits: int | None = None) -> Film:
    """The same for a film that is in memory, under the name that its sender gave it."""
    return read(InMemory(name, content), bits=bits)


def _from_memory(film: InMemory, bits: int | None) -> Film:
    content = film.content
    if isinstance(content, bytes):
        return _decoded(content, Path(film.name).suffix, bits)
    if isinstance(content, np.ndarray):
        return _of_depth(array_pixels(content), bits)
    if isinstance(content, Image.Image):
        check_size(*content.size)
        return _of_depth(grey_pixels(content, content.size), bits)
    from hilum.data.dicom import film_of

    return film_of(content, bits=bits)


def _decoded(content: bytes, suffix: str, bits: int | None) -> Film:
    if content.startswith(PNG):
        return _of_depth(read_png(content), bits)
    if content.startswith(JPEG):
        return Film(read_jpeg(content))
    if content[128:132] == b"DICM" or suffix.lower() in _DICOM_SUFFIXES:
        from hilum.data.dicom import read_dicom

        return read_dicom(content, bits=bits)
    if suffix.lower() == _JSRT_SUFFIX:
        return Film(read_jsrt(content))
    raise FaultError("be a PNG, JPEG or DICOM image, got something else", f"Remove it or replace it. {SAVE_AGAIN}")


def _read(load: Callable[[], Film], name: str) -> Film:
    try:
        return load()
    except MissingExtraError:
        raise
    except FaultError as fault:
        raise ImageError(f"film must {fault.rule} in {name!r}. {fault.remedy}.") from fault
    except (Exception, MemoryError) as error:  # decoders fail on hostile bytes with whatever exception comes handy
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ImageError(f"film must be an intact image, got {reason!r} in {name!r}. {GET_AGAIN}.") from error


def image_kind(path: Path) -> str:
    """PNG, JPEG or DICOM, by a file's first bytes; empty for anything else."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return ""
    return "PNG" if head.startswith(PNG) else "JPEG" if head.startswith(JPEG) else "DICOM" * (head[128:] == b"DICM")


def _of_depth(pixels: GreyPixels, bits: int | None) -> Film:
    """A film whose file says no more of its depth than 8 or 16 bits."""
    if pixels.dtype != np.uint16:
        return Film(pixels)
    most = int(pixels.max())
    if bits is None:
        used = most.bit_length()
        return Film(pixels, doubt=unused_bits(MOST_BITS, used) if used < MOST_BITS else "")
    white = (1 << bits) - 1
    if most > white:
        raise FaultError(
            f"have values of 0 to {white} as --bits {bits} says, got {most}",
            "Leave --bits away for films that hold more",
        )
    return Film(np.rint(np.arange(white + 1) * (65535 / white)).astype(np.uint16)[pixels])


def check_bits(bits: object) -> None:
    """Refuse a depth that no film has.

    Raises:
        ValueError: if it is not from 8 to 16.
    """
    if type(bits) is not int or not FEWEST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"bits must be a whole number from {FEWEST_BITS} to {MOST_BITS}, got {bits!r}")


Interpolation = Literal["nearest", "area", "bilinear", "bicubic", "pillow-bilinear", "pillow-bicubic", "scikit-image"]
_KEPT_SHORT: dict[str, object] = {"bits": None, "crop": None, "shorter": None}
"""Fields that are written only where they differ from these, so that hashes of bundles older than them stay."""


@dataclass(frozen=True)
class Preprocessing:
    """How grey pixels become the network's input. It is stored in the bundle, so that every road gives the same input.

    The range is 0..1 by the pixel format's maximum (255, 65535, or 1 of floats), bone bright, never by the film's own
    extremes. A network with another scale brings films to it itself (see Classifier.scaled). Unless `crop` or `shorter`
    say otherwise, films that are not square are squeezed to size x size, as ChestX-ray14's publications do.

    Attributes:
        size: height and width of the input, in pixels.
        interpolation: `area` is antialiased: the exact mean of what each new pixel covers along an axis that shrinks,
            linear along one that grows; `nearest` takes the pixel at each centre, as torchvision does on PIL images.
            Those of other systems: `bilinear` and `bicubic` are torch's with antialias; `pillow-bilinear` and
            `pillow-bicubic` are Pillow's, the same but for 8-bit films, which stay whole grey levels after each axis;
            `scikit-image` is that of torchxrayvision: Gaussian blur, then linear, with mid-grey beyond the edge.
        channels: 1, or 3 equal ones for a network with an RGB stem.
        bits: depth of films whose files have room for more and do not say it, see `read`; None takes files at their
            word.
        crop: `square` resizes the largest square in the middle alone, as torchxrayvision does.
        shorter: resize the shorter side to so many pixels and the other in proportion, then take the middle size x
            size, as torchvision and timm do; None does not.

    Raises:
        ValueError: if a field is none of these.
    """

    size: int = 224
    interpolation: Interpolation = "area"
    channels: Literal[1, 3] = 1
    bits: int | None = None
    crop: Literal["square"] | None = None
    shorter: int | None = None

    def __post_init__(self) -> None:
        _check_fields(asdict(self))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON; those of `_KEPT_SHORT` only where they are set."""
        fields = asdict(self).items()
        return {name: value for name, value in fields if name not in _KEPT_SHORT or _KEPT_SHORT[name] != value}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """The reverse of `to_dict`; every field but those of `_KEPT_SHORT` must be there, and no other.

        Raises:
            ValueError: naming the field that is missing, unknown or out of range.
        """
        known = asdict(cls())
        if {*fields, *_KEPT_SHORT} != set(known):
            raise ValueError(
                f"preprocessing must have the fields {', '.join(known)}, got {', '.join(map(str, fields))}"
            )
        _check_fields({**_KEPT_SHORT, **fields})
        return cls(**fields)

    @property
    def words(self) -> str:
        """Size, crop, resize and depth in a line."""
        cut = "the square in the middle, " if self.crop else ""
        if self.shorter is not None:
            cut = f"the middle of a film whose shorter side is {self.shorter} px, "
        bits = f", films of {self.bits} bits" if self.bits else ""
        return f"{cut}{self.size} x {self.size} px, {self.interpolation}{bits}"

    def read(self, path: Path) -> ModelInput:
        """The network's input for one file.

        Raises:
            ImageError: if the file cannot be read as a film.
        """
        return self.apply(read_grey(path, bits=self.bits))

    def apply(self, pixels: GreyPixels) -> ModelInput:
        """The network's input for grey pixels of any height and width."""
        return np.repeat(self.grey(pixels)[np.newaxis], self.channels, axis=0)

    def grey(self, pixels: GreyPixels) -> Float32[np.ndarray, "size size"]:
        """One channel of the network's input; all are equal."""
        full_scale = np.float32(1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max)
        rows, columns = self.axes(*pixels.shape)
        part = pixels[rows.start : rows.start + rows.kept, columns.start : columns.start + columns.kept]
        match self.interpolation:
            case "nearest":
                picked = (
                    centres(axis.kept, axis.after)[axis.first : axis.first + self.size] for axis in (rows, columns)
                )
                resized = np.asarray(part[np.ix_(*picked)])
            case "pillow-bilinear" | "pillow-bicubic":
                resized = self._pillow(part, rows, columns)
            case _:
                resized = self._weighted(part, rows, columns, full_scale)
        scaled: Float32[np.ndarray, "size size"] = np.divide(resized, full_scale, dtype=np.float32)
        return scaled

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        """Which rows and columns of a film become those of the input.

        They are rounded as torchxrayvision (`square`) and torchvision (`shorter`) do.
        """
        least = min(height, width)
        if self.crop == "square":
            return Axis(height // 2 - least // 2, least, self.size, 0), Axis(
                width // 2 - least // 2, least, self.size, 0
            )
        if self.shorter is None:
            return Axis(0, height, self.size, 0), Axis(0, width, self.size, 0)
        afters = [self.shorter * side // least for side in (height, width)]
        firsts = [round((after - self.size) / 2) for after in afters]
        return Axis(0, height, afters[0], firsts[0]), Axis(0, width, afters[1], firsts[1])

    def seen(self, height: int, width: int) -> Seen:
        """Which part of a film becomes the input."""
        ends = []
        for side, axis in zip((width, height), reversed(self.axes(height, width)), strict=True):
            pixel = axis.kept / axis.after  # of the input, in the film's own
            low = axis.start + axis.first * pixel
            ends.append((low / side, (low + self.size * pixel) / side))
        (left, right), (top, bottom) = ends
        return left, top, right, bottom

    def _pillow(self, part: GreyPixels, rows: Axis, columns: Axis) -> np.ndarray:
        by = Image.Resampling.BICUBIC if self.interpolation == "pillow-bicubic" else Image.Resampling.BILINEAR
        film = Image.fromarray(part if part.dtype == np.uint8 else part.astype(np.float32))
        resized = np.asarray(film.resize((columns.after, rows.after), by))
        return resized[rows.first : rows.first + self.size, columns.first : columns.first + self.size]

    def _weighted(
        self, part: GreyPixels, rows: Axis, columns: Axis, full_scale: np.float32
    ) -> Float32[np.ndarray, "size size"]:
        times = part.shape[0] // self.size
        whole = part.shape == (times * self.size, times * self.size) and times in WHOLE_BLOCKS
        if self.interpolation == "area" and self.shorter is None and whole:
            return block_mean(part, times)
        down, across = (self._weights(axis)[axis.first : axis.first + self.size] for axis in (rows, columns))
        beyond = full_scale / 2 if self.interpolation == "scikit-image" else np.float32(0)
        pixels = part.astype(np.float32) - beyond
        resized = np.asarray(across @ (down @ pixels).T).T + beyond
        return np.clip(resized, part.min(), part.max()) if beyond else resized

    def _weights(self, axis: Axis) -> "csr_array":
        match self.interpolation:
            case "bilinear" | "bicubic":
                return antialiased(axis.kept, axis.after, cubic=self.interpolation == "bicubic")
            case "scikit-image":
                return blurred(axis.kept, axis.after)
            case _:
                return coverage(axis.kept, axis.after)


def _check_fields(fields: Mapping[str, Any]) -> None:
    size, interpolation, channels = fields["size"], fields["interpolation"], fields["channels"]
    if type(size) is not int or not 1 <= size <= LARGEST_SIDE:
        raise ValueError(f"size must be a whole number of pixels from 1 to {LARGEST_SIDE}, got {size!r}")
    if interpolation not in get_args(Interpolation):
        raise ValueError(f"interpolation must be one of {', '.join(get_args(Interpolation))}, got {interpolation!r}")
    if type(channels) is not int or channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")
    if fields["bits"] is not None:
        check_bits(fields["bits"])
    crop, shorter = fields["crop"], fields["shorter"]
    if crop not in (None, "square"):
        raise ValueError(f"crop must be square, or none at all, got {crop!r}")
    if shorter is not None and interpolation == "nearest":
        raise ValueError(f"shorter must go with an interpolation other than nearest, got {shorter!r}")
    if shorter is not None and (type(shorter) is not int or not size <= shorter <= LARGEST_SIDE or crop is not None):
        raise ValueError(
            f"shorter must be a whole number of pixels from size ({size}) to {LARGEST_SIDE}, without crop, "
            f"got {shorter!r}"
        )


def _content(path: Path) -> bytes:
    """The bytes of a regular file of a sensible length."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "something else" if path.exists() else "nothing"
        raise FaultError(f"be an image file, got {what}", "Check the path, or make the manifest anew with: hilum index")
    size = path.stat().st_size
    if not 0 < size <= LARGEST_FILE_BYTES:
        raise FaultError(f"be a file of 1 to {LARGEST_FILE_BYTES} bytes, got {size}", GET_AGAIN)
    try:
        return path.read_bytes()
    except OSError as error:
        raise FaultError(
            f"be a file that can be read, got {error.strerror!r}", "Check its permissions and the disk"
        ) from error
