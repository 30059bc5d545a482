"""The page's gallery: films with true boxes, the heatmap and what it points at."""

from typing import Any

from hilum.report.words import words


def gallery_view(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Hits, then misses: each a heading and its pictures, with places in pixels of the picture."""
    groups = (("Hits: the strongest place lies in a true box", True), ("Misses: it lies outside", False))
    return [
        {"title": title, "films": films}
        for title, hit in groups
        if (films := [_film(one) for one in report["gallery"] if one["hit"] is hit])
    ]


def _film(one: dict[str, Any]) -> dict[str, Any]:
    width, height = one["width"], one["height"]

    def pixels(box: list[float]) -> list[float]:
        return [side * (height if i % 2 else width) for i, side in enumerate(box)]

    finding = words(one["finding"])
    return {
        **one,
        "finding": finding,
        "point": one["point"] and pixels(one["point"]),
        "drawn": one["drawn"] and pixels(one["drawn"]),
        "boxes": [pixels(box) for box in one["boxes"]],
        "label": (
            f"Film {one['film']} with its heatmap for {finding}: the strongest place "
            + ("lies inside" if one["hit"] else "lies outside" if one["point"] else "does not exist, outside")
            + (" the true box." if len(one["boxes"]) == 1 else " the true boxes.")
        ),
    }
