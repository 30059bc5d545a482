"""INT8 by NNCF's post-training quantisation, kept only if it costs almost nothing on validation films."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.messages import track
from hilum.metrics.ranking import auroc_per_finding
from hilum.model.bundle import Bundle
from hilum.model.engines import OUTPUTS, behind_resize, compile_options, import_extra

MEAN_MAY_LOSE, FINDING_MAY_LOSE = 0.002, 0.01
"""AUC, against fp32 on the same films."""

_FILMS_FOR_RANGES = 300
_FILMS_FOR_RANKING = 32
SEARCH_MINUTES = 30.0
_MOST_LAYERS_KEPT = 40

Logits = Float32[np.ndarray, "films findings"]
ResizedFilm = Float32[np.ndarray, "1 size size"]


@dataclass(frozen=True)
class Accuracy:
    """What the quantisation cost, as export.json records it.

    Attributes:
        films: validation films that it was evaluated on.
        mean_change: of the mean AUC over the findings that have one; negative is a loss.
        worst_change: of the finding that lost most.
        findings: per finding its AUC in fp32 and in INT8, and its positive films; one without an AUC is left out.
        kept: layers that stayed in higher precision because quantising them hurt.
        accepted_loss: whether the user asked to keep a model that lost more than it may.
    """

    films: int
    mean_change: float
    worst_change: float
    findings: dict[str, dict[str, float | int]]
    kept: tuple[str, ...] = ()
    accepted_loss: bool = False

    @property
    def good(self) -> bool:
        """Whether the mean and every finding stayed within what they may lose."""
        return self.mean_change >= -MEAN_MAY_LOSE and self.worst_change >= -FINDING_MAY_LOSE

    def __str__(self) -> str:
        worst = min(self.findings, key=lambda name: self.findings[name]["int8"] - self.findings[name]["fp32"])
        figures = self.findings[worst]
        return (
            f"the mean AUC changed by {self.mean_change:+.4f} (it may lose {MEAN_MAY_LOSE}), that of {worst} from "
            f"{figures['fp32']:.4f} to {figures['int8']:.4f} (a finding may lose {FINDING_MAY_LOSE}) on {self.films:,} "
            f"validation films, {figures['positives']:,} of them with {worst}"
        )


def quantise(
    model: Any,
    bundle: Bundle,
    films: Films,
    *,
    gates: set[str],
    accept_loss: bool,
    search: bool = True,
    say: Callable[[str], None],
) -> tuple[Any, dict[str, Any]]:
    """An exported OpenVINO model in INT8, and what that cost, as export.json records it.

    All layers are quantised first but the attention's gates and the first convolution, whose input is the film: eight
    bits are too few for what is faint there. If that costs too much, NNCF ranks the layers by what they do to the
    logits and puts the worst back into higher precision, until the cost is small enough or half an hour is over.

    Args:
        model: the fp32 model, which is used up.
        films: `train` to learn the ranges from, `val` to evaluate on.
        gates: names of the operations that make attention's gates.
        accept_loss: return what lost least even if that is too much.
        search: look for layers to keep in higher precision if the cost is too high.
        say: gets what a user must be told.

    Raises:
        HilumError: if the cost is too high and not accepted, or the films cannot tell.
    """
    openvino, nncf = import_extra("openvino"), import_extra("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)  # it would report every layer
    resized = model.output("film").get_node().input_value(0)
    network = behind_resize(model, [-1, bundle.preprocessing.size, bundle.preprocessing.size])
    films = films.of_views(bundle.recipe.views)
    judge = _Judge(network, bundle, films.select("val"))
    ranges = nncf.Dataset(_Films(bundle, films.select("train"), most=_FILMS_FOR_RANGES))
    alone = {*gates, _layer(_convolutions(network)[0])}
    names = sorted(node.get_friendly_name() for node in network.get_ops() if _layer(node) in alone)
    ignored = nncf.IgnoredScope(names=names)
    quantised = nncf.quantize(
        network,
        ranges,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=_FILMS_FOR_RANGES,
        ignored_scope=ignored,
        advanced_parameters=_ranges_from_extremes(),
    )
    accuracy = judge.accuracy(quantised)
    if search and not accuracy.good:
        say(f"INT8 costs too much: {accuracy}. Looking for layers to keep in higher precision")
        better = _search(network, ranges, judge, ignored)
        second = accuracy if better is None else replace(judge.accuracy(better), kept=_kept(better, alone))
        if second.good or second.mean_change > accuracy.mean_change:
            quantised, accuracy = better, second
    if not accuracy.good and not accept_loss:
        raise HilumError(
            f"INT8 must keep the accuracy of fp32, but {accuracy}. Use --precision bf16 or fp32, give more films, or "
            "keep it all the same with --accept-loss"
        )
    accuracy = replace(accuracy, accepted_loss=not accuracy.good)
    say(f"INT8: {accuracy}" + (". THIS LOSS WAS ACCEPTED" if accuracy.accepted_loss else ""))
    for target in quantised.input(0).get_target_inputs():
        target.replace_source_output(resized)
    results = [*(quantised.output(name).get_node() for name in OUTPUTS), model.output("film").get_node()]
    return openvino.Model(results, model.get_parameters(), "hilum"), asdict(accuracy)


class _Films:
    """Films as the network sees them, read anew each time, so that memory stays small.

    Args:
        most: how many to take, spread over all; None for all.
    """

    def __init__(self, bundle: Bundle, films: Films, *, most: int | None):
        self.films, self.preprocessing = films, bundle.preprocessing
        count = min(len(films), most or len(films))
        self.rows = np.unique(np.linspace(0, len(films) - 1, count).round().astype(int))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ResizedFilm]:
        for row in self.rows:
            yield self.preprocessing.read(self.films.path(int(row)))[:1]


class _Judge:
    """What a network's logits are worth on validation films, against those of the exact one.

    Args:
        exact: the network in fp32.

    Raises:
        HilumError: if the films lack labels for one of the model's findings.
    """

    def __init__(self, exact: Any, bundle: Bundle, films: Films):
        missing = [name for name in bundle.findings if name not in films.findings]
        if missing:
            raise HilumError(f"films must have labels for all findings of the model, but lack {', '.join(missing)}")
        self.films, self.findings = _Films(bundle, films, most=None), bundle.findings
        self.truth = films.all_labels[:, [films.findings.index(name) for name in bundle.findings]]
        self.size = bundle.preprocessing.size
        self.exact = self._logits(exact, "evaluating fp32")

    def accuracy(self, network: Any) -> Accuracy:
        """What a network lost."""
        return self.accuracy_of(self._logits(network, "evaluating INT8"))

    def accuracy_of(self, logits: Logits) -> Accuracy:
        """What the logits lost."""
        return accuracy_of(logits, self.exact, self.truth, self.findings)

    def _logits(self, network: Any, what: str) -> Logits:
        openvino = import_extra("openvino")
        still = network.clone()
        still.reshape([1, self.size, self.size])  # as the engine does
        compiled = openvino.Core().compile_model(still, "CPU", compile_options("int8", many=True))
        queue = openvino.AsyncInferQueue(compiled)
        logits = np.full(self.truth.shape, np.nan, dtype=np.float32)

        def keep(request: Any, row: int) -> None:
            logits[row] = request.get_tensor("logits").data[0]

        queue.set_callback(keep)
        for row, film in enumerate(track(self.films, what, total=len(self.films))):
            queue.start_async({0: film}, row)
        queue.wait_all()
        return logits


def accuracy_of(logits: Logits, exact: Logits, truth: Logits, findings: tuple[str, ...]) -> Accuracy:
    """What the AUC lost from the exact logits to the others.

    Raises:
        HilumError: if no finding has films with and films without it, or a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise HilumError("logits must be finite, but INT8 gave others. Use --precision bf16 or fp32")
    before, after = auroc_per_finding(exact, truth), auroc_per_finding(logits, truth)
    known = np.flatnonzero(np.isfinite(before))
    if not len(known):
        raise HilumError("validation films must be with and without a finding, but none of the findings has both")
    change = (after - before)[known]
    positives = (truth == 1).sum(axis=0)
    return Accuracy(
        films=len(truth),
        mean_change=float(change.mean()),
        worst_change=float(change.min()),
        findings={
            findings[k]: {"fp32": float(before[k]), "int8": float(after[k]), "positives": int(positives[k])}
            for k in known
        },
    )


class _OutOfTimeError(Exception):
    """The search for layers to keep has taken as long as it may."""


def _search(network: Any, ranges: Any, judge: _Judge, ignored: Any) -> Any | None:
    """NNCF's accuracy control: the network with some layers in higher precision; None if time ran out."""
    nncf = import_extra("nncf")
    end = time.monotonic() + 60 * SEARCH_MINUTES

    def margin(compiled: Any, films: Iterable[ResizedFilm]) -> tuple[float, list[list[np.ndarray]]]:
        """1 for the exact network, 0 for one that is just good enough."""
        if time.monotonic() > end:
            raise _OutOfTimeError
        logits = [[compiled(film)["logits"]] for film in films]
        if len(logits) < len(judge.truth):  # NNCF tries the function on one film first
            return 0.0, logits
        found = judge.accuracy_of(np.concatenate([one for (one,) in logits]))
        return 1 + min(found.mean_change / MEAN_MAY_LOSE, found.worst_change / FINDING_MAY_LOSE), logits

    try:
        return nncf.quantize_with_accuracy_control(
            network,
            ranges,
            nncf.Dataset(judge.films),
            margin,
            max_drop=1.0,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=_FILMS_FOR_RANGES,
            ignored_scope=ignored,
            advanced_quantization_parameters=_ranges_from_extremes(),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=_MOST_LAYERS_KEPT, ranking_subset_size=min(_FILMS_FOR_RANKING, len(judge.films))
            ),
        )
    except _OutOfTimeError:
        return None


def _ranges_from_extremes() -> Any:
    """Ranges of activations from the smallest to the largest value seen: half the error of NNCF's mean of extremes."""
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return import_extra("nncf").AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )


def _layer(node: Any) -> str:
    """The name that an operation has in the ONNX model."""
    return str(node.get_friendly_name()).split("/")[0]


def _convolutions(network: Any) -> list[Any]:
    return [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]


def _kept(quantised: Any, alone: set[str]) -> tuple[str, ...]:
    """The convolutions whose weights were put back into higher precision."""
    exact = [node for node in _convolutions(quantised) if node.input_value(1).get_node().get_type_name() == "Constant"]
    return tuple(_layer(node) for node in exact if _layer(node) not in alone)
