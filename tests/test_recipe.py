import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hilum.errors import RecipeError
from hilum.recipe import SHIPPED, Recipe, load_recipe, recipe_from_dict, shipped_recipes

NAMES = shipped_recipes()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_these_are_shipped() -> None:
    assert {"am-densenet", "am-densenet-bce", "demo", "densenet", "nih-small"} <= set(NAMES)
    assert sorted(NAMES) == NAMES


def test_shipped_recipes_load_and_say_what_they_are() -> None:
    for name in NAMES:
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.about.endswith(".")
        assert recipe == load_recipe(SHIPPED / f"{name}.toml")
        assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict(), allow_nan=False)), where="run.json") == recipe


def test_am_densenet_is_the_paper() -> None:
    """Every value of paper.md, those that the paper leaves open among them; whatever else there is, is off."""
    paper: dict[str, Any] = {
        "name": "am-densenet",
        "source": "Zhao et al., A deep learning method for classification of chest X-ray images, 2021",
        "protocol": "image",
        "weights": "imagenet",
        "architecture": {
            "network": "am-densenet",
            "block_layers": [6, 12, 24, 16],
            "growth": 32,
            "stem": 64,
            "attention_place": "after-transition",
            "reduction": 16,
        },
        "preprocessing": {"size": 512, "interpolation": "nearest", "channels": 3},
        "augmentation": {"magnitude": 0.5},  # of operations, of which there are none
        "loss": {"name": "focal", "alpha": 0.25, "gamma": 2.0},
        "optimizer": {"name": "adam", "lr": 1e-4, "momentum": 0.9, "layer_decay": 1.0},  # momentum is SGD's
        "schedule": {"name": "plateau", "factor": 0.1, "patience": 1, "warmup": 0.2},  # warm-up is the one-cycle's
        "training": {
            **{"batch": 8, "epochs": 20, "keep": "last", "stop_patience": 3, "precision": "auto"},
            "sampling": "films",
            **{"accumulate": 1, "logger": ["tensorboard"]},
        },
        "labels": {"uncertain": "ignore", "teacher_weight": 0.5},  # of a teacher, of whom there is none
        "views": ["PA", "AP", "unknown"],  # all of ChestX-ray14
        "partners": [],
    }
    ours = load_recipe("am-densenet").to_dict()
    assert ours.pop("about").startswith("The paper to the letter")
    for key, value in ours.items():
        if not isinstance(value, dict):
            assert value == paper.get(key, 0), key
            continue
        assert {inner: value[inner] for inner in paper[key]} == paper[key]
        assert not any(value[inner] for inner in value if inner not in paper[key]), key


def test_what_the_paper_leaves_open_is_written_out() -> None:
    fields = tomllib.loads((SHIPPED / "am-densenet.toml").read_text(encoding="utf-8"))
    assert "seed" in fields
    assert {"reduction", "attention_place"} <= fields["architecture"].keys()
    assert {"size", "interpolation"} <= fields["preprocessing"].keys()
    assert {"alpha", "gamma"} <= fields["loss"].keys()
    assert "patience" in fields["schedule"]
    assert "stop_patience" in fields["training"]


def differences(first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    flat = [
        {
            f"{key}.{inner}": value
            for key, part in recipe.to_dict().items()
            for inner, value in (part.items() if isinstance(part, dict) else [("", part)])
        }
        for recipe in (first, second)
    ]
    return {key: (flat[0][key], flat[1][key]) for key in flat[0] if flat[0][key] != flat[1][key]}


def test_the_papers_other_systems_differ_in_one_thing_each() -> None:
    paper, bce, plain = (load_recipe(name) for name in ("am-densenet", "am-densenet-bce", "densenet"))
    assert set(differences(paper, bce)) == {"name.", "about.", "loss.name"}
    assert differences(paper, bce)["loss.name"] == ("focal", "bce")
    assert set(differences(bce, plain)) == {"name.", "about.", "architecture.network"}
    assert differences(bce, plain)["architecture.network"] == ("am-densenet", "densenet")


def test_our_own_recipes_keep_patients_apart() -> None:
    assert {load_recipe(name).protocol for name in NAMES if load_recipe(name).source == "Hilum"} == {"patient"}
    assert load_recipe("am-densenet").protocol == "image"  # the paper does not


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("learning_rate=1", "learning_rate"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate"),
        ("architecture.reductions=8", "architecture.reductions"),
        ("preprocessing.colour=3", "preprocessing"),
        ("augmentation.vertical_flip=0.5", "augmentation.vertical_flip"),
        ("loss.name=hinge", "loss.name"),
        ("loss.gamma=0.5", "loss.gamma"),
        ("loss.gamma=inf", "loss.gamma"),
        ("loss.alpha=1", "loss.alpha"),
        ("optimizer.lr=0", "optimizer.lr"),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.lr=inf", "optimizer.lr"),
        ("optimizer.lr=fast", "optimizer.lr"),
        ("training.batch=0", "training.batch"),
        ("training.epochs=1.5", "training.epochs"),
        ("training.gradient_clip=inf", "training.gradient_clip"),
        ("training.ema_decay=1", "training.ema_decay"),
        ("training.keep=none", "training.keep"),
        ("schedule.patience=-1", "schedule.patience"),
        ("preprocessing.size=0", "preprocessing"),
        ("preprocessing.size=none", "preprocessing"),
        ("preprocessing.channels=2", "preprocessing"),
        ("seed=-1", "seed"),
        ("seed=4294967296", "seed"),
        ("protocol=random", "protocol"),
        ("weights=5", "weights"),
        ("loss=none", "loss"),
        ("extends='demo'", "extends"),
        (".lr=1", ""),
    ],
)
def test_what_is_no_key_or_value_is_refused_by_name(change: str, key: str) -> None:
    with pytest.raises(RecipeError, match=rf"^{key}.* in am-densenet: .*See: hilum info am-densenet --json$"):
        load_recipe("am-densenet", [change])


def test_a_wrong_value_is_shown() -> None:
    with pytest.raises(RecipeError, match=r"^training\.batch in demo: .* greater than or equal to 1, got 0\."):
        load_recipe("demo", ["training.batch=0"])
    with pytest.raises(RecipeError, match=r"^loss\.gamma in demo: must be 0 or at least 1, got 0\.5\."):
        load_recipe("demo", ["loss.gamma=0.5"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("seed=7", {"seed": 7}),
        ("optimizer.lr=3e-4", {"optimizer": {"lr": 3e-4}}),
        (" optimizer.lr = 3e-4 ", {"optimizer": {"lr": 3e-4}}),
        ("architecture.identity_start=true", {"architecture": {"identity_start": True}}),
        ("architecture.block_layers=[1, 2, 3, 4]", {"architecture": {"block_layers": [1, 2, 3, 4]}}),
        ("loss.name=bce", {"loss": {"name": "bce"}}),
        ('loss.name="bce"', {"loss": {"name": "bce"}}),
        ("schedule={name='constant'}", {"schedule": {"name": "constant", "factor": 0.1, "patience": 1, "warmup": 0.2}}),
        ("training.stop_patience=none", {"training": {"stop_patience": None}}),
        ("training.ema_decay=none", {"training": {"ema_decay": None}}),
        ("training.ema_decay=0.99", {"training": {"ema_decay": 0.99}}),
        ("weights=none", {"weights": "none"}),
        ("weights=runs/first", {"weights": "runs/first"}),
        ("weights=C=1/x.pth", {"weights": "C=1/x.pth"}),
        ("about=two words", {"about": "two words"}),
    ],
)
def test_changes(change: str, expected: dict[str, Any]) -> None:
    changed, before = load_recipe("am-densenet", [change]).to_dict(), load_recipe("am-densenet").to_dict()
    for key, value in expected.items():
        before[key] = {**before[key], **value} if isinstance(value, dict) else value
    assert changed == before


def test_the_last_change_holds_and_none_stays_behind() -> None:
    assert load_recipe("demo", ["seed=1", "seed=2"]).seed == 2
    assert load_recipe("demo").seed == 0


def test_what_is_no_change_is_refused() -> None:
    for change in ("seed", "", "=3", "optimizer.=3", "seed:3"):
        with pytest.raises(RecipeError, match=r"--set must be KEY=VALUE, such as optimizer\.lr=3e-4, got"):
            load_recipe("demo", [change])


def test_a_change_below_a_value_is_refused() -> None:
    with pytest.raises(RecipeError, match="seed holds no keys"):
        load_recipe("demo", ["seed.first=3"])


def test_a_file_may_extend_a_shipped_recipe(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.toml", 'extends = "nih-small"\nname = "mine"\n[training]\nepochs = 2\n')
    recipe, base = load_recipe(path), load_recipe("nih-small")
    assert differences(base, recipe) == {
        "name.": ("nih-small", "mine"),
        "training.epochs": (base.training.epochs, 2),
    }
    assert load_recipe(path, ["training.epochs=3"]).training.epochs == 3


def test_a_file_may_extend_a_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    write(tmp_path / "base.toml", 'extends = "demo"\nseed = 5\n')
    path = write(tmp_path / "recipes" / "mine.toml", 'extends = "../base.toml"\nname = "mine"\n')
    assert load_recipe(path).seed == 5
    monkeypatch.chdir(tmp_path / "recipes")  # and from wherever it is called
    assert load_recipe("mine.toml") == load_recipe(path)


@pytest.mark.parametrize("other", ["b.toml", "./b.toml", "../recipes/b.toml"])
def test_a_circle_is_refused(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    path = write(folder / "a.toml", f'extends = "{other}"\n')
    write(folder / "b.toml", 'extends = "../recipes/a.toml"\n')
    with pytest.raises(
        RecipeError, match=r"extends must not lead in a circle, got .*a\.toml -> .*b\.toml -> .*a\.toml"
    ):
        load_recipe(path)
    with pytest.raises(RecipeError, match="circle"):
        load_recipe(write(folder / "self.toml", 'extends = "self.toml"'))


def test_a_parent_that_does_not_exist(tmp_path: Path) -> None:
    for parent in ('"nowhere"', "5", "[]", '"\\u0000"', '"."'):
        with pytest.raises(RecipeError, match="recipe must be a TOML file"):
            load_recipe(write(tmp_path / "mine.toml", f"extends = {parent}\n"))


def test_a_recipe_that_does_not_exist() -> None:
    for name in ("am_densenet", "", ".", "missing.toml", "missing/demo.toml"):
        with pytest.raises(RecipeError, match=r"recipe must be a TOML file or one of am-densenet, .*demo, "):
            load_recipe(name)


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for content in (b"seed =", b"\xff\xfe", b"seed = 1\nseed = 2", b"x = " + b"[" * 5000):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=r"recipe must be a TOML file, but .*mine\.toml cannot be read"):
            load_recipe(path)


def test_a_file_that_lacks_a_key(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^name in .*mine\.toml: Field required\. See"):
        load_recipe(write(tmp_path / "mine.toml", "seed = 1\n"))


def test_a_recipe_is_frozen() -> None:
    recipe = load_recipe("demo")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(recipe, "seed", 1)  # noqa: B010 - mypy knows that it is frozen
    with pytest.raises(ValidationError, match="frozen"):
        setattr(recipe.loss, "gamma", 1.0)  # noqa: B010


PATHS = [
    (key, inner)
    for key, part in load_recipe("demo").to_dict().items()
    for inner in (part if isinstance(part, dict) else [None])
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS), JSON)
def test_any_value_gives_a_recipe_or_a_recipe_error(path: tuple[str, str | None], value: Any) -> None:
    fields, (key, inner) = load_recipe("demo").to_dict(), path
    if inner is None:
        fields[key] = value
    else:
        fields[key][inner] = value
    try:
        recipe = recipe_from_dict(fields, where="fuzz")
    except RecipeError as error:
        assert str(error).startswith(key)  # noqa: PT017 - most values are refused, a few are not
    else:
        json.dumps(recipe.to_dict(), allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=10))
def test_any_change_gives_a_recipe_or_a_recipe_error(change: str, value: str) -> None:
    for text in (change, f"seed={value}", f"optimizer.{change}={value}"):
        try:
            load_recipe("demo", [text])
        except RecipeError as error:
            assert str(error)  # noqa: PT017


SYSTEMS = {
    "wang-alexnet": {"network": "wang2017", "backbone": "alexnet", "pooling": "lse", "lse_r": 10.0},
    "wang-googlenet": {"network": "wang2017", "backbone": "googlenet", "pooling": "lse", "lse_r": 10.0},
    "wang-vgg16": {"network": "wang2017", "backbone": "vgg16", "pooling": "lse", "lse_r": 10.0},
    "wang-resnet50": {"network": "wang2017", "backbone": "resnet50", "pooling": "lse", "lse_r": 10.0},
    "chestnet": {"network": "chestnet", "size": 224, "stage_blocks": [3, 8, 36, 3]},
}


def test_the_systems_that_the_paper_compares_with() -> None:
    for name, architecture in SYSTEMS.items():
        recipe = load_recipe(name)
        assert recipe.to_dict()["architecture"] == architecture
        assert (recipe.protocol, recipe.weights) == ("official", "imagenet")
        assert recipe.loss.name == ("bce" if name == "chestnet" else "w-cel")


def test_dnetloc_is_called_an_approximation() -> None:
    recipe = load_recipe("dnetloc")
    assert "approximation" in recipe.about
    assert (recipe.preprocessing.size, recipe.loss.name, recipe.protocol) == (1024, "class-weighted-bce", "patient")


def test_the_ablations_differ_from_the_paper_in_their_attention_alone() -> None:
    bce = load_recipe("am-densenet-bce")
    for name in ("se-densenet", "channel-densenet", "spatial-densenet"):
        assert differences(bce, load_recipe(name))["architecture.network"] == ("am-densenet", name)
        assert set(differences(bce, load_recipe(name))) == {"name.", "about.", "architecture.network"}
    before = differences(load_recipe("am-densenet"), load_recipe("am-densenet-before-transition"))
    assert set(before) == {"name.", "about.", "architecture.attention_place"}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "wang-alexnet",
            "preprocessing.size=62",
            r"preprocessing\.size must be at least 63 px for wang2017, got 62 \[in",
        ),
        ("dnetloc", "preprocessing.size=127", r"preprocessing\.size must be at least 128 px for dnetloc, got 127 \[in"),
        ("dnetloc", "training.progressive_size=96", r"training\.progressive_size must be at least 128 px"),
        ("chestnet", "preprocessing.size=256", r"preprocessing\.size must be 224 px, .* got 256\. Change both"),
        ("demo", "preprocessing.size=31", r"preprocessing\.size must be at least 32 px for am-densenet, got 31"),
        ("wang-vgg16", "architecture.growth=3", r"architecture\.growth in wang-vgg16: this recipe takes no such key"),
        (
            "demo",
            "architecture.network=vit",
            r"architecture in demo: .*'vit'.* does not match any of .*'dnetloc', 'timm:NAME'",
        ),
        ("wang-vgg16", "architecture.lse_r=0", r"architecture\.lse_r in wang-vgg16: .* greater than 0, got 0\."),
    ],
)
def test_what_a_system_cannot_take_is_refused_in_one_sentence(name: str, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(name, [change])


def test_chestnet_takes_another_size_if_both_are_changed() -> None:
    recipe = load_recipe("chestnet", ["preprocessing.size=320", "architecture.size=320"])
    assert recipe.preprocessing.size == 320
