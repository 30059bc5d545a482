"""Several networks as one, and several views of a film as one: test-time augmentation."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hilum.nn.classifier import Classifier, ClassMaps, Images, Logits, overlap

Average = Literal["logits", "scores"]
View = Literal["plain", "mirror", "left", "right", "up", "down"]

SHIFT = 1 / 32
"""By which part of its side a view is moved."""


class Member(NamedTuple):
    """One network of an ensemble.

    Attributes:
        model: the network.
        size: height and width of its films in pixels, at most the ensemble's.
        channels: of its films.
        rows: which of its outputs are the ensemble's findings, in their order.
        shown: its class maps are the ensemble's; what others add to a logit is spread evenly over the film.
    """

    model: Classifier
    size: int
    channels: int
    rows: tuple[int, ...]
    shown: bool = True


class Ensemble(Classifier):
    """The mean of several networks, over one or more views of a film.

    Each member's logits are first brought onto one scale by its own calibration (a slope and an intercept per finding,
    among the weights). Then logits are averaged, or scores, whose mean becomes a logit again. A film comes at the
    largest member's size; smaller members see its exact area mean. Maps are averaged on the finest grid, area by area,
    so that their mean stays the logit; what views and averaged scores take from it is added evenly.

    Args:
        members: the networks.
        size: height and width of the films in pixels.
        average: what is averaged.
        views: of each film; `mirror` is for networks that were trained on mirrored films.

    Raises:
        ValueError: if there is no member, none is shown, or one is larger than the films.
    """

    stem_key = "none"
    fresh: tuple[str, ...] = ()
    slopes: Float[Tensor, "members findings"]
    intercepts: Float[Tensor, "members findings"]

    def __init__(
        self, members: Sequence[Member], *, size: int, average: Average = "logits", views: Sequence[View] = ("plain",)
    ):
        super().__init__()
        if not members or not views or any(member.size > size for member in members):
            raise ValueError(f"ensemble must have members of at most {size} px and a view, got {len(members)} members")
        if not any(member.shown for member in members):
            raise ValueError("ensemble must have a member whose class maps are shown")
        self.minimum_size = self.size = size
        self.shown = [member.shown for member in members]
        self.average, self.views = average, tuple(views)
        self.members = nn.ModuleList(member.model for member in members)
        self.sizes, self.channels = [member.size for member in members], [member.channels for member in members]
        self.rows = [list(member.rows) for member in members]
        findings = len(self.rows[0])
        self.register_buffer("slopes", torch.ones(len(members), findings))
        self.register_buffer("intercepts", torch.zeros(len(members), findings))

    def forward(self, images: Images) -> Logits:
        """Logits, before the sigmoid."""
        return self.class_maps(images)[0]

    def class_maps(self, images: Images) -> tuple[Logits, ClassMaps]:
        """Logits, and for each finding a map whose mean over the film is its logit."""
        if images.shape[2:] != (self.size, self.size):
            height, width = images.shape[2:]
            raise ValueError(f"images must be {self.size} px high and wide for this ensemble, got {height} x {width}")
        logits, maps = [], []
        for number, size in enumerate(self.sizes):
            slope, intercept = self.slopes[number], self.intercepts[number]
            film = images[:, :1]
            if size != self.size:
                share = overlap(self.size, size).to(film)
                film = share @ film @ share.T
            for view in self.views:
                seen = _viewed(film, view).expand(-1, self.channels[number], -1, -1)
                member = cast(Classifier, self.members[number])
                if not self.shown[number]:
                    logits.append(slope * member(seen.contiguous())[:, self.rows[number]] + intercept)
                    continue
                said, places = member.class_maps(seen.contiguous())
                logits.append(slope * said[:, self.rows[number]] + intercept)
                placed = _back(places[:, self.rows[number]], view)
                maps.append(slope[:, None, None] * placed + intercept[:, None, None])
        rows, columns = (max(one.shape[axis] for one in maps) for axis in (2, 3))
        fine = [overlap(one.shape[2], rows).to(one) @ one @ overlap(one.shape[3], columns).to(one).T for one in maps]
        merged = torch.stack(fine).mean(0)
        together = torch.stack(logits)
        if self.average == "scores":
            score = together.sigmoid().mean(0)
            final = (score / (1 - score)).log()
        else:
            final = together.mean(0)
        return final, merged + (final - merged.mean((2, 3)))[:, :, None, None]

    def own_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        """The keys as they are: only its own weights fit."""
        return dict(state)

    def fold_to_grey(self) -> None:
        """Every member sees one channel."""
        for member in self.members:
            cast(Classifier, member).fold_to_grey()
        self.channels = [1] * len(self.members)


def _moved(view: View) -> tuple[float, float]:
    """How far down and across a view is moved, in parts of its sides."""
    return {"up": (-SHIFT, 0.0), "down": (SHIFT, 0.0), "left": (0.0, -SHIFT), "right": (0.0, SHIFT)}.get(
        view, (0.0, 0.0)
    )


def _viewed(film: Float[Tensor, "batch 1 size size"], view: View) -> Float[Tensor, "batch 1 size size"]:
    if view == "mirror":
        return film.flip(3)
    down, across = (round(part * film.shape[2]) for part in _moved(view))
    if not down and not across:
        return film
    size = film.shape[2]
    padded = functional.pad(film, [max(across, 0), max(-across, 0), max(down, 0), max(-down, 0)], mode="replicate")
    return padded[:, :, max(-down, 0) : max(-down, 0) + size, max(-across, 0) : max(-across, 0) + size]


def _back(
    maps: Float[Tensor, "batch findings rows columns"], view: View
) -> Float[Tensor, "batch findings rows columns"]:
    """A view's maps where they belong on the film."""
    if view == "mirror":
        return maps.flip(3)
    down, across = _moved(view)
    if not down and not across:
        return maps
    return _shift(maps.shape[2], down).to(maps) @ maps @ _shift(maps.shape[3], across).to(maps).T


def _shift(places: int, by: float) -> Float[Tensor, "places places"]:
    """Read each place of a map where the view had moved it, between the two nearest; beyond the edge, the edge."""
    positions = [min(max(place + by * places, 0.0), places - 1.0) for place in range(places)]
    return torch.tensor([[max(0.0, 1 - abs(position - old)) for old in range(places)] for position in positions])
