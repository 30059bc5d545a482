"""Grad-CAM and CBAM's gates against what they must be by definition."""

import pytest
import torch

from hilum.model.explain import LAST, grad_cam, spatial_gates
from hilum.nn.densenet import Attention, DenseNet


def small(attention: Attention = "cbam") -> DenseNet:
    torch.manual_seed(0)
    model = DenseNet(
        findings=3, channels=1, block_layers=(1, 1, 1, 1), growth=16, stem=16, attention=attention, reduction=4
    )
    torch.nn.init.normal_(model.classifier.bias)
    return model.eval()


def test_at_the_last_feature_map_grad_cam_is_the_class_map_up_to_bias_scale_and_sign() -> None:
    model, images = small(), torch.rand(2, 1, 96, 64)
    with torch.inference_mode():
        _, maps = model.class_maps(images)
    places = maps.shape[2] * maps.shape[3]
    expected = (maps - model.classifier.bias.detach()[:, None, None]).relu() / places
    torch.testing.assert_close(grad_cam(model, images, stage=LAST), expected)


def test_at_an_earlier_stage_it_is_the_definition() -> None:
    model, images = small(), torch.rand(1, 1, 64, 64)
    kept: list[torch.Tensor] = []

    def keep(_: object, __: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    hook = model.features.get_submodule("denseblock3").register_forward_hook(keep)
    model(images)[0, 1].backward()
    hook.remove()
    slopes = kept[0].grad
    assert slopes is not None
    expected = torch.relu((slopes.mean((2, 3), keepdim=True) * kept[0]).sum(1))[0]
    torch.testing.assert_close(grad_cam(model, images, stage="denseblock3")[0, 1], expected.detach())
    with pytest.raises(ValueError, match="stage must be one of conv0"):
        grad_cam(model, images, stage="block3")


def test_gates_are_those_that_the_network_multiplies_with() -> None:
    model, images = small(), torch.rand(2, 1, 64, 64)
    seen: list[torch.Tensor] = []
    hook = model.features.get_submodule("attention2.spatial").register_forward_hook(
        lambda _, x, y: seen.append(y / x[0])
    )
    with torch.inference_mode():
        model(images)
        gates = spatial_gates(model, images)
    hook.remove()
    assert {name: tuple(gate.shape) for name, gate in gates.items()} == {
        "attention1": (2, 8, 8),
        "attention2": (2, 4, 4),
        "attention3": (2, 2, 2),
    }
    ratio = seen[0].nanmedian(dim=1).values  # 0 / 0 where a channel is silent
    torch.testing.assert_close(gates["attention2"], ratio)


def test_only_networks_that_have_spatial_gates_have_gates() -> None:
    images = torch.rand(1, 1, 64, 64)
    assert spatial_gates(small("se"), images) == {}
    assert set(spatial_gates(small("spatial"), images)) == {"attention1", "attention2", "attention3"}
