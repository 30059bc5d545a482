import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.cbam import CbamModule, ChannelAttn, SpatialAttn
from timm.layers.squeeze_excite import SEModule

from hilum.nn.densenet import CBAM, ChannelAttention, SpatialAttention, SqueezeExcitation


def feature_map(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def channel_oracle(x: Any, squeeze: Any, excite: Any) -> Any:
    """Equation 1, film by film and channel by channel: sigmoid(W1 relu(W0 mean) + W1 relu(W0 max)) times x."""
    scaled = np.empty_like(x)
    for film in range(x.shape[0]):
        gates = np.zeros(x.shape[1])
        for pool in (np.mean, np.max):
            pooled = [pool(x[film, channel]) for channel in range(x.shape[1])]
            hidden = [max(0.0, sum(w * p for w, p in zip(row, pooled, strict=True))) for row in squeeze]
            gates += [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in excite]
        for channel, gate in enumerate(gates):
            scaled[film, channel] = x[film, channel] * sigmoid(gate)
    return scaled


def spatial_oracle(x: Any, kernel: Any) -> Any:
    """Equation 2, place by place: sigmoid(7x7 convolution over [mean; max]) times x, zeros around the map."""
    films, _, height, width = x.shape
    half = kernel.shape[-1] // 2
    scaled = np.empty_like(x)
    for film in range(films):
        pooled = np.stack([x[film].mean(0), x[film].max(0)])
        for row in range(height):
            for column in range(width):
                total = 0.0
                for down in range(-half, half + 1):
                    for across in range(-half, half + 1):
                        if 0 <= row + down < height and 0 <= column + across < width:
                            weights = kernel[:, half + down, half + across]
                            total += float(weights @ pooled[:, row + down, column + across])
                scaled[film, :, row, column] = x[film, :, row, column] * sigmoid(total)
    return scaled


def array(tensor: torch.Tensor) -> Any:
    return tensor.detach().double().numpy()


def test_channel_attention_equals_the_slow_oracle() -> None:
    attention, x = ChannelAttention(32, reduction=8), feature_map(3, 32, 5, 4)
    expected = channel_oracle(array(x), *(array(w[:, :, 0, 0]) for w in attention.parameters()))
    np.testing.assert_allclose(array(attention(x)), expected, atol=1e-6)


def test_spatial_attention_equals_the_slow_oracle() -> None:
    attention, x = SpatialAttention(), feature_map(2, 8, 9, 6)
    expected = spatial_oracle(array(x), array(attention.conv.weight[0]))
    np.testing.assert_allclose(array(attention(x)), expected, atol=1e-6)


def test_cbam_is_channel_then_spatial() -> None:
    cbam, x = CBAM(16, reduction=4), feature_map(2, 16, 7, 7)
    squeeze, excite, kernel = (array(weight) for weight in cbam.parameters())
    attended = channel_oracle(array(x), squeeze[:, :, 0, 0], excite[:, :, 0, 0])
    np.testing.assert_allclose(array(cbam(x)), spatial_oracle(attended, kernel[0]), atol=1e-6)


def test_channel_attention_equals_timm_with_the_same_weights() -> None:
    ours, theirs, x = ChannelAttention(64), ChannelAttn(64), feature_map(4, 64, 8, 8)
    theirs.load_state_dict({"fc1.weight": ours.squeeze.weight, "fc2.weight": ours.excite.weight})
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("training", [True, False])
def test_spatial_attention_equals_timm_with_the_same_weights(training: bool) -> None:
    """timm, as the CBAM authors' code, puts a batch norm behind the convolution; the equation has none."""
    ours, theirs, x = SpatialAttention(), SpatialAttn(), feature_map(4, 16, 12, 10)
    assert theirs.conv.conv.bias is None
    theirs.conv.bn = torch.nn.Identity()
    theirs.load_state_dict({"conv.conv.weight": ours.conv.weight})
    theirs.train(training)
    torch.testing.assert_close(ours(x), theirs(x))


def test_cbam_equals_timm_with_the_same_weights() -> None:
    ours, theirs, x = CBAM(32, reduction=16), CbamModule(32), feature_map(2, 32, 14, 14)
    theirs.spatial.conv.bn = torch.nn.Identity()
    names = ("channel.fc1.weight", "channel.fc2.weight", "spatial.conv.conv.weight")
    theirs.load_state_dict(dict(zip(names, ours.state_dict().values(), strict=True)))
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("plane", "expected"), [(0, 2.0), (1, 5.0)])
def test_the_mean_comes_before_the_maximum(plane: int, expected: float) -> None:
    attention = SpatialAttention(kernel=1)
    with torch.no_grad():
        attention.conv.weight.zero_()[0, plane] = 1.0
    x = torch.tensor([0.0, 1.0, 5.0]).reshape(1, 3, 1, 1)  # mean 2, maximum 5
    assert attention.gate(x).item() == pytest.approx(sigmoid(expected))


@pytest.mark.parametrize("channels", [128, 256, 512])
def test_parameters(channels: int) -> None:
    """Two matrices between C and C/16, and one 7x7 kernel over two planes; no bias anywhere."""
    cbam = CBAM(channels)
    assert sum(p.numel() for p in cbam.parameters()) == 2 * channels * (channels // 16) + 2 * 7 * 7
    assert {name.rpartition(".")[2] for name, _ in cbam.named_parameters()} == {"weight"}


@pytest.mark.parametrize("channels", [16, 48])
def test_identity_start_changes_nothing_yet(channels: int) -> None:
    x = feature_map(2, channels, 9, 9)
    assert torch.equal(CBAM(channels, identity_start=True)(x), x)


def test_identity_start_can_still_learn() -> None:
    cbam = CBAM(16, reduction=4, identity_start=True)
    cbam(feature_map(2, 16, 8, 8)).square().sum().backward()
    assert cbam.channel.excite.weight.grad is not None
    assert cbam.channel.excite.weight.grad.abs().sum() > 0
    assert cbam.spatial.conv.weight.grad is not None
    assert cbam.spatial.conv.weight.grad.abs().sum() > 0


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)), st.floats(-20, 20), st.booleans())
def test_gates_hold_back_and_films_do_not_meet(order: list[int], shift: float, identity_start: bool) -> None:
    cbam, x = CBAM(8, reduction=2, identity_start=identity_start), feature_map(4, 8, 5, 5) + shift
    with torch.no_grad():
        for weight in cbam.parameters():
            weight.copy_(feature_map(*weight.shape, seed=1))
        attended = cbam(x)
        torch.testing.assert_close(cbam(x[order]), attended[order])
    highest = 4.0 if identity_start else 1.0  # two gates of at most 2, or of at most 1
    assert (attended.abs() <= highest * x.abs() + 1e-6).all()
    assert (attended * x >= 0).all()


def test_choices_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must be a multiple of the reduction 16, got 40"):
        ChannelAttention(40)
    with pytest.raises(ValueError, match="reduction 0"):
        CBAM(16, reduction=0)
    for kernel in (6, 0, -1):
        with pytest.raises(ValueError, match=f"kernel must be odd, got {kernel}"):
            SpatialAttention(kernel=kernel)


def test_squeeze_and_excitation_equals_timm_with_the_same_weights() -> None:
    ours, theirs, x = SqueezeExcitation(64), SEModule(64, rd_channels=4, bias=False), feature_map(4, 64, 8, 8)
    theirs.load_state_dict({"fc1.weight": ours.squeeze.weight, "fc2.weight": ours.excite.weight})
    torch.testing.assert_close(ours(x), theirs(x))


def test_squeeze_and_excitation_by_hand() -> None:
    """GAP, FC to C/r, ReLU, FC to C, sigmoid; the maximum plays no part."""
    attention, x = SqueezeExcitation(4, reduction=2), feature_map(1, 4, 3, 3)
    squeeze, excite = (array(weight[:, :, 0, 0]) for weight in attention.parameters())
    hidden = np.maximum(squeeze @ array(x)[0].mean((1, 2)), 0)
    expected = array(x)[0] * np.array([sigmoid(gate) for gate in excite @ hidden])[:, None, None]
    np.testing.assert_allclose(array(attention(x))[0], expected, atol=1e-6)
    spread = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(attention(spread) / spread, attention(x) / x)


def test_squeeze_and_excitation_has_channel_attentions_parameters() -> None:
    for channels in (128, 256, 512):
        keys = [(key, value.shape) for key, value in SqueezeExcitation(channels).state_dict().items()]
        assert keys == [(key, value.shape) for key, value in ChannelAttention(channels).state_dict().items()]
        assert sum(math.prod(shape) for _, shape in keys) == 2 * channels * channels // 16
    x = feature_map(2, 16, 5, 5)
    assert torch.equal(SqueezeExcitation(16, identity_start=True)(x), x)
