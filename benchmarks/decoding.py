"""Films per second and core from a PNG file to grey pixels, by decoder, and the whole way to the network's input."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image, read_file

from hilum.data.images import Preprocessing, coverage, read_grey
from hilum.phantom.dataset import write_phantom


def pillow(path: Path) -> object:
    with Image.open(path) as film:
        return np.asarray(film.convert("L"))


def torchvision(path: Path) -> object:
    return decode_image(read_file(str(path)), ImageReadMode.UNCHANGED).numpy()


def opencv(path: Path) -> object:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def checked_and_resized_by_matrix(path: Path) -> object:
    pixels = read_grey(path)
    down, across = (coverage(side, 512) for side in pixels.shape)
    return (across @ (down @ pixels.astype(np.float32)).T).T / np.float32(np.iinfo(pixels.dtype).max)


WAYS: dict[str, Callable[[Path], object]] = {
    "Pillow": pillow,
    "torchvision": torchvision,
    "OpenCV": opencv,
    "hilum, checked": read_grey,
    "hilum to 512 px by matrix": checked_and_resized_by_matrix,
    "hilum to 512 px": Preprocessing(512).read,
}


def films_per_second(read: Callable[[Path], object], paths: list[Path]) -> float:
    """By the time that this thread computed, so that other work on the machine counts little."""
    start = time.thread_time()
    for path in paths:
        read(path)
    return len(paths) / (time.thread_time() - start)


def differing(paths: list[Path]) -> dict[str, int]:
    """For each decoder the films whose first channel is not what reaches the model."""
    wrong = dict.fromkeys(list(WAYS)[:3], 0)
    for path in paths:
        grey = read_grey(path)
        for name in wrong:
            pixels = np.asarray(WAYS[name](path))
            channel = pixels[..., 0] if pixels.shape[:2] == grey.shape and pixels.ndim == 3 else pixels.squeeze()
            channel = channel[0] if channel.ndim == 3 else channel
            wrong[name] += not np.array_equal(channel, grey)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="a folder of PNG films; phantom films of 1024 px if absent")
    parser.add_argument("--rounds", type=int, default=3, help="the best round counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = options.images
        if images is None:
            images = Path(folder) / "phantom" / "images"
            write_phantom(images.parent, films=32, size=1024)
        paths = sorted(images.glob("*.png"))
        best = dict.fromkeys(WAYS, 0.0)
        for _ in range(options.rounds):
            for name, read in WAYS.items():
                best[name] = max(best[name], films_per_second(read, paths))
        wrong = differing(paths)
    rows = [
        {"way": name, "films_per_second": rate, "ratio": rate / best["Pillow"], "differ": wrong.get(name)}
        for name, rate in best.items()
    ]
    if options.json:
        print(json.dumps({"rows": rows, "films": len(paths)}))
        return
    for row in rows:
        print(f"{row['way']:<28}{row['films_per_second']:7.1f} films/s and core {row['ratio']:6.2f}x")
    print(f"of {len(paths)} films, grey differs from Hilum's in: {wrong}")


if __name__ == "__main__":
    main()
