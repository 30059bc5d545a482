"""One training step, the schedule, and what a checkpoint says of where it was written."""

import itertools
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from hilum.data.dataset import Augmentation
from hilum.errors import BundleError, HilumError, RecipeError
from hilum.messages import quiet_lightning
from hilum.nn.build import build
from hilum.recipe import Loss, load_recipe
from hilum.training.learner import (
    Batch,
    Learner,
    parameter_groups,
    prevalence_of,
    resume_point,
    stages_of,
    start_from_prevalence,
)
from hilum.training.losses import (
    bce_loss,
    class_weighted_bce_loss,
    focal_loss,
    loss_of,
    mixed,
    region_loss,
    smoothed,
    weighted_cross_entropy_loss,
)

SIMPLE = ("schedule.name=constant", "optimizer.weight_decay=0.0", "training.ema_decay=none")


def learner(tiny: Path, *changes: str, steps: int = 12) -> Learner:
    recipe = load_recipe(tiny, [*SIMPLE, *changes])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Learner(build(recipe.architecture, findings=3, channels=1), recipe, steps=steps)


def batch(films: int = 8, size: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(5)
    labels = (torch.rand(films, 3, generator=generator) < 0.4).float()
    labels[0, 0] = float("nan")
    return [torch.rand(films, 1, size, size, generator=generator), labels]


def fit(one: Learner, batches: list[Batch], *, epochs: int = 1) -> pl.Trainer:
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(one, DataLoader(cast(Any, batches), batch_size=None))
    return trainer


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_one_batch_is_learned_by_heart(tiny: Path, loss: str) -> None:
    one, films = learner(tiny, f"loss.name={loss}", "optimizer.lr=5e-3"), batch()
    before = loss_of(one(films[0]), films[1], one.recipe.loss).item()
    fit(one, [films] * 80)
    one.train()
    logits, labels = one(films[0]).detach(), films[1]
    assert loss_of(logits, labels, one.recipe.loss).item() < 0.05 * before
    known = ~labels.isnan()
    assert torch.equal(logits[known] > 0, labels[known] == 1)


def test_plateau_lowers_the_learning_rate(tiny: Path) -> None:
    plateau = ("schedule.name=plateau", "schedule.patience=1", "schedule.factor=0.1", "optimizer.lr=1e-12")
    rates = [
        fit(learner(tiny, *plateau), [batch()], epochs=epochs).optimizers[0].param_groups[0]["lr"]
        for epochs in (1, 2, 3, 5)
    ]
    assert rates == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14], rel=1e-6)


def test_one_cycle_ends_at_almost_nothing(tiny: Path) -> None:
    one = learner(tiny, "schedule.name=one-cycle", "schedule.warmup=0.25", "optimizer.lr=1e-3", steps=12)
    seen: list[float] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: object) -> None:
            seen.append(trainer.optimizers[0].param_groups[1]["lr"])

    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=3,
            callbacks=[Watch()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(one, DataLoader(cast(Any, [batch()] * 4), batch_size=None))
    assert len(seen) == 12
    assert seen.index(max(seen)) == 2  # a quarter of the steps
    assert max(seen) == pytest.approx(1e-3)
    assert seen[-1] < 1e-7


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 6])
def test_one_cycle_of_a_few_steps(tiny: Path, steps: int) -> None:
    one = learner(tiny, "schedule.name=one-cycle", "schedule.warmup=0.2", "optimizer.lr=1e-3", steps=steps)
    fit(one, [batch(2, 32)] * steps)
    assert all(p.isfinite().all() for p in one.parameters())


def test_weights_decay_but_biases_and_norms_do_not(tiny: Path) -> None:
    one = learner(tiny, "optimizer.weight_decay=0.05")
    decaying, kept = one.configure_optimizers().param_groups
    assert (decaying["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim > 1 for p in decaying["params"])
    assert sum(p.numel() for group in (decaying, kept) for p in group["params"]) == sum(
        p.numel() for p in one.parameters()
    )


def test_a_step_leaves_the_random_state_as_it_was_and_draws_by_step(tiny: Path) -> None:
    class Watched(Learner):
        def training_step(self, films: Batch, batch_index: int) -> torch.Tensor:
            state = torch.get_rng_state()
            loss = super().training_step(films, batch_index)
            assert torch.equal(torch.get_rng_state(), state)
            return loss

    recipe = load_recipe(tiny, [*SIMPLE, "architecture.dropout=0.5"])
    results = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            one = Watched(build(recipe.architecture, findings=3, channels=1), recipe, steps=2)
            torch.manual_seed(seed)
            fit(one, [batch()] * 2)
        results.append(list(one.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradients_are_clipped_by_their_norm(tiny: Path) -> None:
    one = learner(tiny)
    films = batch()
    torch.autograd.backward(loss_of(one(films[0]), films[1], one.recipe.loss))
    one.configure_gradient_clipping(torch.optim.Adam(one.parameters()), None, None)
    gradients = [p.grad for p in one.parameters() if p.grad is not None]
    before = torch.stack([g.norm() for g in gradients]).norm().item()
    one.configure_gradient_clipping(torch.optim.Adam(one.parameters()), before / 2, None)
    assert torch.stack([g.norm() for g in gradients]).norm().item() == pytest.approx(before / 2, rel=1e-3)


def test_small_films_first(tiny: Path) -> None:
    sides: list[int] = []

    class Watched(Learner):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sides.append(images.shape[-1])
            return super().forward(images)

    recipe = load_recipe(
        tiny, [*SIMPLE, "training.progressive_size=32", "training.progressive_until=0.5", "training.epochs=4"]
    )
    fit(Watched(build(recipe.architecture, findings=3, channels=1), recipe, steps=4), [batch()], epochs=4)
    assert sides == [32, 32, 64, 64]


def test_logits_are_fp32_in_bf16_too(tiny: Path) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert learner(tiny)(batch()[0]).dtype == torch.float32


def test_the_loss_is_the_recipes() -> None:
    logits, labels = torch.tensor([[0.3, -2.0]]), torch.tensor([[1.0, 0.0]])
    assert loss_of(logits, labels, Loss(name="bce")) == bce_loss(logits, labels)
    focal = Loss(name="focal", alpha=0.3, gamma=3.0)
    assert loss_of(logits, labels, focal) == focal_loss(logits, labels, gamma=3.0, alpha=0.3)


def test_a_new_classifier_says_the_prevalence() -> None:
    nan = np.float32("nan")
    labels = np.array([[1, 0, 1, nan], [0, 0, 1, nan], [0, 0, nan, nan], [0, 0, 1, nan]], dtype=np.float32)
    model = nn.Module()
    model.classifier = nn.Linear(5, 4)
    weight = model.classifier.weight.clone()
    start_from_prevalence(model, labels)
    # a quarter; never: half a film of four; always: two and a half of three; unknown: even
    expected = torch.tensor([1 / 4, 0.5 / 4, 2.5 / 3, 1 / 2])
    torch.testing.assert_close(model.classifier.bias.sigmoid(), expected)
    assert torch.equal(model.classifier.weight, weight)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"last\.ckpt cannot be read"):
        resume_point(path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(BundleError, match=r"other\.ckpt cannot be read"):
        resume_point(tmp_path / "other.ckpt")


def test_prevalence_is_never_0_or_1() -> None:
    nan = float("nan")
    labels = np.array([[1, 0, 1, nan], [0, 0, 1, nan], [0, 0, nan, nan], [nan, 0, 1, nan]], dtype=np.float32)
    expected = [1 / 3, 0.5 / 4, 2.5 / 3, 0.5]
    np.testing.assert_allclose(prevalence_of(labels), np.array(expected, dtype=np.float32), rtol=1e-6)


def test_the_losses_of_the_other_systems() -> None:
    logits, labels = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, float("nan")]])
    assert loss_of(logits, labels, Loss(name="w-cel")) == weighted_cross_entropy_loss(logits, labels)
    part = torch.tensor([0.25, 0.5])
    weighted = loss_of(logits, labels, Loss(name="class-weighted-bce"), part)
    assert weighted == class_weighted_bce_loss(logits, labels, prevalence=part)
    with pytest.raises(ValueError, match="prevalence must be given for the loss class-weighted-bce, got None"):
        loss_of(logits, labels, Loss(name="class-weighted-bce"))


def test_sgd_steps_against_the_gradient(tiny: Path) -> None:
    one = learner(tiny, "optimizer.name=sgd", "optimizer.lr=0.1", "optimizer.momentum=0.0")
    before = [p.detach().clone() for p in one.parameters()]
    films = batch()
    one.train()
    loss_of(one(films[0]), films[1], one.recipe.loss).backward()  # type: ignore[no-untyped-call]
    optimizer = one.configure_optimizers()
    gradients = [p.grad.clone() for p in one.parameters() if p.grad is not None]
    optimizer.step()
    for old, new, gradient in zip(before, one.parameters(), gradients, strict=True):
        assert torch.allclose(new, old - 0.1 * gradient, atol=1e-7)


def test_cosine_warms_up_in_a_line_and_ends_at_almost_nothing(tiny: Path) -> None:
    one = learner(tiny, "schedule.name=cosine", "schedule.warmup=0.2", "optimizer.lr=1.0", steps=20)
    schedule = one.configure_optimizers()["lr_scheduler"]["scheduler"]
    rates = [schedule.lr_lambdas[0](step) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[12] == pytest.approx(0.5)  # half of the way down
    assert 0 < rates[19] < 0.02
    assert all(b < a for a, b in itertools.pairwise(rates[4:]))


def test_layer_decay_lets_each_stage_learn_slower_than_the_one_above(tiny: Path) -> None:
    one = learner(tiny, "optimizer.layer_decay=0.5", "optimizer.lr=1.0", "optimizer.weight_decay=0.1")
    groups = parameter_groups(one.model, one.recipe.optimizer)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rate) == len(list(one.parameters()))
    named = {name: rate[id(p)] for name, p in one.model.named_parameters()}
    top = max(stages_of(one.model).values())
    assert named["classifier.weight"] == named["classifier.bias"] == 1.0
    assert named["features.conv0.weight"] == 0.5**top == named["features.norm0.weight"]
    assert named["features.denseblock1.denselayer1.conv1.weight"] == 0.5 ** (top - 1)
    assert named["features.norm5.weight"] == 0.5  # of the last dense block
    assert {group["weight_decay"] for group in groups for p in group["params"] if p.ndim <= 1} == {0.0}


def test_labels_are_smoothed_by_their_findings_noise() -> None:
    labels = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 1.0, 1.0]])
    smooth = smoothed(labels, torch.tensor([0.1, 0.0, 0.3]))
    expected = torch.tensor([[0.9, 0.0, float("nan")], [0.1, 1.0, 0.7]])
    assert torch.allclose(smooth, expected, equal_nan=True)


def test_noise_is_given_for_all_or_by_name_and_an_unknown_name_is_refused(tiny: Path) -> None:
    def noise(change: str) -> torch.Tensor | None:
        recipe = load_recipe(tiny, [*SIMPLE, change])
        model = build(recipe.architecture, findings=3, channels=1)
        return Learner(model, recipe, steps=1, findings=("Mass", "Nodule", "Edema")).noise

    assert noise("loss.noise=0.0") is None
    assert noise("loss.noise=0.1") == torch.tensor(0.1)
    by_name = noise("loss.noise={Nodule=0.2}")
    assert by_name is not None
    assert by_name.tolist() == pytest.approx([0.0, 0.2, 0.0])
    with pytest.raises(RecipeError, match="got Lump"):
        noise("loss.noise={Lump=0.2}")


def test_mixup_mixes_films_and_labels_by_one_part() -> None:
    images, labels = batch(4, 32)
    torch.manual_seed(3)
    seen, targets = mixed(images, labels, 0.4)
    own = ((seen - images.flip(0)) / (images - images.flip(0))).median().item()
    assert 0.5 <= own < 1
    assert torch.allclose(seen, own * images + (1 - own) * images.flip(0), atol=1e-5)
    assert torch.allclose(targets, own * labels + (1 - own) * labels.flip(0), atol=1e-5, equal_nan=True)
    assert targets.isnan().sum() == 2  # of one unknown label and of its partner


def test_mixup_and_noise_reach_the_loss(tiny: Path) -> None:
    films = batch()
    losses = []
    for change in ("training.mixup=0.0", "training.mixup=4.0", "loss.noise=0.2"):
        one = learner(tiny, change)
        one.log = lambda *name, **how: None  # type: ignore[method-assign]
        losses.append(one.training_step(films, 0).item())
    assert len(set(losses)) == 3


def test_boxes_pull_the_maps_into_their_regions(tiny: Path) -> None:
    """Two runs that differ in nothing but the weight of the boxes."""
    images, labels = batch(4)
    regions = torch.zeros(4, 3, 32, 32)
    regions[:, 1, :8, :8] = 1
    inside = []
    for weight in (0.0, 1.0):
        one = learner(tiny, f"loss.boxes={weight}", "optimizer.lr=5e-3")
        fit(one, [[images, labels, torch.arange(4), regions]] * 20)
        one.train()
        inside.append(region_loss(one.model.class_maps(images)[1].detach(), regions).exp().reciprocal().item())
    assert inside[1] > 2 * inside[0]


def test_losses_are_read_after_some_steps_and_divergence_is_named_with_its_own(tiny: Path) -> None:
    """As on a GPU, whose losses are not waited for after each step."""
    read: list[int] = []

    class Late(Learner):
        def _read_every(self) -> int:
            return 4

        def _read_losses(self) -> None:
            read.append(len(self._unread))
            super()._read_losses()

    recipe = load_recipe(tiny, [*SIMPLE])
    late, plain = Late(build(recipe.architecture, findings=3, channels=1), recipe, steps=10), learner(tiny)
    late.load_state_dict(plain.state_dict())
    fit(late, [batch()] * 10)
    fit(plain, [batch()] * 10)
    assert read == [4, 4, 2]
    assert all(torch.equal(a, b) for a, b in zip(late.parameters(), plain.parameters(), strict=True))
    diverging = batch()
    diverging[0][0] = float("nan")
    with pytest.raises(HilumError, match="diverged after 2 steps"):
        fit(
            Late(build(recipe.architecture, findings=3, channels=1), recipe, steps=10),
            [batch(), batch(), diverging, batch()],
        )


class Steady(Learner):
    """A learner whose batch norm keeps its statistics, the one thing that sees parts of a batch."""

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


@pytest.mark.parametrize(
    "changes",
    [
        ("loss.name=w-cel",),
        ("loss.name=bce", "labels.per_finding=true", "training.mixup=0.4", "training.gradient_clip=0.1"),
        ("loss.name=bce", "architecture.dropout=0.3", "loss.boxes=0.5"),
    ],
    ids=["w-cel", "per finding", "boxes"],
)
def test_accumulated_parts_are_the_whole_batch(tiny: Path, changes: tuple[str, ...]) -> None:
    trained: list[dict[str, torch.Tensor]] = []
    losses: list[float] = []
    images, labels = batch(7)
    regions = torch.zeros(7, 3, 32, 32)
    regions[2:4, 1, :8, :8] = 1
    films = [images, labels, torch.arange(7), *([regions] if "loss.boxes=0.5" in changes else [])]
    for parts in (1, 3):
        plain = learner(tiny, *changes, "optimizer.name=sgd", "optimizer.lr=1e-2", f"training.accumulate={parts}")
        one = Steady(plain.model, plain.recipe, steps=3)
        trainer = fit(one, [films] * 3)
        losses.append(float(trainer.callback_metrics["train_loss"]))
        trained.append(dict(one.model.named_parameters()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, whole in trained[0].items():
        torch.testing.assert_close(trained[1][name], whole, atol=1e-6, rtol=1e-4, msg=name)


def test_bf16_accumulates_too(tiny: Path) -> None:
    one = learner(tiny, "training.accumulate=2")
    before = [parameter.detach().clone() for parameter in one.parameters()]
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=1,
            precision="bf16-mixed",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(one, DataLoader(cast(Any, [batch(4)] * 2), batch_size=None))
    assert all(parameter.isfinite().all() for parameter in one.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, one.parameters(), strict=True))


def test_films_are_augmented_on_the_device_by_their_seeds(tiny: Path) -> None:
    augmentation = Augmentation(rotation_deg=10, shift=0.1, contrast=0.2)
    images, labels = batch(4)
    seeds = torch.tensor([5, 6, 7, 8])
    here = [augmentation.apply(film, seed=int(seed)) for film, seed in zip(images, seeds, strict=True)]
    plain = learner(tiny)
    there = Learner(plain.model, plain.recipe, steps=1, augmentation=augmentation)
    augmented, *rest = there.on_after_batch_transfer([images, labels, seeds], 0)
    assert (augmented - torch.stack(here)).abs().max() < 1e-4
    assert rest[0] is labels
    assert there.on_after_batch_transfer([images, labels], 0)[0] is images  # those of validation
    assert plain.on_after_batch_transfer([images, labels, seeds], 0)[0] is images
