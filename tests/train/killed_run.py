"""A run with everything that has a state; ``python killed_run.py FOLDER [STEP]`` is killed while it saves that step."""

import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from llmlab.train import Checkpoints, EarlyStopping, optim, train_model, warmup_cosine


def run(folder=None, every=5, **options):
    """44 examples of uneven length, 4 epochs of 6 steps: dropout, noise of NumPy and Python, Adam, early stopping."""
    torch.set_num_threads(1)
    x = torch.randn(44, 6, generator=torch.Generator().manual_seed(0))
    y = torch.randint(0, 3, (44,), generator=torch.Generator().manual_seed(1))
    lengths = [random.Random(i).randint(1, 9) for i in range(44)]
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 - the global generator is the one that is saved
    random.seed(2)
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3))

    def loss_of(batch):
        noise = torch.from_numpy(np.random.normal(size=(len(batch), 6))).float()  # noqa: NPY002
        return F.cross_entropy(model(x[batch] + 0.1 * noise + 0.1 * random.random()), y[batch])

    def evaluate():
        with torch.no_grad():
            return F.cross_entropy(model(x), y).item()

    chosen = {
        "epochs": 4,
        "batch_size": 8,
        "accumulate": 2,
        "clip": 0.5,
        "schedule": partial(warmup_cosine, total=24, warmup=3),
        "evaluate": evaluate,
        "stopping": EarlyStopping(patience=2, mode="min"),
        "checkpoints": Checkpoints(folder, every=every) if folder else None,
        **options,
    }
    optimizer = optim.AdamW(model.parameters(), lr=0.03)
    history = train_model(model, loss_of, lengths, optimizer, **chosen)
    return model, history


def main(folder, step=None):
    if step is not None:
        rename = os.replace

        def killed(source, target):
            if Path(target).name == f"step-{int(step):08d}.ckpt":
                with open(source, "r+b") as half:
                    half.truncate(os.path.getsize(source) // 2)
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
            rename(source, target)

        os.replace = killed
    model, history = run(folder)
    torch.save({"weights": model.state_dict(), "losses": history.losses}, Path(folder) / "end.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
