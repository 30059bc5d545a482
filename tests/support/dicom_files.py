"""DICOM films for tests, in every transfer syntax that can be written here."""

import io
import struct
from pathlib import Path
from typing import Any

import gdcm
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

CR = "1.2.840.10008.5.1.4.1.1.1"
NATIVE = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
BY_PYDICOM = {"rle": RLELossless, "jpeg-ls": JPEGLSLossless, "jpeg 2000 lossless": JPEG2000Lossless}
BY_GDCM = {"jpeg lossless": JPEGLossless, "jpeg lossless sv1": JPEGLosslessSV1}
LOSSY = {"jpeg-ls near-lossless": JPEGLSNearLossless, "jpeg 2000": JPEG2000}
LOSSLESS = [*NATIVE, *BY_PYDICOM, *BY_GDCM]


def header(pixels: Any, *, bits: int | None = None, **elements: Any) -> Dataset:
    """A CR film with these stored values, and these elements besides or instead; None deletes one."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CR, generate_uid(entropy_srcs=["film", pixels.tobytes().hex()[:64]])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.5"
    dataset.Modality, dataset.PatientID, dataset.PatientName = "CR", "P-0815", "Planted^Name"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.StudyDate, dataset.StudyTime = "19500102", "F", "20240203", ""
    dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "A-77", "S-1", ""
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.BodyPartExamined, dataset.ViewPosition = 1, 1, "CHEST", "PA"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def written(path: Path, pixels: Any, syntax: str = "explicit", *, bits: int | None = None, **elements: Any) -> Path:
    """Write a film and return its path."""
    dataset = header(pixels, bits=bits, **elements)
    if syntax in BY_GDCM:
        return _by_gdcm(path, written(path, pixels, bits=bits, **elements), syntax)
    uid = {**NATIVE, **BY_PYDICOM, **LOSSY, "jpeg": JPEGBaseline8Bit}[syntax]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if uid.is_encapsulated else uid
    content = pixels.tobytes() if syntax != "big endian" else pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    if syntax == "jpeg":
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = uid
    elif syntax == "jpeg-ls near-lossless":
        dataset.compress(uid, jls_error=2, generate_instance_uid=False)
    elif syntax == "jpeg 2000":
        dataset.compress(uid, j2k_cr=[4], generate_instance_uid=False)
    elif uid.is_encapsulated:
        dataset.compress(uid, generate_instance_uid=False)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def encapsulated(path: Path, dataset: Dataset, stream: bytes, syntax: str) -> Path:
    """Write a header and a compressed stream that need not be of the same film."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def stream_of(path: Path) -> bytes:
    """The compressed stream of a film's file."""
    return bytes(get_frame(dcmread(path).PixelData, 0, number_of_frames=1))


def jpeg_of_blocks(blocks: Any, bits: int) -> bytes:
    """A sequential JPEG of 8 or 12 bits whose 8 x 8 blocks are each of one grey, without any loss.

    Written by hand, as nothing that is installed writes 12 bits. Each block has its mean and no other coefficient.

    Source: ITU-T T.81, annexes B and F.
    """
    rows, columns = blocks.shape
    code, before = "", 0
    for value in blocks.ravel().tolist():
        mean = value - (1 << bits - 1)
        change, before = mean - before, mean
        size = abs(change).bit_length()
        code += f"{size:04b}"
        if size:
            code += f"{change if change > 0 else change + (1 << size) - 1:0{size}b}"
        code += "0"  # no other coefficient
    code += "1" * (-len(code) % 8)
    scan = int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\0")
    sizes = bytes(range(13))
    return b"".join(
        [
            b"\xff\xd8\xff\xdb\0\x43\0" + bytes([8] * 64),
            b"\xff" + (b"\xc1" if bits > 8 else b"\xc0") + b"\0\x0b" + bytes([bits]),
            struct.pack(">HHB", 8 * rows, 8 * columns, 1) + b"\1\x11\0",
            b"\xff\xc4\0\x20\0" + bytes([0, 0, 0, len(sizes)]) + bytes(12) + sizes,
            b"\xff\xc4\0\x14\x10" + bytes([1]) + bytes(15) + b"\0",
            b"\xff\xda\0\x08\1\1\0\0\x3f\0" + scan + b"\xff\xd9",
        ]
    )


def _by_gdcm(path: Path, native: Path, syntax: str) -> Path:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(native))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(BY_GDCM[syntax]))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path
