import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hilum.recipe import Loss
from hilum.training.losses import (
    bce_loss,
    class_weighted_bce_loss,
    counts_of,
    focal_loss,
    loss_of,
    mean_per_finding,
    region_loss,
    weighted_bce_loss,
    weighted_cross_entropy_loss,
)

NAN = float("nan")
LOGIT = st.floats(-60, 60)
LABEL = st.sampled_from([0.0, 1.0, NAN])
ENTRIES = st.lists(st.tuples(LOGIT, LABEL), min_size=1, max_size=20)


def softplus(x: float) -> float:
    """log(1 + exp(x)), without overflow or loss."""
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def oracle(entries: Sequence[tuple[float, float]], *, gamma: float, alpha: float | None) -> float:
    """Equation 4 (3 without alpha), label by label: minus balance times (1 - p_t)^gamma times log p_t."""
    losses = []
    for logit, label in entries:
        if math.isnan(label):
            continue
        towards = logit if label == 1 else -logit
        minus_log_p = softplus(-towards)
        one_minus_p = math.exp(-softplus(towards))
        balance = 1.0 if alpha is None else alpha if label == 1 else 1 - alpha
        losses.append(balance * one_minus_p**gamma * minus_log_p)
    return math.fsum(losses) / len(losses) if losses else 0.0


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (slopes,) = torch.autograd.grad(loss, logits)
    return slopes.flatten()


def tensors(entries: Sequence[tuple[float, float]], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The entries as one column of logits and one of labels."""
    both = torch.tensor(entries, dtype=dtype)
    return both[:, :1].clone().requires_grad_(), both[:, 1:].clone()


@settings(max_examples=100, deadline=None)
@given(ENTRIES)
def test_bce_equals_the_oracle(entries: list[tuple[float, float]]) -> None:
    assert bce_loss(*tensors(entries)).item() == pytest.approx(oracle(entries, gamma=0.0, alpha=None), rel=1e-12)


@settings(max_examples=200, deadline=None)
@given(ENTRIES, st.sampled_from([0.0, 1.0, 1.5, 2.0, 5.0]), st.floats(0.01, 0.99))
def test_focal_equals_the_oracle(entries: list[tuple[float, float]], gamma: float, alpha: float) -> None:
    ours = focal_loss(*tensors(entries), gamma=gamma, alpha=alpha).item()
    assert ours == pytest.approx(oracle(entries, gamma=gamma, alpha=alpha), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_fp32_keeps_its_precision_where_the_network_is_sure(label: float) -> None:
    """torch's own binary cross-entropy with logits is 0 for an absent finding at a logit of -15."""
    for size in (5.0, 10.0, 15.0, 20.0, 40.0):
        entries = [(size if label else -size, label)]
        logits, labels = tensors(entries, torch.float32)
        exact = oracle(entries, gamma=0.0, alpha=None)
        assert bce_loss(logits, labels).item() == pytest.approx(exact, rel=1e-6)
        focal = focal_loss(logits, labels, gamma=1.0, alpha=0.5)
        assert focal.item() == pytest.approx(oracle(entries, gamma=1.0, alpha=0.5), rel=2e-6)


def test_bce_equals_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = (
        torch.randn(50, 14, generator=generator),
        torch.randint(0, 2, (50, 14), generator=generator).float(),
    )
    torch.testing.assert_close(bce_loss(logits, labels), F.binary_cross_entropy_with_logits(logits, labels))


def test_golden_values() -> None:
    """At a logit of 0, p is one half: cross-entropy ln 2, focal loss ln 2 times the balance over 4."""
    logits, labels = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    assert bce_loss(logits, labels).item() == pytest.approx(math.log(2))
    assert focal_loss(logits[:, :1], labels[:, :1], gamma=2.0, alpha=0.25).item() == pytest.approx(math.log(2) / 16)
    assert focal_loss(logits[:, 1:], labels[:, 1:], gamma=2.0, alpha=0.25).item() == pytest.approx(3 * math.log(2) / 16)
    assert weighted_bce_loss(logits, labels, alpha=0.3).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(
    ("logit", "label", "wrong"), [(200, 0, True), (-200, 1, True), (200, 1, False), (-200, 0, False)]
)
def test_saturated_logits(dtype: torch.dtype, gamma: float, logit: float, label: float, wrong: bool) -> None:
    """Surely wrong costs 200 times its weight with slope 1 times its weight; surely right costs and pulls nothing."""
    weight = 0.25 if label else 0.75
    logits, labels = tensors([(logit, label)], dtype)
    for value, balance in (
        (bce_loss(logits, labels), 1.0),
        (focal_loss(logits, labels, gamma=gamma, alpha=0.25), weight),
    ):
        slope = gradient(value, logits).item()
        if wrong:
            assert (value.item(), slope) == (200 * balance, balance * math.copysign(1, logit))
        else:
            assert 0 <= value.item() < 1e-80
            assert abs(slope) < 1e-80


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), LABEL), min_size=1), st.sampled_from([0.0, 1.0, 1.5, 2.0]))
def test_gradients_are_finite_whatever_the_logits(entries: list[tuple[float, float]], gamma: float) -> None:
    logits, labels = tensors(entries, torch.float32)
    loss = focal_loss(logits, labels, gamma=gamma, alpha=0.25) + bce_loss(logits, labels)
    assert gradient(loss, logits).isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0, 3.0])
def test_gradients_are_those_of_the_values(gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(5, 4, dtype=torch.float64, generator=generator)).requires_grad_()
    labels = torch.randint(0, 2, (5, 4), generator=generator).double()
    labels[0, 1] = labels[3, 3] = NAN
    for loss in (lambda x: focal_loss(x, labels, gamma=gamma, alpha=0.25), lambda x: bce_loss(x, labels)):
        assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize("extreme", [0.0, 200.0, -200.0])
def test_unknown_labels_weigh_nothing(extreme: float) -> None:
    known = [(0.3, 1.0), (-1.2, 0.0), (2.0, 0.0)]
    for gamma in (0.0, 2.0):
        logits, labels = tensors([*known, (extreme, NAN)])
        with_unknown = focal_loss(logits, labels, gamma=gamma, alpha=0.25)
        alone, alone_labels = tensors(known)
        without = focal_loss(alone, alone_labels, gamma=gamma, alpha=0.25)
        assert with_unknown.item() == without.item()
        assert gradient(with_unknown, logits).tolist() == [*gradient(without, alone).tolist(), 0.0]


def test_no_known_label_is_zero_with_no_gradient() -> None:
    for gamma in (None, 0.0, 2.0):
        logits, labels = tensors([(3.0, NAN), (-200.0, NAN)])
        loss = bce_loss(logits, labels) if gamma is None else focal_loss(logits, labels, gamma=gamma, alpha=0.5)
        assert loss.item() == 0
        assert gradient(loss, logits).tolist() == [0, 0]


@settings(max_examples=50, deadline=None)
@given(ENTRIES, st.floats(0.01, 0.99))
def test_gamma_0_is_weighted_cross_entropy(entries: list[tuple[float, float]], alpha: float) -> None:
    logits, labels = tensors(entries)
    weighted = weighted_bce_loss(logits, labels, alpha=alpha)
    assert torch.equal(weighted, focal_loss(logits, labels, gamma=0.0, alpha=alpha))
    assert weighted.item() == pytest.approx(oracle(entries, gamma=0.0, alpha=alpha), rel=1e-12)
    if alpha == 0.5:
        assert 2 * weighted.item() == pytest.approx(bce_loss(logits, labels).item())


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_order_of_films_and_findings_does_not_matter(data: st.DataObject) -> None:
    films, findings = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    cells = st.lists(st.tuples(LOGIT, LABEL), min_size=films * findings, max_size=films * findings)
    both = torch.tensor(data.draw(cells), dtype=torch.float64).reshape(films, findings, 2)
    rows, columns = data.draw(st.permutations(range(films))), data.draw(st.permutations(range(findings)))
    moved = both[rows][:, columns]
    for gamma in (0.0, 2.0):
        before = focal_loss(both[..., 0], both[..., 1], gamma=gamma, alpha=0.25)
        torch.testing.assert_close(focal_loss(moved[..., 0], moved[..., 1], gamma=gamma, alpha=0.25), before)
    torch.testing.assert_close(bce_loss(moved[..., 0], moved[..., 1]), bce_loss(both[..., 0], both[..., 1]))


@settings(max_examples=50, deadline=None)
@given(LOGIT, LOGIT, st.sampled_from([0.0, 1.0, 2.0]))
def test_a_higher_logit_never_costs_more_if_the_finding_is_there(first: float, second: float, gamma: float) -> None:
    low, high = sorted((first, second))

    def loss(logit: float, label: float) -> float:
        return focal_loss(*tensors([(logit, label)]), gamma=gamma, alpha=0.25).item()

    assert loss(high, 1.0) <= loss(low, 1.0)
    assert loss(low, 0.0) <= loss(high, 0.0)


@pytest.mark.parametrize("gamma", [0.5, 1e-9, 0.999, -1.0, -0.5, NAN])
def test_gammas_without_a_finite_gradient_are_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma must be 0 or at least 1, got"):
        focal_loss(*tensors([(0.0, 1.0)]), gamma=gamma, alpha=0.25)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, NAN])
def test_alphas_outside_0_to_1_are_refused(alpha: float) -> None:
    logits, labels = tensors([(0.0, 1.0)])
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got"):
        focal_loss(logits, labels, gamma=2.0, alpha=alpha)
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got"):
        weighted_bce_loss(logits, labels, alpha=alpha)


def w_cel_oracle(entries: Sequence[tuple[float, float]]) -> float:
    """Wang 2017, equation 1, label by label, divided by the number of known labels."""
    known = [(logit, label) for logit, label in entries if not math.isnan(label)]
    present = sum(label == 1 for _, label in known)
    absent = len(known) - present
    total = 0.0
    for logit, label in known:
        if label == 1:
            total += (present + absent) / present * softplus(-logit)
        else:
            total += (present + absent) / absent * softplus(logit)
    return total / len(known) if known else 0.0


@settings(max_examples=150, deadline=None)
@given(ENTRIES)
def test_w_cel_equals_the_oracle(entries: list[tuple[float, float]]) -> None:
    assert weighted_cross_entropy_loss(*tensors(entries)).item() == pytest.approx(w_cel_oracle(entries), rel=1e-12)


def test_w_cel_golden_values() -> None:
    """At a logit of 0 every label costs ln 2, and each kind weighs one: 2 ln 2; the batch counts as a whole."""
    logits = torch.zeros(2, 3)
    labels = torch.tensor([[1.0, 0, 0], [NAN, 0, 0]])
    assert weighted_cross_entropy_loss(logits, labels).item() == pytest.approx(2 * math.log(2))
    logits[0, 0] = 3.0  # b_P = 5, b_N = 5/4
    by_hand = (5 * softplus(-3) + 5 / 4 * 4 * math.log(2)) / 5
    assert weighted_cross_entropy_loss(logits, labels).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_w_cel_of_a_batch_with_one_class_is_plain_cross_entropy(label: float) -> None:
    logits, labels = tensors([(0.3, label), (-2.0, label), (50.0, NAN)])
    loss = weighted_cross_entropy_loss(logits, labels)
    assert loss.item() == pytest.approx(bce_loss(logits, labels).item())
    slopes = gradient(loss, logits)
    assert slopes.isfinite().all()
    assert slopes[2] == 0


def test_w_cel_of_no_known_label_is_zero_with_no_gradient() -> None:
    logits, labels = tensors([(3.0, NAN), (-200.0, NAN)])
    loss = weighted_cross_entropy_loss(logits, labels)
    assert (loss.item(), gradient(loss, logits).tolist()) == (0, [0, 0])


def test_w_cel_gradients_are_those_of_the_values() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(5, 4, dtype=torch.float64, generator=generator)).requires_grad_()
    labels = torch.randint(0, 2, (5, 4), generator=generator).double()
    labels[0, 1] = NAN
    assert torch.autograd.gradcheck(lambda x: weighted_cross_entropy_loss(x, labels), logits)
    extreme = torch.tensor([[1e4, -1e4]], requires_grad=True)
    assert gradient(weighted_cross_entropy_loss(extreme, torch.tensor([[0.0, 1.0]])), extreme).tolist() == [1, -1]


def test_class_weights_by_hand_and_by_finding() -> None:
    """At a logit of 0: ln 2 over the prevalence, or over the rest."""
    logits, labels = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, NAN]])
    loss = class_weighted_bce_loss(logits, labels, prevalence=torch.tensor([0.1, 0.2, 0.3]))
    assert loss.item() == pytest.approx(math.log(2) * (1 / 0.1 + 1 / 0.8) / 2)
    half = class_weighted_bce_loss(logits, labels, prevalence=torch.full((3,), 0.5))
    assert half.item() == pytest.approx(2 * bce_loss(logits, labels).item())


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, NAN])
def test_prevalences_outside_0_to_1_are_refused(prevalence: float) -> None:
    with pytest.raises(ValueError, match="prevalence must be between 0 and 1, got"):
        class_weighted_bce_loss(torch.zeros(1, 1), torch.ones(1, 1), prevalence=torch.tensor([prevalence]))


def test_the_mean_per_finding_gives_rarely_labelled_findings_their_weight() -> None:
    logits = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.7, 2.0]])
    labels = torch.tensor([[1.0, math.nan], [0.0, math.nan], [1.0, 0.0]])
    loss = Loss(name="bce")
    columns = [loss_of(logits[:, place : place + 1], labels[:, place : place + 1], loss) for place in (0, 1)]
    torch.testing.assert_close(mean_per_finding(logits, labels, loss), (columns[0] + columns[1]) / 2)
    labels[:, 1] = math.nan
    torch.testing.assert_close(mean_per_finding(logits, labels, loss), columns[0])
    labels[:] = math.nan
    assert mean_per_finding(logits, labels, loss) == 0


@pytest.mark.parametrize("name", ["bce", "focal", "w-cel", "class-weighted-bce"])
def test_losses_of_a_batchs_parts_add_up_to_its_own(name: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    labels = (torch.rand(7, 3, dtype=torch.float64, generator=generator) < 0.4).double()
    labels[:4, 1] = labels[5] = float("nan")  # the last part knows nothing
    prevalence, loss = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), Loss(name=name)
    parts = [slice(0, 5), slice(5, 6), slice(6, 7)]
    whole = torch.stack([counts_of(labels[part]) for part in parts]).sum(0)
    added = sum(loss_of(logits[part], labels[part], loss, prevalence, whole=whole) for part in parts)
    torch.testing.assert_close(added, loss_of(logits, labels, loss, prevalence))


def test_region_loss_is_minus_the_log_of_the_part_inside() -> None:
    maps = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    regions = torch.zeros(3, 2, 8, 8)
    regions[0, 1, 2:4, 0:6] = 1  # one row of three places
    regions[2, 0, 6:8, 6:8] = 0.5  # half of the last place, which then counts as a whole one
    shares = maps.flatten(2).softmax(2).reshape(maps.shape)
    expected = -(shares[0, 1, 1, :3].sum().log() + shares[2, 0, 3, 3].log()) / 2
    assert region_loss(maps, regions).item() == pytest.approx(expected.item(), rel=1e-5)
    assert region_loss(maps + 7, regions).item() == pytest.approx(expected.item(), rel=1e-5)
    half = region_loss(maps[:1], regions[:1], whole=torch.tensor(2.0)) + region_loss(
        maps[1:], regions[1:], whole=torch.tensor(2.0)
    )
    assert half.item() == pytest.approx(expected.item(), rel=1e-5)


def test_region_loss_without_a_region_is_zero_with_no_gradient() -> None:
    maps = torch.randn(2, 2, 4, 4, requires_grad=True)
    loss = region_loss(maps, torch.zeros(2, 2, 8, 8))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert maps.grad is None or not maps.grad.any()
