"""Does it train? Seven ways to wire a Transformer, three depths, three seeds, on the characters of film reviews.

``python -m llmlab.recipes.residual_depth`` trains them and writes ``residual_depth.json`` into the package. Everything
but wiring and depth is the same, and nothing was tuned for any of them: Adam at one constant rate, no warm-up but
where the name says so, no clipping.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Int
from torch import Tensor

from llmlab import assets, runtime
from llmlab.models.depth_lm import DepthLM, Wiring

__all__ = ["KINDS", "RECORD", "Recipe", "batches", "characters", "main", "train"]

RECORD = Path(__file__).resolve().parents[1] / "checkpoints" / "residual_depth.json"

#: name of a run: its wiring, and over how many steps its learning rate rises
KINDS: dict[str, tuple[Wiring, int]] = {
    "no residual, no norm": ("no residual, no norm", 0),
    "no residual": ("no residual", 0),
    "ReLU after the sum": ("ReLU after the sum", 0),
    "post-norm": ("post-norm", 0),
    "post-norm, warm-up": ("post-norm", 75),
    "DeepNorm": ("DeepNorm", 0),
    "pre-norm": ("pre-norm", 0),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand."""

    d: int = 32
    heads: int = 4
    time: int = 32
    batch_size: int = 16
    steps: int = 150
    lr: float = 2e-3
    depths: tuple[int, ...] = (2, 8, 32)
    seeds: tuple[int, ...] = (0, 1, 2)


@lru_cache(maxsize=1)
def characters() -> tuple[Int[Tensor, " train"], Int[Tensor, " held_out"], str]:
    """The film snippets as numbers, first 90 % and last 10 %, and the characters that the numbers stand for.

    Characters that come less than 100 times are left out.
    """
    text = "\n".join(assets.load_vader("movies").texts)
    known = "".join(sorted(c for c, n in Counter(text).items() if n >= 100))
    number = {c: i for i, c in enumerate(known)}
    ids = torch.tensor([number[c] for c in text if c in number])
    cut = len(ids) * 9 // 10
    return ids[:cut], ids[cut:], known


def batches(
    ids: Int[Tensor, " characters"], count: int, batch_size: int, time: int, seed: int
) -> Iterator[Int[Tensor, "batch time_and_one"]]:
    """``count`` batches of windows from random places, one character longer than ``time``."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.arange(time + 1)
    for _ in range(count):
        starts = torch.randint(0, len(ids) - time, (batch_size, 1), generator=generator)
        yield ids[starts + offsets]


def train(
    kind: str, layers: int, seed: int, recipe: Recipe | None = None, steps: int | None = None
) -> tuple[DepthLM, list[float]]:
    """A trained model and the loss of every step; ``steps`` stops early, for a look at the beginning."""
    recipe = recipe or Recipe()
    wiring, warmup = KINDS[kind]
    ids, _, known = characters()
    torch.manual_seed(seed)
    model = DepthLM(len(known), wiring, layers, d=recipe.d, heads=recipe.heads, longest=recipe.time)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, foreach=True)
    losses = []
    for step, windows in enumerate(batches(ids, steps or recipe.steps, recipe.batch_size, recipe.time, seed)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * min(1.0, (step + 1) / max(1, warmup))
        loss = model.loss(windows)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, losses


def unigram(recipe: Recipe) -> float:
    """The held-out loss of a model that only knows how frequent each character is: the line to beat."""
    ids, held, known = characters()
    shares = torch.bincount(ids, minlength=len(known)).double() / len(ids)
    return -shares[held].log().mean().item()


def main(recipe: Recipe | None = None) -> None:
    """Train all, measure on held-out text, write."""
    recipe = recipe or Recipe()
    runtime.setup(threads=1)
    _, held, _ = characters()
    test = torch.cat(list(batches(held, 8, 32, recipe.time, seed=0)))
    began, runs = time.process_time(), []
    for layers in recipe.depths:
        for kind in KINDS:
            for seed in recipe.seeds:
                model, losses = train(kind, layers, seed, recipe)
                with torch.no_grad():
                    final = model.loss(test).item()
                runs.append(
                    {
                        "kind": kind,
                        "layers": layers,
                        "seed": seed,
                        "held_out": round(final, 4),
                        "first_losses": [round(x, 4) for x in losses[:8]],
                        "train_loss": [round(fmean(losses[i : i + 20]), 3) for i in range(0, len(losses), 20)],
                    }
                )
                print(f"{kind:22} {layers:3} layers, seed {seed}: held-out {final:.3f}", flush=True)
    record = {
        "recipe": asdict(recipe),
        "data": {"asset": "vader, film snippets", "held_out_windows": len(test)},
        "unigram": round(unigram(recipe), 4),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        "cpu_seconds": round(time.process_time() - began),
        "runs": runs,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(RECORD.name, record["cpu_seconds"], "CPU seconds")


if __name__ == "__main__":
    main()
