from pathlib import Path

from hilum.predict.inputs import page

PAGE = Path(__file__).parents[2] / "docs" / "inputs.md"


def test_the_page_is_what_the_code_says() -> None:
    """Write it anew: python -c "from hilum.predict.inputs import page; print(page(), end='')" > docs/inputs.md."""
    assert PAGE.read_text(encoding="utf-8") == page()
