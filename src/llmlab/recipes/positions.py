"""Six small language models that differ in their positions alone, three seeds each, read at four times their length.

``python -m llmlab.recipes.positions`` writes ``positions.json`` (every loss by position) and
``positions.safetensors`` (the models of seed 0). The text is New York Times editorials, character by character, in
the order of the file; the last tenth is held out, and nothing was chosen on it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlab import assets, runtime
from llmlab.models.position_lm import PositionLM, Scheme
from llmlab.tasks.classify.checkpoints import read_weights, write_checkpoint
from llmlab.train import warmup_cosine

__all__ = ["TRAINED", "Editorials", "Recipe", "load_editorials", "load_models", "loss_by_position", "main", "train"]

TRAINED, LONGEST = 64, 256


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand."""

    steps: int = 350
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.01
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Editorials:
    """Characters as numbers; ``known`` gives them back."""

    known: str
    train: Int[Tensor, " characters"]
    held: Int[Tensor, " characters"]

    def windows(self, length: int = LONGEST) -> Int[Tensor, "batch time"]:
        """The held-out text cut into windows of ``length`` characters and the one that follows."""
        count = (len(self.held) - 1) // length
        return torch.stack([self.held[i * length : (i + 1) * length + 1] for i in range(count)])


def load_editorials() -> Editorials:
    """The New York Times sentences of the VADER ratings as one text, in the file's order; the last tenth held out."""
    text = " ".join(assets.load_vader("nyt").texts)
    text = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    known = "".join(sorted(set(text)))
    number = {c: i for i, c in enumerate(known)}
    ids = torch.tensor([number[c] for c in text])
    cut = len(ids) * 9 // 10
    return Editorials(known, ids[:cut], ids[cut:])


def train(
    data: Editorials, scheme: Scheme, seed: int, recipe: Recipe, steps: int | None = None
) -> tuple[PositionLM, list[float]]:
    """One model and the loss of every step; with ``steps``, only the beginning of the same run."""
    torch.manual_seed(seed)
    model = PositionLM(len(data.known), scheme, longest=LONGEST)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    draw = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    for step in range(recipe.steps if steps is None else steps):
        start = torch.randint(len(data.train) - TRAINED, (recipe.batch_size,), generator=draw)
        loss = model.losses(data.train[start[:, None] + torch.arange(TRAINED + 1)]).mean()
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * warmup_cosine(step, recipe.steps, recipe.steps // 20)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


@torch.no_grad()
def loss_by_position(
    model: PositionLM, windows: Int[Tensor, "batch time_and_one"], window: int | None = None
) -> Float[Tensor, " time"]:
    """The mean loss in nats at every position, over all windows, one window at a time (as a reader reads)."""
    return torch.cat([model.losses(w[None], window) for w in windows]).mean(0)


def load_models(data: Editorials) -> dict[Scheme, PositionLM]:
    """The shipped models of seed 0, by scheme.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    state, models = read_weights("positions"), {}
    for scheme in get_args(Scheme):
        models[scheme] = PositionLM(len(data.known), scheme, longest=LONGEST).eval()
        own = {name.removeprefix(f"{scheme}."): value for name, value in state.items() if name.startswith(f"{scheme}.")}
        models[scheme].load_state_dict(own)
    return models


def main(recipe: Recipe | None = None) -> None:
    """Train all, measure all, write."""
    recipe = recipe or Recipe()
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    data = load_editorials()
    windows = data.windows()
    state: dict[str, Tensor] = {}
    runs = []
    for seed in recipe.seeds:
        for scheme in get_args(Scheme):
            model, losses = train(data, scheme, seed, recipe)
            if seed == recipe.seeds[0]:
                state |= {f"{scheme}.{name}": value for name, value in model.state_dict().items()}
            curve = loss_by_position(model, windows)
            print(f"{seed} {scheme:14} train {losses[-1]:.3f} held {curve.view(4, -1).mean(1).tolist()}", flush=True)
            runs.append(
                {
                    "scheme": scheme,
                    "seed": seed,
                    "first_losses": [round(x, 4) for x in losses[:12]],
                    "last_100_losses_mean": round(sum(losses[-100:]) / 100, 4),
                    "held_loss_by_position": [round(x, 4) for x in curve.tolist()],
                }
            )
    record = {
        "recipe": asdict(recipe),
        "data": {
            "asset": "vader",
            "part": "nyt",
            "known": data.known,
            "train": len(data.train),
            "held": len(data.held),
            "windows": len(windows),
        },
        "trained_length": TRAINED,
        "runs": runs,
        "cpu_seconds": round(time.process_time() - began),
    }
    print(write_checkpoint(state, "positions", record))


if __name__ == "__main__":
    main()
