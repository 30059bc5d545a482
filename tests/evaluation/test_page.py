import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_reports import estimate, full_report, some_controls, some_report
from PIL import Image

from hilum import DISCLAIMER
from hilum.errors import HilumError
from hilum.evaluation.curves import roc_png
from hilum.evaluation.page import PROTOCOLS, render_page, write_report
from hilum.evaluation.views import scaled, svg_path
from hilum.findings import CHESTXRAY14

VOID = {"meta", "link", "br", "rect", "line", "path", "ellipse", "input", "image"}


class Outline(HTMLParser):
    """Tags with their attributes, the visible text, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in {"td", "th", "dd", "br"} else ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    parsed.text = " ".join(parsed.text.split())
    return parsed


def test_page_is_well_formed_and_loads_nothing() -> None:
    page = render_page(some_report())
    parsed = outline(page)
    assert not re.search(r"https?://|url\(|@import|<script src|<img|<iframe", page)
    links = [str(attributes["href"]) for tag, attributes in parsed.tags if "href" in attributes]
    names = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert links[0] == "data:,"  # the empty icon, without which a browser asks for one
    assert links[1:]
    assert all(link[0] == "#" and link[1:] in names for link in links[1:])
    assert "default-src 'none'" in page


def test_page_is_accessible_in_its_structure() -> None:
    parsed = outline(render_page(full_report()))
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("h1") == tags.count("main") == 1
    html = dict(parsed.tags)["html"]
    assert html["lang"] == "en"
    names = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(names) == len(set(names))
    for tag, attributes in parsed.tags:
        for reference in ("aria-labelledby", "aria-describedby"):
            assert reference not in attributes or attributes[reference] in names
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")
        if tag == "th":
            assert attributes.get("scope") in {"row", "col"}


def test_colours_have_the_contrast_of_aa_in_light_dark_and_print() -> None:
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    palettes = re.findall(r":root \{(.*?)\}", render_page(some_report()), re.DOTALL)
    assert len(palettes) == 3
    for palette in palettes:
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", palette))
        pairs = [(ink, back) for ink in ("ink", "muted", "accent") for back in ("page", "card", "soft")]
        for ink, back in [*pairs, ("warn-ink", "warn")]:
            light, dark = sorted((luminance(colours[ink]), luminance(colours[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, back)


def test_page_says_what_is_undefined_not_judged_and_missing() -> None:
    report = some_report(not_judged=["Mass_X"], missing_films=["a.png"], notes=["Scores lie outside [0, 1]."])
    text = outline(render_page(report)).text
    assert "Hernia is undefined, because these films do not show both presence and absence" in text
    assert "Not evaluated, because the system gave no scores: Mass X." in text
    assert "1 film of the split had no score and was left out." in text
    assert "Scores lie outside [0, 1]." in text
    assert "the mean is over the 13 defined findings, rare ones among them." in text
    assert DISCLAIMER in text
    assert "nan" not in text.lower().replace("finan", "")


def test_page_shows_each_value_with_its_interval_and_counts() -> None:
    text = outline(render_page(some_report())).text
    assert "Atelectasis 0.700 0.670 to 0.720 0.300 0.270 to 0.320 100 40 patients 12 9 patients 0.712" in text
    assert "Wang 2017 arXiv 0.7451" in text
    assert "Not comparable, because measured under another protocol: AM_DenseNet + focal (image) 0.8537." in text


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("official", "NIH's published test list"),
        ("patient", "no patient is in both"),
        ("image", "81.6 % of the test films then share a patient with training films"),
        (None, "does not say how its films were split"),
    ],
)
def test_each_protocol_is_explained(protocol: str | None, words: str) -> None:
    assert words in outline(render_page(some_report(protocol))).text
    assert words in PROTOCOLS[protocol][1]


def test_shared_patients_are_counted() -> None:
    page = render_page(some_report("image", shared_patients=30, films_with_siblings_in_training=80))
    assert "Here 30 of 40 patients also have films in training; these patients have 80 of the 100 films (80.0 %)." in (
        outline(page).text
    )


def test_incomparable_peers_are_grey_with_the_reason() -> None:
    page = render_page(some_report(published_incomparable="Published values were measured elsewhere."))
    assert "Published values were measured elsewhere." in outline(page).text
    assert re.search(r'<tr class="grey"><th scope="row">Wang 2017', page)
    assert 'class="grey"><th scope="row">Wang' not in render_page(some_report())


def test_strangers_text_is_escaped() -> None:
    report = full_report(system="<script>alert(1)</script>", notes=["<b>&"])
    report["model"] |= {"about": "<u>", "training": {"<i>": "1"}}
    report["findings"]["</script><s>"] = report["findings"].pop("Mass")
    page = render_page(report)
    assert page.count("<script") == render_page(full_report()).count("<script")
    assert not any(text in page for text in ("alert(1)</script>", "<b>&", "<u>", "<i>", "<s>"))
    outline(page)


def test_nothing_defined_is_said_in_words() -> None:
    report = some_report(
        undefined_findings=list(CHESTXRAY14), mean={"auroc": estimate(None), "average_precision": estimate(None)}
    )
    for finding in report["findings"].values():
        finding |= {"auroc": estimate(None), "average_precision": estimate(None)}
        finding["curve"] = {name: [] for name in finding["curve"]}
    text = outline(render_page(report)).text
    assert "nothing can be ranked" in text
    assert "no finding is defined, so there is no mean." in text
    assert roc_png(report).startswith(b"\x89PNG")


def test_training_history_is_drawn() -> None:
    history = [{"epoch": i, "train_loss": 1 / i, "val_auroc": None if i == 1 else 0.5 + i / 100} for i in range(1, 6)]
    report = full_report()
    report["model"]["history"] = history
    page = render_page(report)
    text = outline(page).text
    assert "recipe nih-small" in text
    assert "train loss" in text
    assert "over 5 epochs, from 0.52 to 0.55" in page


def test_subgroups_are_drawn_around_no_difference() -> None:
    page = render_page(full_report())
    text = outline(page).text
    assert "AUROC: subgroup minus the rest" in text
    assert "F sex, 60 films -0.050 -0.080 to -0.030" in text
    assert "unknown sex, 60 films too small" in text
    assert 'x1="10.0" y1="6" x2="35.0"' in page  # of 0.1 to either side


def test_heatmaps_are_summed_up_in_plain_words() -> None:
    text = outline(render_page(full_report())).text
    assert (
        "Of 100 findings with a true box, averaged over kinds of finding, its heatmaps point into the box for 75;"
        in text
    )


def test_controls_stand_in_a_section_of_their_own_with_a_plain_sentence_each() -> None:
    text = outline(render_page(some_report("image", controls=some_controls()))).text
    assert "What can be had without pixels" in text
    assert (
        "A control that sees no pixel and knows only the labels of the same patient's training films reaches a mean "
        "AUROC of 0.745 (0.715 to 0.765); AM_DenseNet lies 0.020 above it (-0.010 to +0.040)."
    ) in text
    assert "the view and the patient's age and sex reaches a mean AUROC of 0.620" in text
    assert "Patient identity" in text
    assert "What can be had without pixels" not in outline(render_page(some_report())).text


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        ({"value": -0.03, "low": -0.05, "high": -0.01}, "lies 0.030 below it (-0.050 to -0.010)."),
        ({"low": None, "high": None}, "lies 0.020 above it (no interval)."),
        ({"value": None, "low": None, "high": None}, "it has no defined finding in common with AM_DenseNet."),
    ],
)
def test_controls_below_and_beyond_judgement_are_said(difference: dict[str, Any], sentence: str) -> None:
    assert sentence in outline(render_page(some_report("image", controls=some_controls(**difference)))).text


def test_a_control_that_learned_nothing_is_said() -> None:
    controls = some_controls()
    controls["identity"] = controls["identity"] | {"mean": {key: estimate(None) for key in ("auroc", "difference")}}
    text = outline(render_page(some_report("image", controls=controls))).text
    assert "training films could not be evaluated: no finding defines it." in text


def test_write_report_leaves_three_whole_files(tmp_path: Path) -> None:
    report = some_report()
    write_report(report, tmp_path / "new" / "report")
    folder = tmp_path / "new" / "report"
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "roc.png"]
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    with Image.open(folder / "roc.png") as picture:
        assert min(picture.size) > 600
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    write_report(some_report(system="another"), folder)
    assert "another" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_report_with_nan_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_report(some_report(films=float("nan")), tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(HilumError, match="report"):
        write_report(some_report(), tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"


def test_figure_names_may_hold_formula_signs() -> None:
    assert roc_png(some_report(system="$x_1 costs 5$")).startswith(b"\x89PNG")


def test_svg_path_turns_the_plane_over() -> None:
    assert svg_path([0.0, 0.25, 1.0], [0.0, 0.5, 1.0]) == "M0.0 100.0 L25.0 50.0 L100.0 0.0"
    assert svg_path([], []) == ""
    assert scaled([1.0, 2.0, 3.0], 1.0, 3.0) == [0, 0.5, 1]
    assert scaled([2.0, 2.0], 2.0, 2.0) == [0.5, 0.5]
