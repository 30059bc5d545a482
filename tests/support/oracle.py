"""Slow and obvious: every measure straight from its definition, over pairs and thresholds."""

from collections.abc import Sequence


def pairs_auroc(scores: Sequence[float], labels: Sequence[float]) -> float:
    """The share of (present, absent) pairs that are in the right order; a tie is half a pair. NaN labels left out."""
    present = [score for score, label in zip(scores, labels, strict=True) if label == 1]
    absent = [score for score, label in zip(scores, labels, strict=True) if label == 0]
    if not present or not absent:
        return float("nan")
    won = sum((high > low) + 0.5 * (high == low) for high in present for low in absent)
    return float(won / (len(present) * len(absent)))


def threshold_average_precision(scores: Sequence[float], labels: Sequence[float]) -> float:
    """The sum over thresholds of precision times gained recall. NaN labels left out."""
    known = [(score, label) for score, label in zip(scores, labels, strict=True) if label in (0, 1)]
    positives = sum(label for _, label in known)
    if not positives or positives == len(known):
        return float("nan")
    total, recall_before = 0.0, 0.0
    for threshold in sorted({score for score, _ in known}, reverse=True):
        called = [label for score, label in known if score >= threshold]
        recall = sum(called) / positives
        total += (recall - recall_before) * sum(called) / len(called)
        recall_before = recall
    return total


def pairs_placements(scores: Sequence[float], labels: Sequence[float]) -> tuple[list[float], list[float]]:
    """DeLong's placements from all pairs: of each film with the finding, then of each film without it."""
    present = [score for score, label in zip(scores, labels, strict=True) if label == 1]
    absent = [score for score, label in zip(scores, labels, strict=True) if label == 0]

    def won(high: float, low: float) -> float:
        return float(high > low) + 0.5 * float(high == low)

    of_present = [sum(won(one, other) for other in absent) / max(len(absent), 1) for one in present]
    of_absent = [sum(won(other, one) for other in present) / max(len(present), 1) for one in absent]
    return of_present, of_absent


def bins_calibration_error(scores: Sequence[float], labels: Sequence[float], bins: int) -> float:
    """Films in order of their scores, cut into equally large groups; ties go with the first of them. No NaN labels."""
    ranked = sorted(scores)
    groups: dict[int, list[tuple[float, float]]] = {}
    for score, label in zip(scores, labels, strict=True):
        groups.setdefault(ranked.index(score) * bins // len(ranked), []).append((score, label))
    distance = 0.0
    for group in groups.values():
        mean_score, present = (sum(values) / len(group) for values in zip(*group, strict=True))
        distance += len(group) * abs(mean_score - present)
    return distance / len(ranked)


def tried_threshold(
    scores: Sequence[float], labels: Sequence[float], candidates: Sequence[float], rule: str, aim: float
) -> float:
    """Every candidate, and infinity, tried as a threshold from the highest down. Both classes must be there; no NaN."""
    positives, negatives = sum(label == 1 for label in labels), sum(label == 0 for label in labels)
    best, best_sum, last_allowed = float("inf"), 1.0, float("inf")
    for threshold in [float("inf"), *sorted(set(candidates), reverse=True)]:
        called = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        sensitivity, specificity = sum(called) / positives, 1 - (len(called) - sum(called)) / negatives
        if rule == "sensitivity" and sensitivity >= aim - 1e-12:
            return threshold
        if rule == "youden" and sensitivity + specificity > best_sum + 1e-12:
            best, best_sum = threshold, sensitivity + specificity
        if rule == "specificity" and specificity >= aim - 1e-12:
            last_allowed = threshold
        if rule == "alarms" and 100 * len(called) / len(labels) <= aim + 1e-12:
            last_allowed = threshold
    return best if rule == "youden" else last_allowed
