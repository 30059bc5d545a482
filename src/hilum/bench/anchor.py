"""What others are measured against: torchxrayvision's DenseNet in plain eager fp32, used as its README shows."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from hilum.errors import MissingExtraError


class Anchor:
    """The network without weights, and its own road from a file to the input."""

    def __init__(self, size: int, batch: int):
        import torch

        try:
            import skimage.io
            import torchxrayvision
            from torchvision.transforms import Compose
        except ModuleNotFoundError:
            raise MissingExtraError(
                "torchxrayvision must be installed for this. Install it: pip install 'hilum[bench]'"
            ) from None
        self.torch, self.batch = torch, batch
        self._imread, self._normalize = skimage.io.imread, torchxrayvision.datasets.normalize
        crop, resize = torchxrayvision.datasets.XRayCenterCrop(), torchxrayvision.datasets.XRayResizer(size)
        self._transform = Compose([crop, resize])
        self._model = torchxrayvision.models.DenseNet(weights=None).eval()

    def read(self, path: Path) -> Any:
        """The network's input for one file."""
        grey = self._normalize(self._imread(path), 255)
        return self.torch.from_numpy(self._transform((grey.mean(2) if grey.ndim == 3 else grey)[None, ...]))

    def run(self, films: Sequence[Any]) -> Any:
        """The network's answers for some inputs."""
        with self.torch.no_grad():
            return self._model(self.torch.stack(list(films)))

    def score(self, paths: Sequence[Path]) -> Iterator[int]:
        """Read and run films for ever, a batch at a time; how many each time."""
        coming = cycle(paths)
        while True:
            self.run([self.read(path) for path in islice(coming, self.batch)])
            yield self.batch
