import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import densenet121

from hilum.nn.classifier import load_backbone
from hilum.nn.densenet import CBAM, ChannelAttention, DenseNet, SpatialAttention, SqueezeExcitation, modern_keys

ATTENTION_KEYS = [
    f"features.attention{number}.{part}.weight"
    for number in (1, 2, 3)
    for part in ("channel.squeeze", "channel.excite", "spatial.conv")
]


def small(**choices: Any) -> DenseNet:
    """A network of one layer per block, 16 channels after each transition, its batch norms away from their start."""
    model = DenseNet(
        **{"findings": 3, "block_layers": (1, 1, 1, 1), "growth": 16, "stem": 16, "reduction": 8, **choices}
    )
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def films(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_without_attention_it_is_torchvisions_densenet121() -> None:
    ours, theirs = DenseNet(findings=14).eval(), densenet121(num_classes=14).eval()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]
    ours.load_state_dict(theirs.state_dict())
    images = films(2, 3, 96, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("place", ["after-transition", "before-transition"])
def test_attention_stands_where_it_was_asked_for(place: Any) -> None:
    model = small(attention="cbam", attention_place=place)
    order = [name for name, _ in model.features.named_children() if re.match(r"attention|transition|denseblock", name)]
    pairs = [("transition", "attention") if place == "after-transition" else ("attention", "transition")] * 3
    expected = [
        name for k, pair in enumerate(pairs, 1) for name in (f"denseblock{k}", *(f"{part}{k}" for part in pair))
    ]
    assert order == [*expected, "denseblock4"]


def test_attention_adds_its_keys_and_changes_no_other() -> None:
    plain, attended = small().state_dict(), small(attention="cbam").state_dict()
    assert [key for key in attended if key not in plain] == ATTENTION_KEYS
    assert [key for key in attended if key in plain] == list(plain)


@pytest.mark.parametrize("place", ["after-transition", "before-transition"])
def test_attention_takes_part(place: Any) -> None:
    """The forward pass by hand: part after part, in the order of the paper's figure 1 or its other reading."""
    model, images = small(attention="cbam", attention_place=place), films(2, 3, 64, 64)
    x = images
    for name in ("conv0", "norm0", "relu0", "pool0"):
        x = model.get_submodule(f"features.{name}")(x)
    for stage in (1, 2, 3):
        x = model.get_submodule(f"features.denseblock{stage}")(x)
        parts = ("transition", "attention") if place == "after-transition" else ("attention", "transition")
        for part in parts:
            x = model.get_submodule(f"features.{part}{stage}")(x)
    x = model.get_submodule("features.norm5")(model.get_submodule("features.denseblock4")(x)).relu()
    torch.testing.assert_close(model(images), model.classifier(x.mean((2, 3))))


@pytest.mark.parametrize("place", ["after-transition", "before-transition"])
def test_identity_start_equals_the_network_without_attention(place: Any) -> None:
    plain = small()
    attended = small(attention="cbam", identity_start=True, attention_place=place)
    assert load_backbone(attended, plain.state_dict()) == sorted(ATTENTION_KEYS)
    images = films(2, 3, 64, 96)
    assert torch.equal(attended(images), plain(images))
    halved = small(attention="cbam", attention_place=place)
    load_backbone(halved, plain.state_dict())
    assert not torch.allclose(halved(images), plain(images))


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1, 3]), st.sampled_from([(32, 32), (64, 96), (100, 70)]), st.integers(1, 3))
def test_the_mean_of_a_class_map_is_its_logit(channels: int, size: tuple[int, int], batch: int) -> None:
    model, images = small(channels=channels, attention="cbam"), films(batch, channels, *size)
    logits, maps = model.class_maps(images)
    torch.testing.assert_close(logits, model(images))
    torch.testing.assert_close(maps.mean((2, 3)), model(images))
    assert maps.shape == (batch, 3, size[0] // 32, size[1] // 32)


def test_a_map_is_the_classifier_at_each_place() -> None:
    model, images = small(), films(1, 3, 64, 96)
    features, (_, maps) = model.feature_map(images), model.class_maps(images)
    assert (features >= 0).all()
    for row, column in ((0, 0), (1, 2)):
        torch.testing.assert_close(maps[:, :, row, column], model.classifier(features[:, :, row, column]))


def test_a_grey_stem_summed_over_rgb_gives_the_same_output_on_grey_films() -> None:
    colour, grey = small(attention="cbam"), small(attention="cbam", channels=1)
    assert load_backbone(grey, colour.state_dict()) == []
    images = films(2, 1, 96, 96)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)))


def test_one_channel_and_three_are_all_there_is() -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
        small(channels=4)


def test_dropout_draws_in_training_alone() -> None:
    model, images = small(dropout=0.5), films(2, 3, 64, 64)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torchvision's downloads and models trained with DataParallel call them."""
    return {
        "module." + re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key): value
        for key, value in state.items()
    }


def test_old_names_are_renamed() -> None:
    state = small(attention="cbam").state_dict()
    old = old_names(state)
    assert "module.features.denseblock1.denselayer1.norm.1.weight" in old
    assert list(modern_keys(old)) == list(state)
    model = small(attention="cbam")
    assert not torch.equal(model.state_dict()["features.conv0.weight"], state["features.conv0.weight"])
    assert load_backbone(model, old) == []
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_names_of_today_stay() -> None:
    state = small(attention="cbam").state_dict()
    assert list(modern_keys(state)) == list(state)


def test_a_classifier_for_1000_classes_is_left_out() -> None:
    imagenet, model = small(findings=1000), small()
    own = {key: value.clone() for key, value in model.state_dict().items()}
    assert load_backbone(model, imagenet.state_dict()) == ["classifier.bias", "classifier.weight"]
    for key, value in model.state_dict().items():
        expected = own if key.startswith("classifier.") else imagenet.state_dict()
        assert torch.equal(value, expected[key])


def test_a_classifier_that_fits_is_taken() -> None:
    trained, model = small(), small()
    trained.classifier.bias.data.fill_(7)
    assert load_backbone(model, trained.state_dict()) == []
    assert model.classifier.bias.tolist() == [7, 7, 7]


def test_files_older_than_the_batch_counter_load() -> None:
    state = {k: v for k, v in small().state_dict().items() if not k.endswith("num_batches_tracked")}
    missing = load_backbone(small(), state)
    assert missing
    assert all(key.endswith("num_batches_tracked") for key in missing)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("features.norm5.extra", torch.zeros(1)),
        ("features.norm5.weight", None),
        ("features.norm5.weight", torch.zeros(5)),
        ("features.attention1.spatial.conv.weight", torch.zeros(1, 2, 7, 7)),
        ("features.conv0.weight", torch.zeros(())),
        ("features.conv0.weight", torch.zeros(16, 4, 7, 7)),
        ("classifier.scale", torch.zeros(3)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_does_not_match_is_refused_by_name(key: str, value: Tensor | None, channels: int) -> None:
    state = small().state_dict()
    if value is None:
        del state[key]
    else:
        state[key] = value
    model = small(channels=channels)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"weights must match .*: {re.escape(key)}$"):
        load_backbone(model, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_colour_model_takes_a_grey_stem_in_three_equal_parts() -> None:
    grey, colour = small(channels=1).eval(), small().eval()
    load_backbone(colour, grey.state_dict())
    film = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(colour(film.repeat(1, 3, 1, 1)), grey(film), atol=1e-5)


def test_many_faults_are_counted() -> None:
    with pytest.raises(ValueError, match=r"and \d+ more$"):
        load_backbone(small(), {})


def test_weights_of_another_attention_place_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features\.attention1\.channel\.excite\.weight"):
        load_backbone(
            small(attention="cbam", attention_place="before-transition"), small(attention="cbam").state_dict()
        )


def test_one_film_can_be_learned_by_heart() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small(attention="cbam", channels=1).train()
        images, labels = films(4, 1, 64, 64), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(40):
            loss = nn.functional.binary_cross_entropy_with_logits(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert loss.item() < 0.05
    assert all(module.channel.squeeze.weight.grad is not None for module in model.modules() if isinstance(module, CBAM))


@pytest.mark.parametrize(
    ("attention", "kind"),
    [("se", SqueezeExcitation), ("channel", ChannelAttention), ("spatial", SpatialAttention), ("cbam", CBAM)],
)
@pytest.mark.parametrize("place", ["after-transition", "before-transition"])
def test_every_attention_stands_in_the_same_place(attention: Any, kind: type[nn.Module], place: Any) -> None:
    model = small(attention=attention, attention_place=place, channels=1)
    for number in (1, 2, 3):
        assert type(model.get_submodule(f"features.attention{number}")) is kind
    extra = set(model.state_dict()) - set(small(channels=1).state_dict())
    assert {key.rsplit(".", 2)[0].split(".")[1][:-1] for key in extra} == {"attention"}
    logits, maps = model.class_maps(films(2, 1, 64, 96))
    torch.testing.assert_close(maps.mean((2, 3)), logits)
    model.train()(films(2, 1, 64, 96)).square().sum().backward()
    for number in (1, 2, 3):
        for weight in model.get_submodule(f"features.attention{number}").parameters():
            assert weight.grad is not None
            assert weight.grad.isfinite().all()


@pytest.mark.parametrize("attention", ["se", "channel", "spatial"])
def test_every_attention_can_start_as_the_identity(attention: Any) -> None:
    plain, attended = small(), small(attention=attention, identity_start=True)
    missing = load_backbone(attended, plain.state_dict())
    assert missing
    assert all(key.startswith("features.attention") for key in missing)
    images = films(2, 3, 64, 64)
    assert torch.equal(attended(images), plain(images))


def test_weights_of_another_attention_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"these do not: features\.attention1\.conv\.weight"):
        load_backbone(small(attention="channel"), small(attention="spatial").state_dict())


def test_films_that_are_too_small_are_refused_in_one_sentence() -> None:
    model = small()
    assert model(films(1, 3, 32, 32)).shape == (1, 3)
    for call in (model, model.class_maps):
        with pytest.raises(
            ValueError, match=r"^images must be at least 32 px high and wide for this network, got 31 x 40$"
        ):
            call(films(1, 3, 31, 40))
