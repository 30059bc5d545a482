"""What is read, how, and what is refused, as the table of docs/inputs.md: made from what the readers themselves use."""

import re
from typing import NamedTuple

from hilum.data.decoding import FEWEST_BITS, LARGEST_AREA, LARGEST_SIDE, MOST_BITS, SMALLEST_SIDE
from hilum.data.dicom import COLOUR_MODELS, DECODERS, FILM_CLASSES, PROCESSES
from hilum.data.film_kind import FIELDS
from hilum.predict.files import SUFFIXES


class Input(NamedTuple):
    """A row of the table."""

    what: str
    how: str
    refused: str


_SPOKEN_OF = tuple(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field) for field in FIELDS)
_WRONG_STREAM = "another process, size or number of colours than the header says"
_BY_PROCESS = {
    "JPEG": f"lossy with 16 bits; {_WRONG_STREAM}",
    "JPEG lossless": f"values beyond Bits Stored; {_WRONG_STREAM}",
    "JPEG-LS": f"fewer bits than a signed header; values beyond Bits Stored; {_WRONG_STREAM}",
    "JPEG 2000": f"signed under an unsigned header; fewer bits than a header of another sign; {_WRONG_STREAM}",
    "RLE": "segments that are not as long as the film",
}


def inputs() -> list[Input]:
    """All that Hilum is asked to read, in the order of the page."""
    compressed = [
        Input(
            f"DICOM in {process}: {', '.join(uid for uid in DECODERS if PROCESSES[uid] == process)}",
            f"by {' and '.join(sorted({DECODERS[uid] for uid in DECODERS if PROCESSES[uid] == process}))}; "
            + (
                "bits above Bits Stored do not count"
                if process == "RLE"
                else "the stream's own depth counts where Bits Stored only claims more"
            ),
            refused,
        )
        for process, refused in _BY_PROCESS.items()
    ]
    return [
        Input(
            "PNG of 8 bits: grey, RGB, palette", "as stored, 0 to 255; colour by the ITU-R 601 weights", "1, 2, 4 bits"
        ),
        Input(
            "PNG of 16 bits, grey",
            "as stored, 0 to 65535; unused high bits are named by the input quality check; `--bits` says the depth",
            "colour or transparent; values beyond `--bits`",
        ),
        Input("any PNG", "text, profiles and EXIF are not looked at", "transparent pixels, animation, damage"),
        Input("JPEG of 8 bits: grey, RGB", "by Pillow", "12 bits outside of DICOM, CMYK, damage"),
        Input(
            ".IMG of the JSRT database: 2048 x 2048 raw values",
            "big-endian, 12 bits, turned as they grow with the film's blackness; the one kind that its name tells",
            "another length; values above 4095",
        ),
        Input(
            f"DICOM: {', '.join(FILM_CLASSES.values())}",
            "one frame; the header's table or window, else what its bits can hold",
            "other objects, raw pixels for processing, several frames",
        ),
        Input(
            f"what a DICOM header says the film is: {', '.join(_SPOKEN_OF)}",
            "the film is read and shown; a field that is absent or unknown says nothing",
            "lateral, oblique and decubitus views, other parts of the body, children, localizers, derived images and "
            "results of Hilum get no scores, unless `--force` asks for them",
        ),
        Input(
            "DICOM, uncompressed or deflated",
            "8 or 16 bits allocated, any number stored, signed or not; padding after the pixels is left out; unused "
            "high bits without a window are named by the input quality check, `--bits` says the depth",
            "too few pixels; so many more that a row, a column or a frame was forgotten",
        ),
        *compressed,
        Input("DICOM in JPEG of 12 bits", "by gdcm", "colour"),
        Input(
            f"DICOM in colour: {', '.join(COLOUR_MODELS)}",
            "8 bits, to grey",
            "header and stream that mix colours twice",
        ),
        Input(
            "DICOM with PALETTE COLOR", "through its three tables, of 8 or 16 bits or in segments", "a table missing"
        ),
        Input(
            "windows",
            "the first that is set; one that is empty, or 0 wide at 0, was never set",
            "half a window; narrower than 1; for another depth than the stream's",
        ),
        Input(
            "modality and VOI tables",
            "entries have as many bits as the highest of them needs",
            "another length than they say; entries beyond their own bits",
        ),
        Input("Photometric Interpretation and Presentation LUT Shape", "MONOCHROME1 is turned", "if they disagree"),
        Input(
            "file meta information",
            "up to its last element, whatever its group length says",
            "no preamble; no transfer syntax",
        ),
        Input(
            "identifiers",
            "scores need none; results are written under the film's own",
            "results for those with a leading zero, or with none; a second film under one SOP Instance UID is named",
        ),
        Input(
            f"folders: {', '.join(SUFFIXES)}, and any file that starts as PNG, JPEG or DICOM",
            "through and through; what is left out is counted and named",
            "DICOMDIR and what macOS and Windows add (`._*`, `__MACOSX`, `.DS_Store`, `Thumbs.db`) are left out",
        ),
        Input(
            "tables in CSV",
            "UTF-8; commas, semicolons or tabs; Excel's line `sep=;` is understood",
            "UTF-16; ids that a spreadsheet has rounded (`1.2E+07`); rows of another length; percent signs",
        ),
        Input(
            "DICOMweb servers",
            "page after page, each film once, held against `--filter`; what may be a film is fetched and looked at",
            "what does not fit the filter is left out and counted; a page that comes again ends with a sentence",
        ),
        Input(
            "sizes",
            f"{SMALLEST_SIDE} to {LARGEST_SIDE:,} pixels a side, at most {LARGEST_AREA // 1_000_000} megapixels",
            "all others, before memory is taken",
        ),
    ]


def page() -> str:
    """The page, in Markdown."""
    rows = [f"| {one.what} | {one.how} | {one.refused} |" for one in inputs()]
    return "\n".join(
        [
            "# What is read, how, and what is refused",
            "",
            "Made from the code by `hilum.predict.inputs.page()`; a test holds it there. What a file is, its content",
            "tells, never its name. Whatever is refused is refused with a sentence that names the file, what is wrong",
            "and what repairs it; the other films go on.",
            "",
            "| what | how it is read | what is refused, or left out |",
            "|---|---|---|",
            *rows,
            "",
            f"`--bits N` ({FEWEST_BITS} to {MOST_BITS}) on `hilum predict`, `serve` and `dicomweb`, and `bits` in a",
            "recipe or a node's configuration, say how many bits films have whose files have room for more and do not",
            "say it. No film is ever stretched by its own darkest and brightest pixel.",
            "",
        ]
    )
