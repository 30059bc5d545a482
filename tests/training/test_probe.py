"""A linear probe that is fitted at once, and recipes whose networks are averaged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.utils.data import TensorDataset

from hilum.data.films import Films
from hilum.errors import RecipeError
from hilum.metrics.ranking import auroc
from hilum.model.bundle import load_bundle
from hilum.nn.classifier import Classifier, ClassMaps, Images, Logits
from hilum.recipe import load_recipe, recipe_from_dict
from hilum.training.probe import FOLDS, _folds, fit_classifier
from hilum.training.train import train

FILMS, FEATURES = 120, 400


class Flat(Classifier):
    """A network that gives each pixel to its classifier."""

    minimum_size, stem_key, fresh = 1, "none", ()

    def __init__(self, pixels: int, findings: int):
        super().__init__()
        self.classifier = nn.Linear(pixels, findings)

    def forward(self, images: Images) -> Logits:
        return self.classifier(images.flatten(1))  # type: ignore[no-any-return]

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        raise NotImplementedError

    def own_keys(self, state: object) -> dict[str, torch.Tensor]:
        return {}


def some_films(seed: int = 0) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(FILMS, 1, 20, 20)).astype(np.float32) * generator.uniform(0.1, 3, (20, 20))
    direction = generator.normal(size=(FEATURES, 2))
    scores = images.reshape(FILMS, -1) @ direction
    labels = (scores > np.quantile(scores, 0.7, axis=0)).astype(np.float32)
    return torch.from_numpy(images.astype(np.float32)), labels, [f"p{film // 2}" for film in range(FILMS)]


def probed(images: torch.Tensor, labels: np.ndarray, patients: list[str], **options: object) -> tuple[Flat, object]:
    model = Flat(FEATURES, labels.shape[1])
    data = TensorDataset(images, torch.zeros(len(images)))
    return model, fit_classifier(model, data, labels, patients, **{"mirrored": False, **options})  # type: ignore[arg-type]


def test_its_logits_rank_as_ridge_regression_of_scikit_learn_does() -> None:
    images, labels, patients = some_films()
    model, found = probed(images, labels, patients, penalty=3.0)
    features = images.flatten(1).double().numpy()
    scaled = (features - features.mean(0)) / (images.flatten(1).std(0).double().numpy() + 1e-5) / FEATURES**0.5
    expected = Ridge(alpha=3.0).fit(scaled, labels).predict(scaled)
    with torch.inference_mode():
        logits = model(images).double().numpy()
    for finding in range(2):  # Platt's line alone lies between
        slope, intercept = np.polyfit(expected[:, finding], logits[:, finding], 1)
        assert slope > 0
        np.testing.assert_allclose(logits[:, finding], slope * expected[:, finding] + intercept, atol=1e-4)
    assert found == (3.0, pytest.approx(found[1]))  # type: ignore[index]


def test_a_penalty_is_chosen_and_helps_on_other_films() -> None:
    images, labels, patients = some_films()
    model, found = probed(images, labels, patients)
    assert found[1] > 0.6  # type: ignore[index]
    other, truth, _ = some_films(0)
    with torch.inference_mode():
        logits = model(other).numpy()
    assert auroc(logits[:, 0].astype(np.float64), truth[:, 0].astype(np.float64)) > 0.9


def test_unknown_labels_weigh_nothing() -> None:
    images, labels, patients = some_films()
    unknown = labels.copy()
    unknown[80:, 0] = np.nan
    model, _ = probed(images, unknown, patients, penalty=1.0)
    alone, _ = probed(images[:80], labels[:80], patients[:80], penalty=1.0)
    features = images.flatten(1)
    assert not torch.allclose(
        features.std(0), features[:80].std(0)
    )  # the scale of features is that of all films; so only the ranks are close
    with torch.inference_mode():
        one, two = model(images[80:])[:, 0], alone(images[80:])[:, 0]
    assert np.corrcoef(one.numpy(), two.numpy())[0, 1] > 0.98


def test_mirror_images_are_learned_from() -> None:
    images, labels, patients = some_films()
    model, _ = probed(images, labels, patients, mirrored=True, penalty=1.0)
    weights = model.classifier.weight.detach().reshape(2, 20, 20)
    assert torch.allclose(weights, weights.flip(2), atol=1e-4)


def test_a_patient_lies_in_one_fold() -> None:
    patients = ["b", "a", "c", "a", "b", "d", "e", "f"]
    fold = _folds(patients, seed=3)
    assert set(fold) <= set(range(FOLDS))
    assert all(len({f for f, own in zip(fold, patients, strict=True) if own == name}) == 1 for name in "abcdef")


def test_a_probe_refuses_what_it_cannot_do() -> None:
    with pytest.raises(RecipeError, match="ridge fits the classifier alone"):
        load_recipe("lite-probe", ["loss.boxes=0.2"])
    with pytest.raises(RecipeError, match="ridge fits the classifier alone"):
        load_recipe("lite-probe", ["training.epochs=2"])


@pytest.mark.slow  # it trains
def test_partners_are_trained_on_the_same_films_and_averaged(
    tiny: Path, phantom_films: Films, packs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "probe.toml"
    changes = ["optimizer.name=ridge", "training.epochs=1", "training.freeze_epochs=1", "loss.name=bce", "name=probe"]
    probe = load_recipe(tiny, [*changes, "training.keep=last", "schedule.name=constant"])
    other.write_text(_toml(probe.to_dict()))
    recipe = load_recipe(tiny, ["training.epochs=1", "training.keep=last"]).model_copy(
        update={
            "partners": recipe_from_dict(
                {**load_recipe(tiny).to_dict(), "partners": [{"recipe": str(other)}, {"recipe": str(tiny), "seed": 5}]},
                where="here",
            ).partners
        }
    )
    out = tmp_path / "run"
    bundle = train(recipe, phantom_films, out, packs=packs, bar=False)
    members = [load_bundle(folder) for folder in sorted((out / "members").iterdir())]
    assert [member.recipe.name for member in members] == ["tiny", "probe", "tiny"]
    assert [member.recipe.seed for member in members] == [recipe.seed, recipe.seed, 5]
    assert members[0].films == members[1].films == bundle.films
    images = torch.rand(3, 1, *[bundle.preprocessing.size] * 2)
    with torch.inference_mode():
        lines = [torch.from_numpy(member.description.slopes_and_intercepts()).float() for member in members]
        expected = [line[0] * member.model(images) + line[1] for line, member in zip(lines, members, strict=True)]
        torch.testing.assert_close(bundle.model(images), torch.stack(expected).mean(0), atol=1e-4, rtol=1e-4)
    assert bundle.thresholds is not None
    assert bundle.recipe.name == "tiny"
    assert bundle.origin is None
    again = train(recipe, phantom_films, out, packs=packs, bar=False, resume=True)
    assert again.films == bundle.films
    with pytest.raises(RecipeError, match="out must be a new or empty folder"):
        train(recipe, phantom_films, out, packs=packs, bar=False)


def _toml(fields: dict[str, object], head: str = "") -> str:
    """These fields as TOML; None is left out."""
    own = "".join(
        f"{name} = {_value(value)}\n"
        for name, value in fields.items()
        if not (value is None or isinstance(value, dict))
    )
    inner = ((name, value) for name, value in fields.items() if isinstance(value, dict))
    return own + "".join(f"\n[{head}{name}]\n{_toml(value, f'{head}{name}.')}" for name, value in inner)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
