"""A DICOM film as grey pixels: the header is checked first, then the pixels are decoded and shown as it says."""

import io
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from hilum.data.faults import GET_AGAIN, LARGEST_AREA, FaultError, Film, grey_pixels
from hilum.errors import MissingExtraError

if TYPE_CHECKING:
    from pydicom import Dataset

FILM_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture",
}
"""The SOP classes that may hold a chest film."""

_RAW_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
_META_START = 132  # after the preamble and the letters DICM
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LARGEST_INFLATED = 6 * LARGEST_AREA + (1 << 26)  # three 16-bit colours, and what else a header holds
_TAGS = (
    *("SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PixelSpacing", "ImagerPixelSpacing", "PresentationIntentType"),
)


def read_dicom(content: bytes) -> Film:
    """The pixels of a DICOM film: CR, DX for presentation or Secondary Capture, one frame, in any transfer syntax.

    Raises:
        FaultError: if it is another object, or its header and its pixels do not agree.
        MissingExtraError: if pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401 - the extra
    except ImportError:
        raise MissingExtraError(
            "pydicom must be installed to read DICOM films. Install it: pip install 'hilum[dicom]'"
        ) from None
    from hilum.data.dicom_greys import grey_table
    from hilum.data.dicom_pixels import decode, described

    dataset = _dataset(content)
    _check_class(dataset)
    stored = described(dataset)
    pixels = decode(dataset, stored)
    if stored.samples == 3:
        return Film(grey_pixels(Image.fromarray(pixels), (stored.width, stored.height)), _spacing(dataset))
    greys = grey_table(dataset, bits=stored.bits, signed=stored.signed)
    return Film(np.take(greys, pixels & np.uint16(len(greys) - 1)), _spacing(dataset))


def _dataset(content: bytes) -> "Dataset":
    """The header and the undecoded pixels. What a deflated file holds is bounded before any of it is believed."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

    if content[128:_META_START] != b"DICM" or content[_META_START : _META_START + 4] != b"\2\0\0\0":
        raise FaultError(
            "be a DICOM file with preamble and file meta information, got neither PNG, JPEG nor such a file",
            "Write it anew with dcmtk's dcmconv",
        )
    end = _META_START + 12 + int.from_bytes(content[_META_START + 8 : _META_START + 12], "little")
    meta = read_dataset(io.BytesIO(content[_META_START:end]), is_implicit_VR=False, is_little_endian=True)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_transfer_syntax or syntax.is_private:
        raise FaultError(f"be in a transfer syntax of the standard, got {str(syntax)!r}", "Write it anew with dcmconv")
    body = content[end:]
    if syntax == _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        body = inflater.decompress(body, _LARGEST_INFLATED)
        if not inflater.eof:
            raise FaultError("be whole, and not absurdly large when inflated, got another deflated file", GET_AGAIN)
    dataset = read_dataset(
        io.BytesIO(body), syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=[*map(_tag, _TAGS)]
    )
    dataset.file_meta = FileMetaDataset(meta)
    return dataset


def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"keyword must be one of DICOM's, got {keyword!r}")
    return tag


def _check_class(dataset: "Dataset") -> None:
    kind = dataset.get("SOPClassUID")
    if kind == _RAW_CLASS or (kind in FILM_CLASSES and dataset.get("PresentationIntentType") == "FOR PROCESSING"):
        raise FaultError("be for presentation, got raw pixels for processing", "Send the processed film instead")
    if kind not in FILM_CLASSES:
        name = getattr(kind, "name", kind)
        raise FaultError(
            f"be a CR, DX or Secondary Capture film, got {str(name)!r}", "Remove it: other objects are not read"
        )
    frames = dataset.get("NumberOfFrames") or 1
    if frames != 1:
        raise FaultError(f"be a single image, got {frames} frames", "Save the frame that is a chest film as one file")


def _spacing(dataset: "Dataset") -> tuple[float, float] | None:
    """Height and width of a pixel: in the patient if calibrated, else at the detector; zeros are no sizes."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = dataset.get(keyword)
        if spacing is not None and len(spacing) == 2 and all(np.isfinite(s) and s > 0 for s in map(float, spacing)):
            return float(spacing[0]), float(spacing[1])
    return None
