"""The yardstick of nih-small: a plain PyTorch loop, as a script of the field has it. See --help.

Torchvision's DenseNet-121 from random weights, BCE, Adam with one cycle to 1e-3, batch 16, mirror images, 224 px, bf16.
It trains on the films of the split `train` and writes its scores of the split `test`, for `hilum evaluate`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.models import densenet121

from hilum.data.films import Films, read_films
from hilum.data.images import Preprocessing
from hilum.messages import track

BATCH = 16
PEAK_LR = 1e-3


def pixels_of(films: Films, size: int) -> Tensor:
    """All films in memory, three equal channels of grey in [0, 1] in 8 bits."""
    read = Preprocessing(size, channels=3).read
    rows = track(range(len(films)), "reading films", total=len(films))
    return torch.from_numpy(np.stack([np.round(read(films.path(row)) * 255).astype(np.uint8) for row in rows]))


def trained(pixels: Tensor, labels: Tensor, *, epochs: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = densenet121(num_classes=labels.shape[1]).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_LR)
    batches = len(pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK_LR, total_steps=epochs * batches)
    for _ in track(range(epochs), "epochs of the plain loop", total=epochs):
        for rows in torch.split(torch.randperm(len(pixels))[: batches * BATCH], BATCH):
            images = pixels[rows].float() / 255
            mirrored = (torch.rand(BATCH) < 0.5)[:, None, None, None]
            images = torch.where(mirrored, images.flip(3), images).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(images)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=Path, required=True, help="a split manifest")
    parser.add_argument("--out", type=Path, required=True, help="predictions.csv of the test films")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    films = read_films(options.films)
    seen, unseen = films.select("train"), films.select("test")
    started = time.perf_counter()
    model = trained(
        pixels_of(seen, options.size), torch.from_numpy(seen.all_labels), epochs=options.epochs, seed=options.seed
    )
    minutes = (time.perf_counter() - started) / 60
    with torch.inference_mode():
        parts = [model(part.float() / 255).sigmoid() for part in torch.split(pixels_of(unseen, options.size), BATCH)]
    table = pd.DataFrame(torch.cat(parts).numpy(), columns=list(films.findings))
    table.insert(0, "film", unseen.table["film"].to_numpy())
    table.to_csv(options.out, index=False)
    print(f"{minutes:.1f} minutes for {len(seen):,} films x {options.epochs} epochs; {options.out}")


if __name__ == "__main__":
    main()
