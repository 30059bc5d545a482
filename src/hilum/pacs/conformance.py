"""The node's DICOM conformance statement, made from what the node itself negotiates."""

import textwrap

from pydicom.uid import UID
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StorageCommitmentPushModel,
    Verification,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelMove as StudyMove,
)

import hilum
from hilum.data.dicom import FILM_CLASSES
from hilum.pacs.queue import LONGEST_WAIT_S
from hilum.pacs.receive import (
    ASIDE_CLASSES,
    ASIDE_SYNTAXES,
    CANNOT_UNDERSTAND,
    FILM_SYNTAXES,
    MISMATCH,
    OUT_OF_RESOURCES,
    SUCCESS,
)
from hilum.pacs.send import PICTURE_SYNTAXES, REPORT_CLASSES, TIMEOUT_S

_STATUSES = {
    SUCCESS: "the film is on the disk and in the queue, or was before; or the object is no film and was set aside",
    OUT_OF_RESOURCES: "too many films wait, too little disk is free, or it could not be written: send it again later",
    MISMATCH: "the SOP Instance UID in the film is not the one that was announced",
    CANNOT_UNDERSTAND: "an identifier is missing or none",
}


def statement() -> str:
    """The statement, in Markdown, after the headings of DICOM PS3.2.

    Source: DICOM PS3.2, annex N. https://dicom.nema.org/medical/dicom/current/output/html/part02.html
    """
    return "\n".join(_parts()) + "\n"


def _parts() -> list[str]:
    return [
        "# DICOM conformance statement",
        "",
        f"Of the node of Hilum {hilum.__version__}, made by `hilum node conformance`. {hilum.DISCLAIMER}",
        "",
        *_prose("""
            The node receives chest films by C-STORE, scores them, and sends a structured report and a picture
            for each to one or more PACS by C-STORE or STOW-RS. It stores nothing for good and answers no
            queries.
        """),
        "",
        "## SOP classes as SCP",
        "",
        *_table(
            ["SOP class", "UID", "what becomes of it"],
            [
                ["Verification", str(Verification), "answered"],
                *([UID(kind).name, kind, "scored once, or a report says why not"] for kind in FILM_CLASSES),
                [
                    "Storage Commitment Push Model",
                    str(StorageCommitmentPushModel),
                    "answered in an association of its own",
                ],
                [f"{len(ASIDE_CLASSES)} other storage classes", "below", "accepted, set aside, nothing kept"],
            ],
        ),
        "",
        "Transfer syntaxes of films, in no order of preference:",
        "",
        *_table(["transfer syntax", "UID"], [[UID(one).name, str(one)] for one in FILM_SYNTAXES]),
        "",
        "## SOP classes as SCU",
        "",
        *_table(
            ["SOP class", "UID", "transfer syntaxes"],
            [
                ["Verification", str(Verification), "Implicit VR Little Endian, by `hilum node check`"],
                *([kind.name, str(kind), "Explicit VR Little Endian"] for kind in REPORT_CLASSES.values()),
                [
                    "Study Root Query/Retrieve, Move",
                    str(StudyMove),
                    "Implicit VR Little Endian, if `receive.ask_again` is set",
                ],
                [
                    "Secondary Capture Image Storage",
                    str(SecondaryCaptureImageStorage),
                    ", ".join(UID(one).name for one in PICTURE_SYNTAXES),
                ],
                [
                    "Segmentation Storage, if `seg` is set",
                    str(SegmentationStorage),
                    ", ".join(UID(one).name for one in PICTURE_SYNTAXES),
                ],
            ],
        ),
        "",
        *_prose("""
            Of the three classes of report the first one that the PACS accepts is used, from `send.sr` on; of
            the picture's transfer syntaxes the first that is accepted. A report follows TID 1500 with one
            group for each finding.
        """),
        "",
        "## Associations",
        "",
        *_prose("""
            - As acceptor: one AE title (`receive.ae_title`), calls by the AE titles of `receive.callers` from
            the addresses of `receive.hosts`, `receive.most_associations` at a time, PDUs of 16,382 bytes
            announced and 1 MiB taken. Asynchronous operations are not negotiated. Rejections: called and
            calling AE title not recognized (permanent), local limit exceeded (transient).
        """),
        *_prose(f"""
            - As requestor: one association for each result, {TIMEOUT_S} s for every answer. A result that is
            not taken is tried again after 1, 2, 4 ... at most {LONGEST_WAIT_S:.0f} s, without end.
        """),
        "- Extended negotiation: role selection, for storage commitment alone.",
        "",
        "## Status codes of C-STORE",
        "",
        *_table(["status", "when"], [[f"{status:04X}H", words] for status, words in _STATUSES.items()]),
        "",
        "## Security",
        "",
        *_prose("""
            DICOM over TLS after BCP 195 (PS3.15, annexes B.9 to B.11): TLS 1.2 with ECDHE and AES-GCM or
            ChaCha20, or TLS 1.3; certificates in both directions if `authorities` are configured. Without
            `[receive.tls]` and `[send.tls]` nothing is encrypted.
        """),
        "",
        "## Attributes of results",
        "",
        *_prose("""
            Patient and study are the film's, word for word, in ISO_IR 192, with age, institution, time zone,
            clinical trial and de-identification where the film has them. Identifiers are of the root 2.25 and
            depend on the film, on Hilum's version, and on the model's bundle, engine and precision. The
            coding scheme 99HILUM is identified in each object.
        """),
        "",
        "## Classes that are set aside",
        "",
        f"In {len(ASIDE_SYNTAXES)} transfer syntaxes, all that are not deflated:",
        "",
        *_table(["SOP class", "UID"], [[UID(one).name, str(one)] for one in ASIDE_CLASSES]),
    ]


def _prose(words: str) -> list[str]:
    words = " ".join(words.split())
    return textwrap.wrap(words, 120, subsequent_indent="  " if words.startswith("- ") else "")


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
