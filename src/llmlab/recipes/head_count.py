"""Does the number of heads matter? A small character model of English, width 128, with 1, 4, 16 and 64 heads.

``python -m llmlab.recipes.head_count`` trains each of them on the film snippets, from three seeds, and writes
``head_count.json`` into the package (about six minutes on one thread). Everything but the number of heads is the same,
the number of parameters included.
"""

from __future__ import annotations

import json
import platform
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlab import assets, runtime
from llmlab.nn.heads import MultiHeadAttention
from llmlab.tasks.classify.checkpoints import FOLDER

__all__ = ["HEADS", "STEPS", "Reader", "main", "text", "train"]

HEADS, SEEDS, STEPS = (1, 4, 16, 64), (0, 1, 2), 300
D, LENGTH, BATCH, LR = 128, 64, 32, 2e-3


class Reader(nn.Module):
    """Two pre-norm blocks between characters and characters."""

    def __init__(self, characters: int, heads: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(characters, D), nn.Embedding(LENGTH, D)
        self.attend = nn.ModuleList(MultiHeadAttention(D, heads, causal=True) for _ in range(2))
        self.think = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D)) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(2))
        self.out = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, characters))

    def forward(self, ids: Tensor) -> Tensor:
        """Scores of the next character."""
        x = self.embed(ids) + self.place.weight[: ids.shape[1]]
        for norm, attend, think in zip(self.norms, self.attend, self.think):
            x = x + attend(norm(x))
            x = x + think(x)
        return self.out(x)


def text() -> tuple[Tensor, Tensor, int]:
    """The film snippets as character numbers: a training part, a held-out part, and how many characters there are."""
    snippets = assets.load_vader("movies").texts
    cut = len(snippets) * 9 // 10
    common = sorted({c for t in snippets[:cut] for c in t if c.isascii()})
    number = {c: i + 1 for i, c in enumerate(common)}  # 0: any other
    parts = (torch.tensor([number.get(c, 0) for c in "\n".join(p)]) for p in (snippets[:cut], snippets[cut:]))
    train_part, held = parts
    return train_part, held, len(common) + 1


def train(heads: int, seed: int, steps: int = STEPS) -> tuple[list[float], float]:
    """The losses of all steps and the loss on the held-out part, in nats a character."""
    train_part, held, characters = text()
    runtime.seed_everything(seed)
    model = Reader(characters, heads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    places, losses = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / 30) * min(1, (STEPS - step) / 100)
        starts = torch.randint(len(train_part) - LENGTH - 1, (BATCH,), generator=places)
        rows = torch.stack([train_part[s : s + LENGTH + 1] for s in starts])
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    rows = held[: 512 * (LENGTH + 1)].view(512, -1)
    with torch.no_grad():
        scores = model(rows[:, :-1])
    return losses, F.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten()).item()


def main() -> None:
    """Train, describe, write."""
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    held: dict[str, list[float]] = {}
    first: dict[str, list[float]] = {}
    for heads in HEADS:
        for seed in SEEDS:
            losses, score = train(heads, seed)
            held.setdefault(str(heads), []).append(round(score, 5))
            first.setdefault(str(heads), [round(x, 5) for x in losses[:10]])
            print(f"{heads} heads, seed {seed}: {score:.4f} nats, {time.process_time() - began:.0f} s", flush=True)
    record = {
        "what": "held-out loss in nats a character, by number of heads, one value a seed",
        "data": {"asset": "vader", "part": "movies", "held_out": "the last tenth"},
        "recipe": {"d": D, "layers": 2, "length": LENGTH, "batch": BATCH, "lr": LR, "steps": STEPS, "seeds": SEEDS},
        "held_out": held,
        "first_losses": first,
        "cpu_seconds": round(time.process_time() - began),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
    }
    path = FOLDER / "head_count.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
