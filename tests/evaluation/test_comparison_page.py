import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hilum import DISCLAIMER
from hilum.evaluation.compare import pair_sentences, render_comparison, write_comparison
from hilum.evaluation.views import shown_p

PRECISION = {"difference": {"value": 0.03, "low": -0.01, "high": 0.06, "undefined": 0}, "p_value": 0.1}
PRECISION |= {"p_value_holm": 0.3}
ONE = {
    "auroc": {"value": 0.02, "low": 0.01, "high": 0.04, "undefined": 0},
    "p_value": 0.004,
    "average_precision": PRECISION,
}
DELONG = {"standard_error": 0.008, "p_value": 0.0001}
NOTHING = {"value": None, "low": None, "high": None, "undefined": 0, "why": "no film with the finding"}
PAIR: dict[str, Any] = {
    "first": "densenet",
    "second": "<am-densenet>",
    "mean": ONE,
    "findings": {
        "Mass": {**ONE, "p_value_holm": 0.008, "delong": DELONG},
        "Pleural_Thickening": {
            "auroc": {"value": -0.05, "low": -0.12, "high": 0.02, "undefined": 0},
            "p_value": 0.2,
            "p_value_holm": 0.2,
            "average_precision": PRECISION,
            "delong": {"standard_error": 0.04, "p_value": 0.21},
        },
        "Hernia": {
            "auroc": NOTHING,
            "p_value": None,
            "p_value_holm": None,
            "average_precision": {"difference": NOTHING, "p_value": None, "p_value_holm": None},
            "delong": {"standard_error": None, "p_value": None},
        },
    },
}


def comparison(**changes: Any) -> dict[str, Any]:
    auroc = {"value": 0.8, "low": 0.7, "high": 0.9, "undefined": 0}
    return {
        "hilum": "0",
        "protocol": "patient",
        "split": "test",
        "films_fingerprint": "f" * 64,
        "films": 1000,
        "patients": 300,
        "systems": [
            {"name": name, "report": f"reports/{name}", "mean": {"auroc": auroc}, "findings": {}}
            for name in ("densenet", "<am-densenet>")
        ],
        "findings": {
            name: {"films": 1000, "patients": 300, "positives": 20, "positive_patients": 15}
            for name in PAIR["findings"]
        },
        "differences": [PAIR],
        "not_compared": ["Edema"],
        "undefined_findings": ["Hernia"],
        "notes": ["A note."],
        "disclaimer": DISCLAIMER,
    } | changes


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text(page: str) -> str:
    parser = Text()
    parser.feed(page.split("<body>")[1])
    return " ".join(" ".join(parser.words).split())


def test_the_page_says_who_is_better_and_how_sure_that_is() -> None:
    page = text(render_comparison(comparison()))
    assert "<am-densenet> has a higher mean AUROC than densenet: +0.020 (+0.010 to +0.040, p 0.004)." in page
    assert "After Holm's correction it ranks better in Mass." in page
    assert "Not compared, because not all systems gave scores: Edema." in page
    assert "Undefined, because these films do not show both presence and absence: Hernia." in page
    assert (
        "Pleural Thickening -0.050 -0.120 to +0.020 0.200 0.200 0.210 +0.030 -0.010 to +0.060 0.300 20 15 patients"
        in page
    )
    assert "Hernia undefined no film with the finding undefined undefined undefined undefined no film with" in page
    assert "from -0.15 to +0.15" in page
    assert "1,000 films of 300 patients" in page
    assert DISCLAIMER in page


def test_the_page_loads_nothing() -> None:
    page = render_comparison(comparison())
    assert set(re.findall(r"""(?:src|href)=["']([^"']*)""", page)) == {"data:,"}
    assert "url(" not in page
    assert "<am-densenet>" not in page


def test_an_image_split_is_called_inflated() -> None:
    assert "inflated values" in text(render_comparison(comparison(protocol="image")))
    assert "Unknown split" in text(render_comparison(comparison(protocol=None)))


@pytest.mark.parametrize(
    ("mean", "says"),
    [
        ({"value": -0.02, "low": -0.03, "high": -0.01}, "B has a lower mean AUROC than A: -0.020 (-0.030 to -0.010, p"),
        (
            {"value": 0.02, "low": -0.01, "high": 0.04},
            "These films do not distinguish the mean AUROC of B from that of A",
        ),
        (
            {"value": 0.02, "low": None, "high": None},
            "Whether B and A differ cannot be told from these films: no interval.",
        ),
        ({"value": None, "low": None, "high": None}, "B and A cannot be compared"),
    ],
)
def test_sentences(mean: dict[str, float | None], says: str) -> None:
    pair = copy.deepcopy(PAIR) | {"first": "A", "second": "B", "mean": {"auroc": mean, "p_value": 0.5}}
    assert says in pair_sentences(pair)[0]
    del pair["findings"]["Mass"]
    assert "ranks" not in " ".join(pair_sentences(pair))


def test_small_p_values() -> None:
    assert [shown_p(value) for value in (None, 0.00099, 0.001, 1.0)] == ["undefined", "< 0.001", "0.001", "1.000"]


def test_the_table_as_csv(tmp_path: Path) -> None:
    write_comparison(comparison(), tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv").set_index("finding")
    assert table.index.tolist() == ["Mass", "Pleural_Thickening", "Hernia", "mean"]
    assert table.loc["Mass", "difference_high"] == 0.04
    assert list(table.loc["mean", ["difference", "p_value"]]) == [0.02, 0.004]
    assert table.loc[["Hernia"], ["difference", "delong_p_value"]].isna().to_numpy().all()
