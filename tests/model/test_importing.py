"""Imported models against their sources' own code, with random weights in files of the sources' keys and shapes."""

import contextlib
import io
import pickle
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import transforms

import hilum
from hilum.errors import BundleError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.findings import CHESTXRAY14
from hilum.model.bundle import load_bundle, save_bundle
from hilum.model.calibrate import calibrate
from hilum.model.export import export_bundle
from hilum.model.importing import Stated, import_model, read_tensors, read_weights
from hilum.model.torchxrayvision import MODELS, OUTPUTS

if TYPE_CHECKING:
    from hilum.data.films import Films

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of torchxrayvision and of ndimage

torchxrayvision = pytest.importorskip("torchxrayvision")


def awake(network: Any) -> Any:
    """The network with statistics as after a training, so that its logits tell films apart."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, values in network.named_buffers():
            if name.endswith("running_mean"):
                values.normal_(0, 0.1)
            if name.endswith("running_var"):
                values.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def dense() -> Any:
    """torchxrayvision's DenseNet."""
    network = awake(torchxrayvision.models.DenseNet())
    network.features.norm0.running_var.fill_(3e5)  # of films in -1024..1024
    return network


@pytest.fixture(scope="module")
def run(dense: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, imported; read only."""
    folder = tmp_path_factory.mktemp("xrv")
    torch.save(dense.state_dict(), folder / "weights.pt")
    import_model("torchxrayvision", "densenet121-res224-all", folder / "weights.pt", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Films of several shapes."""
    folder, generator = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    paths = []
    for height, width in ((300, 250), (224, 224), (161, 190)):
        smooth = generator.integers(0, 256, (height // 8, width // 8), dtype=np.uint8)
        paths.append(folder / f"{height}.png")
        Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def seen_by_torchxrayvision(film: Path, size: int) -> Tensor:
    """The package's own road from a file to its network."""
    image = torchxrayvision.utils.load_image(str(film))
    image = torchxrayvision.datasets.XRayResizer(size)(torchxrayvision.datasets.XRayCenterCrop()(image))
    return torch.from_numpy(image)[None]


def logits_of(run: Path, film: Path) -> np.ndarray:
    return np.array(list(hilum.load(run, engine="torch").predict(film, force=True).logits.values()))


def check_dense(run: Path, dense: Any, films: list[Path]) -> None:
    model = hilum.load(run, engine="torch")
    limits = torch.tensor(MODELS["densenet121-res224-all"].thresholds)
    for film in films:
        with torch.inference_mode():
            theirs = dense(seen_by_torchxrayvision(film, 224))
            normed = torchxrayvision.models.op_norm(theirs.sigmoid(), limits)[0].numpy()
        result = model.predict(film, force=True)
        np.testing.assert_allclose(list(result.logits.values()), theirs[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(list(result.scores.values()), theirs[0].sigmoid(), rtol=0, atol=1e-5)
        assert [call == "present" for call in result.calls("source").values()] == (normed >= 0.5).tolist()


def test_torchxrayvisions_densenet_is_itself(run: Path, dense: Any, films: list[Path]) -> None:
    check_dense(run, dense, films)
    bundle = load_bundle(run)
    assert bundle.findings == OUTPUTS
    assert bundle.preprocessing.words == "the square in the middle, 224 x 224 px, scikit-image"
    assert bundle.calibration is None
    assert bundle.origin is not None
    assert bundle.origin.model == "torchxrayvision-densenet121-res224-all"
    assert "imported or put together, not trained here" in (run / "MODEL_CARD.md").read_text()
    assert "trained on films of nih, padchest" in (run / "MODEL_CARD.md").read_text()


@pytest.mark.real
def test_torchxrayvisions_densenet_is_itself_on_real_films(run: Path, dense: Any, real_data: Path) -> None:
    originals = sorted((real_data / "nih" / "originals").iterdir())
    grey = [path for path in originals if Image.open(path).mode == "L"]
    check_dense(run, dense, [*grey[:3], *sorted((real_data / "nih" / "films").iterdir())[:3]])


def test_the_table_of_thresholds_is_the_packages() -> None:
    theirs = torchxrayvision.models.model_urls
    assert set(MODELS) == {name for name in theirs if "-" in name}
    for name, ours in MODELS.items():
        stated = [None if np.isnan(number) else number for number in theirs[name]["op_threshs"]]
        assert list(ours.thresholds) == stated
        assert theirs[name]["weights_url"].endswith(ours.file)
        named = zip(OUTPUTS, theirs[name]["labels"], stated, strict=True)
        assert all(label in ("", output) and (label == output or limit is None) for output, label, limit in named)


@pytest.mark.slow
def test_torchxrayvisions_resnet_is_itself(films: list[Path], tmp_path: Path) -> None:
    network = torchvision.models.resnet50(num_classes=18)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    awake(network)
    network.bn1.running_var.fill_(1e5)
    file = tmp_path / MODELS["resnet50-res512-all"].file
    torch.save(network.state_dict(), file)
    theirs = torchxrayvision.models.ResNet(weights="resnet50-res512-all", cache_dir=str(tmp_path))
    theirs.op_threshs = None
    bundle = import_model("torchxrayvision", "resnet50-res512-all", file, tmp_path / "run")
    untrained = ["Lung Lesion", "Enlarged Cardiomediastinum"]
    assert [name for name in OUTPUTS if name not in bundle.findings] == untrained
    with torch.inference_mode():
        logits = theirs(seen_by_torchxrayvision(films[0], 512))[0].numpy()
    kept = [k for k, name in enumerate(OUTPUTS) if name not in untrained]
    np.testing.assert_allclose(logits_of(tmp_path / "run", films[0]), logits[kept], rtol=1e-5, atol=1e-5)


def test_an_output_that_was_never_trained_has_no_score(dense: Any, tmp_path: Path) -> None:
    state = {**dense.state_dict(), "op_threshs": torch.tensor([0.5, *[float("nan")] * 17])}
    torch.save(
        {f"module.{key}": value for key, value in state.items()} | {"op_threshs": state["op_threshs"]},
        tmp_path / "w.pt",
    )
    with pytest.raises(BundleError, match="weights must match the network"):
        import_model("torchxrayvision", "all", tmp_path / "w.pt", tmp_path / "run")
    torch.save(state, tmp_path / "w.pt")
    bundle = import_model("torchxrayvision", "all", tmp_path / "w.pt", tmp_path / "run")
    assert bundle.findings == ("Atelectasis",)
    assert torch.equal(bundle.model.classifier.weight, dense.classifier.weight[:1])
    assert bundle.origin is not None
    assert "never trained are left out: Consolidation, Infiltration" in bundle.origin.notes[0]


CheXNet = tuple[nn.Module, dict[str, Tensor]]


@pytest.fixture(scope="module")
def chexnet() -> CheXNet:
    """CheXNet's network, and its weights under the keys of its file: DataParallel's, of a torch before 0.4."""
    network = torchvision.models.densenet121()
    network.classifier = nn.Sequential(nn.Linear(1024, 14), nn.Sigmoid())
    awake(network)
    state = {}
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            old = re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key)
            state[f"module.densenet121.{old}"] = value
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in state
    return network, state


def seen_by_torchvision(film: Path, shorter: int, size: int = 224, mode: str = "bilinear") -> Tensor:
    by = getattr(transforms.InterpolationMode, mode.upper())
    steps = [transforms.Resize(shorter, by), transforms.CenterCrop(size), transforms.ToTensor()]
    norm = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    seen: Tensor = transforms.Compose([*steps, norm])(Image.open(film).convert("RGB"))[None]
    return seen


def test_chexnets_checkpoint_is_itself(chexnet: CheXNet, films: list[Path], tmp_path: Path) -> None:
    network, state = chexnet
    file = tmp_path / "model.pth.tar"
    torch.save({"epoch": 2, "state_dict": state, "best_loss": 0.1, "optimizer": {"state": {}}}, file)
    bundle = import_model("chexnet", str(file), None, tmp_path / "run")
    assert bundle.findings == CHESTXRAY14
    for film in films:
        with torch.inference_mode():
            scores = network(seen_by_torchvision(film, 256))[0].numpy()
        np.testing.assert_allclose(1 / (1 + np.exp(-logits_of(tmp_path / "run", film))), scores, rtol=0, atol=1e-5)


@pytest.mark.real
def test_chexnets_checkpoint_is_itself_on_real_films(chexnet: CheXNet, real_data: Path, tmp_path: Path) -> None:
    films = [path for path in sorted((real_data / "nih" / "originals").iterdir()) if Image.open(path).mode == "L"]
    test_chexnets_checkpoint_is_itself(chexnet, films[:3], tmp_path)


def test_a_pickled_module_is_refused_and_its_tensors_can_be_taken(
    chexnet: CheXNet, films: list[Path], tmp_path: Path
) -> None:
    network, _ = chexnet
    file = tmp_path / "checkpoint"
    torch.save({"model": network, "best_loss": 0.1, "epoch": 2}, file)
    refused = r"is a pickle of whole Python objects .* Hilum never does\. The safe way out: add --tensors-only"
    with pytest.raises(BundleError, match=refused):
        import_model("reproduce-chexnet", str(file), None, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    import_model("reproduce-chexnet", str(file), None, tmp_path / "run", tensors_only=True)
    with torch.inference_mode():
        scores = network(seen_by_torchvision(films[0], 224))[0].numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits_of(tmp_path / "run", films[0]))), scores, rtol=0, atol=1e-5)
    torch.save({"model": network}, file, _use_new_zipfile_serialization=False)
    for read in (read_weights, read_tensors):
        with pytest.raises(BundleError, match=r"before torch 1\.6.*in a container without network"):
            read(file)


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_ever_run(zipped: bool, tmp_path: Path) -> None:
    file, proof = tmp_path / "weights.pt", tmp_path / "proof"
    torch.save({"a": torch.zeros(1), "b": Malicious(proof)}, file, _use_new_zipfile_serialization=zipped)
    for read in (read_weights, read_tensors):
        with pytest.raises(BundleError):
            read(file)
    file.write_bytes(pickle.dumps(Malicious(proof)))
    for read in (read_weights, read_tensors):
        with pytest.raises(BundleError):
            read(file)
    assert not proof.exists()


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """torchvision's smallest ResNet with a head of three findings, and a file of it."""
    network, file = (
        awake(torchvision.models.resnet18(num_classes=3)),
        tmp_path_factory.mktemp("resnet") / "w.safetensors",
    )
    save_file(network.state_dict(), file)
    return network, file


THREE = Stated(findings=["Mass", "Nodule", "Tuberculosis"])


def test_torchvisions_state_dict_is_itself(resnet: tuple[nn.Module, Path], films: list[Path], tmp_path: Path) -> None:
    network, file = resnet
    bundle = import_model("torchvision", "resnet18", file, tmp_path / "run", stated=THREE)
    assert bundle.findings == ("Mass", "Nodule", "Tuberculosis")
    for film in films:
        with torch.inference_mode():
            logits = network(seen_by_torchvision(film, 256))[0].numpy()
        np.testing.assert_allclose(logits_of(tmp_path / "run", film), logits, rtol=1e-5, atol=1e-5)


def test_timms_state_dict_is_itself(films: list[Path], tmp_path: Path) -> None:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    network = awake(timm.create_model("test_convnext", num_classes=3))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    bundle = import_model("timm", "test_convnext", tmp_path / "w.pth", tmp_path / "run", stated=THREE)
    config: dict[str, Any] = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    assert bundle.preprocessing.size == network.pretrained_cfg["input_size"][-1]
    for film in films:
        with torch.inference_mode():
            logits = network(transform(Image.open(film).convert("RGB"))[None])[0].numpy()
        np.testing.assert_allclose(logits_of(tmp_path / "run", film), logits, rtol=1e-5, atol=1e-5)


def test_what_is_stated_takes_the_place_of_the_sources(resnet: tuple[nn.Module, Path], tmp_path: Path) -> None:
    stated = Stated(findings=THREE.findings, size=96, interpolation="area", shorter=0, mean=[0.5], deviation=[0.25])
    bundle = import_model("torchvision", "resnet18", resnet[1], tmp_path / "run", stated=stated)
    assert bundle.preprocessing.words == "96 x 96 px, area"
    assert bundle.model.pixel_mean is not None
    assert bundle.model.pixel_mean.flatten().tolist() == [0.5] * 3
    again = load_bundle(tmp_path / "run")
    assert again.origin == bundle.origin
    assert again.recipe.architecture == bundle.recipe.architecture


@pytest.mark.parametrize(
    ("source", "model", "stated", "message"),
    [
        ("elsewhere", "resnet18", THREE, "source must be one of torchxrayvision, chexnet"),
        ("torchvision", "alexnet", THREE, r"model must be one of torchvision's densenet121.*, got 'alexnet'"),
        ("torchvision", "resnet18", Stated(), "findings must be distinct names, at least one.*State them in the order"),
        ("torchvision", "resnet18", Stated(findings=["Mass"]), "findings must be 3, one for each output of the last"),
        ("torchvision", "resnet34", THREE, "weights must match the network of torchvision-resnet34"),
        ("torchvision", "densenet121", THREE, r"weights must hold the network's first convolution, features\.conv0"),
        ("torchxrayvision", "densenet121-res224-all", None, "weights must hold the last layer, classifier.weight"),
        ("torchxrayvision", "vgg", None, "model must be one of torchxrayvision's, densenet121-res224-all"),
        ("timm", "resnet1", THREE, "network must be a name of timm"),
        ("torchvision", "resnet18", Stated(findings=THREE.findings, shorter=100), "shorter must be a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(
    source: str, model: str, stated: Stated | None, message: str, resnet: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    with pytest.raises((BundleError, hilum.errors.HilumError), match=message):
        import_model(source, model, resnet[1], tmp_path / "run", stated=stated)
    assert not (tmp_path / "run").exists()


def test_a_transformer_read_at_its_class_token_is_refused(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("test_vit", num_classes=3)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(BundleError, match="trained to be read at the class token"):
        import_model("timm", "test_vit", tmp_path / "w.pth", tmp_path / "run", stated=THREE)


def test_offline_the_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(BundleError, match=r"could not be had \(no route\)\. Offline, fetch https://.*nih-densenet121"):
        import_model("torchxrayvision", "nih", None, tmp_path / "run")


@pytest.mark.slow
def test_an_onnx_file_is_itself(resnet: tuple[nn.Module, Path], films: list[Path], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = nn.Sequential(resnet[0], nn.Sigmoid())
    file = tmp_path / "net.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, 224, 224),), str(file), dynamo=True, external_data=False)
    with pytest.raises(BundleError, match="preprocessing must be stated"):
        import_model("onnx", str(file), None, tmp_path / "run", stated=THREE)
    stated = replace(
        THREE,
        interpolation="pillow-bilinear",
        shorter=256,
        mean=[0.485, 0.456, 0.406],
        deviation=[0.229, 0.224, 0.225],
    )
    import_model("onnx", str(file), None, tmp_path / "run", stated=stated)
    session = onnxruntime.InferenceSession(file)
    for film in films[:2]:
        (theirs,) = session.run(None, {session.get_inputs()[0].name: seen_by_torchvision(film, 256).numpy()})
        logits = logits_of(tmp_path / "run", film)
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), theirs[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_an_imported_model_goes_the_whole_way_untrained(phantom_films: "Films", packs: Path, tmp_path: Path) -> None:
    import timm

    run = tmp_path / "run"
    network = awake(timm.create_model("test_convnext", num_classes=3))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    stated = Stated(findings=["Infiltrate", "Tuberculosis", "Effusion"], size=64, shorter=72)
    bundle = import_model("timm", "test_convnext", tmp_path / "w.pth", run, stated=stated)
    film = phantom_films.path(0)
    scores = hilum.load(run).predict(film).scores
    calibrated = calibrate(bundle, phantom_films.select("val"), packs=packs)
    save_bundle(calibrated, run)
    assert calibrated.findings == bundle.findings
    assert calibrated.calibration_set is not None
    assert "no label is known" in calibrated.calibration_set.how["Tuberculosis"]
    assert calibrated.heatmap_logits != bundle.heatmap_logits
    assert calibrated.thresholds is not None
    assert calibrated.thresholds.points["youden"]["Tuberculosis"] is None
    report = evaluate_to_folder(run, phantom_films, tmp_path / "report", bootstrap_samples=50)
    assert set(report["findings"]) == {"Infiltration", "Effusion"}
    assert report["model"]["loss"] == "not by this recipe: see its origin"
    assert "timm-test_convnext, w.pth" in (tmp_path / "report" / "report.html").read_text()
    export_bundle(run, "onnx", say=print)
    by_torch = hilum.load(run, engine="torch").predict(film, force=True).scores
    by_onnx = hilum.load(run, engine="onnx").predict(film, force=True).scores
    np.testing.assert_allclose(list(by_onnx.values()), list(by_torch.values()), rtol=0, atol=1e-5)
    assert by_torch != scores


def test_thresholds_of_the_source_are_carried_over_a_calibration(
    run: Path, phantom_films: "Films", packs: Path
) -> None:
    before = load_bundle(run)
    films = phantom_films.select("val")
    after = calibrate(before, films, packs=packs, method="temperature")
    assert after.thresholds is not None
    assert before.thresholds is not None
    stated, carried = (one.thresholds.points["source"] for one in (before, after))  # type: ignore[union-attr]
    assert {"source", "youden"} < after.thresholds.points.keys()
    logits = np.linspace(-6, 2, 500, dtype=np.float32)[:, None].repeat(len(before.findings), 1)
    for k, name in enumerate(before.findings):
        calls = []
        for bundle, limit in ((before, stated[name]), (after, carried[name])):
            assert limit is not None
            calls.append(bundle.description.scores(logits)[:, k] >= limit.value)
        assert (calls[0] == calls[1]).mean() > 0.99
        assert calls[0].any()
