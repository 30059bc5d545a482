import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import hilum
from hilum.errors import BundleError, HilumError
from hilum.metrics.thresholds import Threshold
from hilum.model.bundle import Bundle, CalibrationSet, binding_of, load_bundle, save_bundle
from hilum.model.metadata import ModelDescription, read_description
from hilum.model.thresholds import OperatingPoints
from hilum.nn.build import build
from hilum.recipe import load_recipe

TINY = [
    "architecture.block_layers=[1,1,1,1]",
    "architecture.stem=16",
    "architecture.reduction=8",
    "preprocessing.size=64",
]
FILES = ["MODEL_CARD.md", "bundle.json", "weights.safetensors"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def tiny_bundle(*, seed: int = 0, **fields: Any) -> Bundle:
    recipe = load_recipe("demo", TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(recipe.architecture, findings=2, channels=recipe.preprocessing.channels)
        model.train()(torch.rand(4, 1, 64, 64))  # moves the batch norms' statistics
    bundle = Bundle(
        model=model.eval(),
        findings=("Pleural_Thickening", "Mass"),
        recipe=recipe,
        films="0123456789abcdef" * 4,
        heatmap_logits={"Pleural_Thickening": (-1.5, 2.25), "Mass": (0.1, 0.2)},
        training={"epochs": 14, "val_auroc": 0.8125},
    )
    return replace(bundle, **fields)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that is only read."""
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(tiny_bundle(), folder)
    return folder


@pytest.fixture
def own(shared: Path, tmp_path: Path) -> Path:
    """A bundle to be damaged."""
    return Path(shutil.copytree(shared, tmp_path / "run"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "bundle.json"
    description = json.loads(path.read_text())
    edit(description)
    path.write_text(json.dumps(description))


def replace_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Other weights, and a bundle.json that vouches for them."""
    path = folder / "weights.safetensors"
    save_file(state, path)
    change(folder, lambda d: d.update(weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))


def test_a_round_trip_gives_bit_equal_logits_and_all_else(shared: Path) -> None:
    before, after = tiny_bundle(), load_bundle(shared)
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(after.model(images), before.model(images))
        assert torch.equal(after.model.class_maps(images)[1], before.model.class_maps(images)[1])
    assert replace(after, model=before.model) == before
    assert not after.model.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in after.model.parameters())


def test_thresholds_and_calibration_come_back(tmp_path: Path) -> None:
    before = tiny_bundle(
        calibration={"Pleural_Thickening": (1.0, -0.5), "Mass": (0.75, 0.0)},
        calibration_set=CalibrationSet("platt", "ab" * 32, 40, 30, {"Pleural_Thickening": "own", "Mass": "shared"}),
    )
    points = {"youden": {"Pleural_Thickening": Threshold(0.25, 0.2, 0.375), "Mass": None}}
    before = replace(before, thresholds=OperatingPoints(binding_of(before), points))
    save_bundle(before, tmp_path)
    assert replace(load_bundle(tmp_path), model=before.model) == before


def bound(folder: Path) -> None:
    """A bundle with thresholds in a folder."""
    bundle = tiny_bundle(calibration={"Pleural_Thickening": (1.0, -0.5), "Mass": (0.75, 0.0)})
    points: dict[str, dict[str, Threshold | None]] = {
        "youden": dict.fromkeys(bundle.findings, Threshold(0.2, 0.1, 0.3))
    }
    save_bundle(replace(bundle, thresholds=OperatingPoints(binding_of(bundle), points)), folder)


def other_weights(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    state["classifier.bias"] += 1
    replace_weights(folder, state)


def other_size(description: dict[str, Any]) -> None:
    description["preprocessing"]["size"] = description["recipe"]["preprocessing"]["size"] = 96


@pytest.mark.parametrize(
    "harm",
    [
        other_weights,
        lambda folder: change(folder, other_size),
        lambda folder: change(folder, lambda d: d.update(calibration=None)),
        lambda folder: change(folder, lambda d: d["calibration"].update(Mass=[0.8, 0.0])),
    ],
)
def test_thresholds_of_another_model_preprocessing_or_calibration_are_refused(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    bound(tmp_path)
    load_bundle(tmp_path)
    harm(tmp_path)
    with pytest.raises(BundleError, match=r"thresholds must have been chosen for these weights, .* hilum calibrate"):
        load_bundle(tmp_path)


def test_thresholds_of_another_model_are_not_saved(tmp_path: Path) -> None:
    bound(tmp_path / "one")
    stolen = load_bundle(tmp_path / "one").thresholds
    with pytest.raises(BundleError, match="thresholds must have been chosen"):
        save_bundle(tiny_bundle(seed=1, thresholds=stolen), tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_the_folder_holds_three_files_and_no_code(shared: Path) -> None:
    assert sorted(path.name for path in shared.iterdir()) == FILES
    description = json.loads((shared / "bundle.json").read_text())
    assert description["format"] == 1
    assert description["disclaimer"] == hilum.DISCLAIMER
    assert description["versions"]["hilum"] == hilum.__version__
    header_length = int.from_bytes((shared / "weights.safetensors").read_bytes()[:8], "little")
    header = json.loads((shared / "weights.safetensors").read_bytes()[8 : 8 + header_length])
    assert header.keys() - {"__metadata__"} == tiny_bundle().model.state_dict().keys()
    for path in shared.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK")), f"{path} may be a pickle"


def test_the_card_says_what_it_is(shared: Path) -> None:
    card = (shared / "MODEL_CARD.md").read_text()
    for words in (hilum.DISCLAIMER, "Pleural_Thickening, Mass", "64 x 64 px", "0123456789abcdef", "patient", "0.8125"):
        assert words in card


@pytest.mark.parametrize(
    ("sources", "words", "simulated"),
    [
        (("phantom",), "trained on simulated films only", True),
        (("nih",), "trained on films of nih", False),
        (("nih", "phantom"), "trained on films of nih, simulated films", False),
        ((), "", False),
    ],
)
def test_what_it_learned_from_is_kept_and_said(
    tmp_path: Path, sources: tuple[str, ...], words: str, simulated: bool
) -> None:
    save_bundle(tiny_bundle(sources=sources), tmp_path)
    description = load_bundle(tmp_path).description
    assert (description.sources, description.simulated) == (sources, simulated)
    assert description.learned_from.startswith(words)
    assert (words or "films of unknown source") in (tmp_path / "MODEL_CARD.md").read_text()
    assert ModelDescription.from_dict(json.loads(json.dumps(description.to_dict()))) == description


def test_a_bundle_of_before_sources_is_still_read(own: Path) -> None:
    change(own, lambda description: description.pop("sources"))
    assert load_bundle(own).sources == ()
    change(own, lambda description: description.update(sources="nih"))
    with pytest.raises(BundleError, match="sources must be names"):
        load_bundle(own)


def test_saving_twice_gives_the_same_bytes(shared: Path, tmp_path: Path) -> None:
    own = tmp_path / "run"
    save_bundle(tiny_bundle(), own)
    assert all((own / name).read_bytes() == (shared / name).read_bytes() for name in FILES)


def test_loading_draws_nothing(shared: Path) -> None:
    before = torch.random.get_rng_state()
    load_bundle(shared)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_saving_leaves_the_model_in_place(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    save_bundle(bundle, tmp_path)
    first = {key: value.clone() for key, value in load_bundle(tmp_path).model.state_dict().items()}
    with torch.no_grad():
        bundle.model.classifier.weight.add_(1)
    assert all(torch.equal(value, first[key]) for key, value in load_bundle(tmp_path).model.state_dict().items())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_layout_does_not_matter(shared: Path, tmp_path: Path, layout: Any) -> None:
    bundle = tiny_bundle()
    bundle.model.to(memory_format=layout)
    save_bundle(bundle, tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == (shared / "weights.safetensors").read_bytes()


def test_a_training_that_diverged_writes_nothing(tmp_path: Path) -> None:
    diverged = tiny_bundle(heatmap_logits={"Pleural_Thickening": (float("nan"), 1.0), "Mass": (0.0, 1.0)})
    with pytest.raises(BundleError, match=r"numbers of a bundle must be finite.* Did the training diverge\?"):
        save_bundle(diverged, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(HilumError, match="output must be a place that can be written to"):
        save_bundle(tiny_bundle(), tmp_path / "run")


def test_bundle_json_comes_last(tmp_path: Path) -> None:
    """A stop on the way leaves no folder that passes for a bundle."""
    (tmp_path / "MODEL_CARD.md").mkdir()
    with pytest.raises(HilumError, match=r"MODEL_CARD\.md is a folder"):
        save_bundle(tiny_bundle(), tmp_path)
    assert not (tmp_path / "bundle.json").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            BundleError, match=r"bundle must be a folder with bundle\.json.* Make one with: hilum train"
        ):
            load_bundle(folder)


def test_altered_weights_are_refused(own: Path) -> None:
    path = own / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"must be the file that bundle\.json was written for, but its SHA-256 is"):
        load_bundle(own)


def test_weights_of_another_run_are_refused(own: Path, tmp_path: Path) -> None:
    save_bundle(tiny_bundle(seed=1), tmp_path / "other")
    (own / "weights.safetensors").write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(BundleError, match="SHA-256"):
        load_bundle(own)


def test_missing_weights_are_refused(own: Path) -> None:
    (own / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"weights must be beside bundle\.json, but there is no"):
        load_bundle(own)


def test_weights_that_are_no_safetensors_are_refused(own: Path) -> None:
    path = own / "weights.safetensors"
    for content in (b"", b"\x80\x04.", b"\xff" * 64, path.read_bytes()[:1000]):
        path.write_bytes(content)
        change(own, lambda d, c=content: d.update(weights_sha256=hashlib.sha256(c).hexdigest()))  # type: ignore[misc]
        with pytest.raises(BundleError, match="weights must be a safetensors file"):
            load_bundle(own)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "type"])
def test_weights_that_do_not_match_are_refused_by_name(own: Path, fault: str) -> None:
    state = load_file(own / "weights.safetensors")
    key = "features.norm5.weight"
    match fault:
        case "missing":
            del state[key]
        case "unknown":
            key = "features.norm6.weight"
            state[key] = torch.zeros(3)
        case "shape":
            state[key] = torch.zeros(3)
        case "type":
            state[key] = state[key].half()
    replace_weights(own, state)
    with pytest.raises(
        BundleError, match=rf"weights must match the model in every key, shape and type, but {key} differ"
    ):
        load_bundle(own)


def test_a_missing_key_is_refused_by_name(own: Path) -> None:
    description = (own / "bundle.json").read_text()
    for key in ("recipe", "preprocessing", "architecture", "findings", "films", "weights_sha256"):
        (own / "bundle.json").write_text(description)
        change(own, lambda d, key=key: d.pop(key))  # type: ignore[misc]
        with pytest.raises(BundleError, match=key):
            load_bundle(own)


def test_another_format_is_refused(own: Path) -> None:
    for wrong in (0, 2, "1", None, [1]):
        change(own, lambda d, wrong=wrong: d.update(format=wrong))  # type: ignore[misc]
        with pytest.raises(BundleError, match=r"format must be 1, got .* Use the Hilum that wrote the bundle"):
            load_bundle(own)


def test_what_is_no_json_object_is_refused(own: Path) -> None:
    for content in ("", "{", "[1]", '"bundle"', "[" * 100_000, "\ud800"):
        (own / "bundle.json").write_bytes(content.encode(errors="surrogatepass"))
        with pytest.raises(BundleError, match=r"bundle\.json must (be JSON|hold an object)"):
            load_bundle(own)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("preprocessing", "size", 65), ("architecture", "growth", 32), ("architecture", "dropout", 0.5)],
)
def test_what_contradicts_the_recipe_is_refused(own: Path, part: str, key: str, value: object) -> None:
    change(own, lambda d: d[part].update({key: value}))
    with pytest.raises(BundleError, match=f"{part} must be the recipe's, but differs"):
        load_bundle(own)


@pytest.mark.parametrize(
    "findings",
    [[], ["Mass", "Mass"], "Mass", ["../../outside", "Mass"], ["a\\b", "Mass"], ["", "Mass"], ["a\nb", "Mass"], [1, 2]],
)
def test_findings_that_cannot_be_names_are_refused(own: Path, findings: object) -> None:
    """They become parts of heatmaps' file names."""
    change(own, lambda d: d.update(findings=findings, heatmap_logits={str(k): [0, 1] for k in findings}))  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match="findings must be"):
        load_bundle(own)


def test_findings_that_are_not_as_many_as_the_outputs_are_refused(own: Path) -> None:
    def shorten(description: dict[str, Any]) -> None:
        one = description["findings"].pop()
        del description["heatmap_logits"][one], description["findings_sha256"]

    change(own, shorten)
    with pytest.raises(BundleError, match=r"classifier\.weight"):
        load_bundle(own)


@pytest.mark.parametrize("old", [False, True])
def test_findings_in_another_order_are_refused(own: Path, old: bool) -> None:
    """A bundle without the hash is an old one: its heatmap scale still has the order of its outputs."""
    if old:
        change(own, lambda d: d.pop("findings_sha256"))
        assert load_bundle(own).findings == read_description(own).findings
    change(own, lambda d: d["findings"].reverse())
    for read in (load_bundle, read_description):
        with pytest.raises(BundleError, match="findings must be those of the network's outputs, in their order"):
            read(own)


@pytest.mark.parametrize("part", ["heatmap_logits", "calibration", "thresholds"])
@pytest.mark.parametrize("harm", ["more", "less"])
def test_entries_of_other_findings_are_refused(tmp_path: Path, part: str, harm: str) -> None:
    bound(tmp_path)

    def change_keys(description: dict[str, Any]) -> None:
        entries = description[part]["points"]["youden"] if part == "thresholds" else description[part]
        if harm == "more":
            entries["Hernia"] = entries["Mass"]
        else:
            del entries["Mass"]

    change(tmp_path, change_keys)
    with pytest.raises(BundleError, match=r"must have an entry for each finding and no other, got '(Hernia|Mass)'"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("heatmap_logits", {"Mass": [0, 1]}),
        ("heatmap_logits", {"Mass": [0, 1], "Pleural_Thickening": [1, 1]}),
        ("heatmap_logits", {"Mass": [0, 1], "Pleural_Thickening": [0, float("inf")]}),
        ("heatmap_logits", {"Mass": [0, 1], "Pleural_Thickening": [0, 10**400]}),
        ("heatmap_logits", {"Mass": [0, 1], "Pleural_Thickening": "01"}),
        ("heatmap_logits", None),
        ("thresholds", {"Mass": 0.5}),
        ("thresholds", {"Mass": 0.5, "Pleural_Thickening": "0.5"}),
        ("thresholds", 0.5),
        ("thresholds", False),
        ("calibration", {"Mass": 0.5, "Pleural_Thickening": 0.5}),
        ("training", "long"),
        ("training", None),
    ],
)
def test_numbers_that_do_not_fit_are_refused(own: Path, key: str, value: object) -> None:
    change(own, lambda d: d.update({key: value}))
    with pytest.raises(BundleError, match=r"bundle\.json must describe a bundle of format 1"):
        load_bundle(own)


@pytest.mark.parametrize(
    ("key", "value"),
    [("block_layers", [10**9] * 4), ("growth", 10**9), ("block_layers", [64] * 4), ("stem", 4096), ("growth", 4096)],
)
def test_an_absurd_network_takes_no_memory(own: Path, key: str, value: object) -> None:
    def edit(description: dict[str, Any]) -> None:
        for architecture in (description["architecture"], description["recipe"]["architecture"]):
            architecture.update({"network": "densenet", key: value})

    change(own, edit)
    with pytest.raises(BundleError, match=rf"architecture\.{key}|weights must match"):
        load_bundle(own)


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [way for key in keys for way in ((*so_far, key), *paths(value[key], (*so_far, key)))]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_hostile_description_gives_a_bundle_or_a_bundle_error(shared: Path, data: st.DataObject) -> None:
    """One value replaced, removed or added anywhere; some of it is harmless, the rest is refused in one way."""
    text = (shared / "bundle.json").read_text()
    description = json.loads(text)
    *way, last = data.draw(st.sampled_from(paths(description)))
    inner = description
    for key in way:
        inner = inner[key]
    match data.draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            inner[last] = data.draw(JSON)
        case "remove":
            del inner[last]
        case "add" if isinstance(inner, dict):
            inner[data.draw(st.text(max_size=8))] = data.draw(JSON)
        case _:
            inner.append(data.draw(JSON))
    hostile = shared.parent / "hostile"
    hostile.mkdir(exist_ok=True)
    (hostile / "weights.safetensors").write_bytes((shared / "weights.safetensors").read_bytes())
    (hostile / "bundle.json").write_text(json.dumps(description))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            bundle = load_bundle(hostile)
        except BundleError as error:
            assert str(hostile) in str(error)  # noqa: PT017 - the file is named
        else:
            assert bundle.model(torch.zeros(1, 1, 64, 64)).shape == (1, len(bundle.findings))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 3000))
def test_hostile_bytes_give_a_bundle_error(shared: Path, garbage: bytes, place: int) -> None:
    content = (shared / "bundle.json").read_bytes()
    hostile = shared.parent / "garbage"
    hostile.mkdir(exist_ok=True)
    (hostile / "bundle.json").write_bytes(content[:place] + garbage)
    with pytest.raises(BundleError):
        load_bundle(hostile)
