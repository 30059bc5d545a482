"""Each operation of ONNX as torch computes it here, against ONNX Runtime."""

from typing import Any

import numpy as np
import pytest
import torch

from hilum.nn.graph import OPERATIONS, GraphNetwork, Operation

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

GENERATOR = np.random.default_rng(0)


def some(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


FILM = some(2, 3, 9, 11)
ALIKE = {"kernel_shape": (3, 3), "strides": (2, 2)}
CASES: list[tuple[str, list[np.ndarray], dict[str, Any]]] = [
    ("Add", [FILM, some(3, 1, 1)], {}),
    ("AveragePool", [FILM], {**ALIKE, "pads": (1, 1, 1, 1), "count_include_pad": 1}),
    ("AveragePool", [FILM], {**ALIKE, "ceil_mode": 1}),
    ("BatchNormalization", [FILM, some(3), some(3), some(3), np.abs(some(3))], {"epsilon": 1e-3}),
    ("Concat", [FILM, FILM], {"axis": 1}),
    ("Conv", [FILM, some(6, 1, 3, 3), some(6)], {"group": 3, "pads": (1, 0, 2, 1), "strides": (2, 1)}),
    ("Conv", [FILM, some(4, 3, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    ("Conv", [FILM, some(4, 3, 3, 3)], {"auto_pad": "SAME_LOWER", "strides": (2, 2), "dilations": (1, 1)}),
    ("Div", [FILM, some(2, 3, 1, 1)], {}),
    ("Erf", [FILM], {}),
    ("Flatten", [FILM], {}),
    ("Gelu", [FILM], {"approximate": "tanh"}),
    ("Gemm", [some(2, 5), some(4, 5), some(4)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("GlobalAveragePool", [FILM], {}),
    ("GlobalMaxPool", [FILM], {}),
    ("HardSigmoid", [FILM], {"alpha": 0.3}),
    ("HardSwish", [FILM], {}),
    ("Identity", [FILM], {}),
    ("LayerNormalization", [FILM, some(11), some(11)], {"epsilon": 1e-6}),
    ("LeakyRelu", [FILM], {"alpha": 0.2}),
    ("MatMul", [some(2, 3, 4), some(4, 5)], {}),
    ("MaxPool", [FILM], {**ALIKE, "pads": (1, 1, 1, 0)}),
    ("MaxPool", [FILM], {**ALIKE, "ceil_mode": 1}),
    ("Mul", [FILM, FILM], {}),
    ("Pow", [np.abs(FILM), np.array(2.0, np.float32)], {}),
    ("Relu", [FILM], {}),
    ("Sigmoid", [FILM], {}),
    ("Softmax", [FILM], {"axis": 1}),
    ("Sqrt", [np.abs(FILM)], {}),
    ("Sub", [FILM, some(1)], {}),
    ("Tanh", [FILM], {}),
    ("Transpose", [FILM], {"perm": (0, 2, 3, 1)}),
]
BY_INPUT: list[tuple[str, list[np.ndarray], dict[str, Any], list[np.ndarray]]] = [
    ("Clip", [FILM], {"min": 0.0, "max": 1.0}, [np.array(0.0, np.float32), np.array(1.0, np.float32)]),
    ("ReduceMean", [FILM], {"axes": (2, 3), "keepdims": 0}, [np.array([2, 3])]),
    ("Reshape", [FILM], {"shape": (0, -1, 11)}, [np.array([0, -1, 11])]),
    ("Squeeze", [some(2, 3, 1, 1)], {"axes": (2, 3)}, [np.array([2, 3])]),
    ("Unsqueeze", [some(2, 3)], {"axes": (2, 3)}, [np.array([2, 3])]),
]


def by_runtime(kind: str, inputs: list[np.ndarray], options: dict[str, Any]) -> np.ndarray:
    helper = onnx.helper
    names = [f"x{k}" for k in range(len(inputs))]
    values = [helper.np_dtype_to_tensor_dtype(one.dtype) for one in inputs]
    given = [helper.make_tensor_value_info(n, v, x.shape) for n, v, x in zip(names, values, inputs, strict=True)]
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(kind, names, ["y"], **options)], "one", given, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, dict(zip(names, inputs, strict=True)))
    return np.asarray(found)


@pytest.mark.parametrize(("kind", "inputs", "options"), CASES, ids=[f"{k}-{c[0]}" for k, c in enumerate(CASES)])
def test_an_operation_is_onnx_runtimes(kind: str, inputs: list[np.ndarray], options: dict[str, Any]) -> None:
    ours = OPERATIONS[kind]([torch.from_numpy(np.asarray(one)) for one in inputs], options)
    np.testing.assert_allclose(ours.numpy(), by_runtime(kind, inputs, options), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "inputs", "options", "more"), BY_INPUT, ids=[case[0] for case in BY_INPUT])
def test_an_operation_with_constants_is_onnx_runtimes(
    kind: str, inputs: list[np.ndarray], options: dict[str, Any], more: list[np.ndarray]
) -> None:
    ours = OPERATIONS[kind]([torch.from_numpy(one) for one in inputs], options)
    stated = {name: value for name, value in options.items() if name == "keepdims"}
    np.testing.assert_allclose(ours.numpy(), by_runtime(kind, [*inputs, *more], stated), rtol=1e-5, atol=1e-5)


def test_every_operation_is_tested() -> None:
    assert {case[0] for case in (*CASES, *BY_INPUT)} | {"Dropout"} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Operation("Loop", ("images",), "y", {}), "got Loop, which is not known"),
        (Operation("Relu", ("x",), "y", {}), "got no tensor 'x'"),
    ],
)
def test_what_it_cannot_compute_is_refused(operation: Operation, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphNetwork(
            findings=1,
            channels=1,
            size=8,
            features=1,
            operations=[operation],
            weights={},
            pixel_mean=[0.0],
            pixel_deviation=[1.0],
        )


def test_the_mean_of_a_map_is_the_logit() -> None:
    network = GraphNetwork(
        findings=2,
        channels=3,
        size=8,
        features=3,
        operations=[Operation("Relu", ("images",), "y", {})],
        weights={},
        pixel_mean=[0.5],
        pixel_deviation=[0.5],
    )
    films = torch.rand(2, 1, 8, 8)  # grey, as in an export
    logits, maps = network.class_maps(films)
    torch.testing.assert_close(logits, network(films))
    torch.testing.assert_close(maps.mean((2, 3)), logits)
    with pytest.raises(ValueError, match="must be 8 px"):
        network(torch.rand(1, 3, 9, 8))
