from pathlib import Path
from typing import Any

from hilum.data.dicom import FILM_CLASSES
from hilum.pacs.conformance import statement

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "conformance.md"


def test_the_page_is_the_statement_of_today(hilum: Any) -> None:
    text = statement()
    assert text == PAGE.read_text(encoding="utf-8"), "make it anew: hilum node conformance > docs/conformance.md"
    assert hilum("node", "conformance").out == text
    assert all(kind in text for kind in FILM_CLASSES)
