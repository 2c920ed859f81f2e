"""How far back can it learn to look? One letter among digits: RNN, LSTM, a state space model and attention, one size.

``python -m llmlab.recipes recall`` writes ``recall.json``. Each kind is trained with the letter at one distance, 8 to
64 tokens before the question (two seeds), and once with a distance drawn from 1 to 63 (one seed); then it is asked.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from typing import get_args

import torch
import torch.nn.functional as F

from llmlab import runtime
from llmlab.models.recall import Kind, Recall, recall_batch

__all__ = ["ASKED", "DISTANCES", "Recipe", "accuracy", "main", "train"]

DISTANCES = (8, 16, 32, 64)
ASKED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand."""

    steps: int = 300
    mixed_steps: int = 400
    batch_size: int = 64
    lr: float = 3e-3
    seeds: tuple[int, ...] = (0, 1)


def train(kind: Kind, distance: int | None, seed: int, recipe: Recipe) -> tuple[Recall, list[float]]:
    """One model and its losses; ``distance`` None draws one from 1 to 63 for every batch."""
    torch.manual_seed(seed)
    model, draw = Recall(kind), torch.Generator().manual_seed(seed)
    steps = recipe.mixed_steps if distance is None else recipe.steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0.0)
    losses = []
    for step in range(steps):
        away = int(torch.randint(1, 64, (1,), generator=draw)) if distance is None else distance
        ids, letters = recall_batch(recipe.batch_size, away, away + 1, draw)
        loss = F.cross_entropy(model(ids), letters)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * min(1, (step + 1) / 30) * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


@torch.no_grad()
def accuracy(model: Recall, distance: int, texts: int = 400) -> float:
    """The share of fresh texts whose letter is named; one in eight is chance."""
    ids, letters = recall_batch(texts, distance, distance + 1, torch.Generator().manual_seed(10_000 + distance))
    return (model(ids).argmax(-1) == letters).float().mean().item()


def main(recipe: Recipe | None = None) -> None:
    """Train all, ask all, write."""
    from llmlab.tasks.classify.checkpoints import FOLDER

    recipe = recipe or Recipe()
    runtime.setup(seed=0, threads=1)
    began, runs = time.process_time(), []
    for kind in get_args(Kind):
        for distance in (*DISTANCES, None):
            for seed in recipe.seeds if distance else recipe.seeds[:1]:
                model, losses = train(kind, distance, seed, recipe)
                asked = ASKED if distance is None else (distance,)
                shares = {str(away): round(accuracy(model, away), 4) for away in asked}
                runs.append({"kind": kind, "trained_at": distance, "seed": seed, "accuracy": shares})
                runs[-1]["losses"] = [round(x, 4) for x in (losses[0], losses[9], losses[-1])]
                print(kind, distance, seed, shares, f"{time.process_time() - began:.0f} s", flush=True)
    record = {
        "recipe": asdict(recipe),
        "parameters": {kind: sum(p.numel() for p in Recall(kind).parameters()) for kind in get_args(Kind)},
        "runs": runs,
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        "cpu_seconds": round(time.process_time() - began),
    }
    file = FOLDER / "recall.json"
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
