"""Small changes to training films that leave their findings as they are."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

Image = Float[Tensor, "channels height width"]
Share = Annotated[float, Field(ge=0, lt=1)]


class Augmentation(BaseModel):
    """How far a training film may be moved; all zero is no augmentation.

    Attributes:
        rotation_deg: turned by up to this many degrees either way.
        shift: moved by up to this part of its width and height.
        scale: shrunk or grown by up to this part.
        contrast: contrast and brightness changed by up to this part.
        flip: probability of a mirror image; 0 by default, since it moves the heart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Share = 0.0
    scale: Share = 0.0
    contrast: Share = 0.0
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0

    def apply(self, image: Image, *, seed: int) -> Image:
        """The film changed as the seed says; torch's own random state is left as it was.

        Args:
            image: grey in [0, 1]; so is the result.
            seed: the same seed gives the same change.
        """
        if self == Augmentation():
            return image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.rotation_deg or self.shift or self.scale:
                image = v2.RandomAffine(
                    self.rotation_deg,
                    translate=(self.shift, self.shift),
                    scale=(1 - self.scale, 1 + self.scale),
                    interpolation=InterpolationMode.BILINEAR,
                )(image)
            if self.contrast:
                low, high = 1 - self.contrast, 1 + self.contrast
                contrast, brightness = torch.empty(2).uniform_(low, high).tolist()
                image = functional.adjust_brightness(functional.adjust_contrast(image, contrast), brightness)
            if self.flip and torch.rand(()).item() < self.flip:
                image = functional.horizontal_flip(image)
        return image
