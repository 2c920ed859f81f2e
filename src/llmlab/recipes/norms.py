"""What a small transformer makes of its norm: padding and batch size, place and learning rate, and which norm at all.

``llmlab recipes norm_padding`` trains classifiers of the Chinese reviews with LayerNorm and BatchNorm at batch sizes 2
to 64; ``norm_place`` trains character models of film snippets with the norm before or after the residual sum over a
range of learning rates; ``norm_swap`` puts six norms into one such model. Each writes its JSON into the package.
"""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmlab import assets, runtime
from llmlab.attention import attention
from llmlab.nn.norms import DynamicTanh, LayerNorm, QKNorm, RMSNorm, SequenceBatchNorm
from llmlab.nn.pooling import masked_mean
from llmlab.tasks.classify import Characters, Labelled, pad, split
from llmlab.tasks.classify.checkpoints import FOLDER
from llmlab.train import fit

__all__ = [
    "BATCHES",
    "PLACES",
    "PLACE_LRS",
    "REVIEWS",
    "SWAP",
    "Block",
    "Design",
    "Small",
    "film_windows",
    "language_loss",
    "main",
    "review_parts",
    "review_scores",
    "train_language",
    "train_reviews",
]

NormName = Literal["layer", "rms", "batch", "batch over padding", "tanh", "none", "shaken"]


@dataclass(frozen=True)
class Design:
    """What is varied: which norm, where it stands, whether queries and keys have their own; and the sizes."""

    norm: NormName = "layer"
    place: Literal["pre", "post"] = "pre"
    qk_norm: bool = False
    d: int = 48
    heads: int = 4
    layers: int = 12
    length: int = 64


class Shaken(LayerNorm):
    """LayerNorm whose output channels are rescaled and shifted anew at every training step: a moving distribution.

    What the next layer reads drifts from step to step by design, as in Santurkar et al., 2018 (arXiv:1805.11604),
    section 2.1, for BatchNorm.
    """

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Each channel times 1 ± 0.3 plus 0 ± 0.3 in training; in use a LayerNorm."""
        y = super().forward(x)
        if not self.training:
            return y
        scale, shift = 0.3 * torch.randn(2, x.shape[-1], dtype=x.dtype, device=x.device)
        return y * (1 + scale) + shift


def make_norm(name: NormName, d: int) -> nn.Module:
    """One norm by its name; "batch over padding" is BatchNorm that is never shown the mask."""
    kinds: dict[str, type[nn.Module]] = {"layer": LayerNorm, "rms": RMSNorm, "tanh": DynamicTanh, "shaken": Shaken}
    if name in kinds:
        return kinds[name](d)
    return nn.Identity() if name == "none" else SequenceBatchNorm(d)


class Block(nn.Module):
    """A transformer block of one design: x + f(norm(x)) if ``place`` is "pre", norm(x + f(x)) if it is "post"."""

    def __init__(self, design: Design, causal: bool) -> None:
        super().__init__()
        d = design.d
        self.design, self.causal = design, causal
        self.norm1, self.norm2 = make_norm(design.norm, d), make_norm(design.norm, d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.qk = QKNorm(d // design.heads) if design.qk_norm else None

    def attend(self, x: Float[Tensor, "batch time d"], mask: Bool[Tensor, "batch time"]) -> Tensor:
        """Attention over the real tokens, causal in a language model."""
        q, k, v = (t.unflatten(-1, (self.design.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        if self.qk is not None:
            q, k = self.qk(q, k)
        seen = None if self.causal else mask[:, None, None, :]
        return self.out(attention(q, k, v, causal=self.causal, mask=seen).transpose(1, 2).flatten(2))

    def forward(self, x: Float[Tensor, "batch time d"], mask: Bool[Tensor, "batch time"]) -> Tensor:
        """Two sublayers, each with its residual and its norm."""
        for norm, f in ((self.norm1, lambda h: self.attend(h, mask)), (self.norm2, self.feed_forward)):
            if self.design.place == "pre":
                x = x + f(normed(norm, x, mask, self.design))
            else:
                x = normed(norm, x + f(x), mask, self.design)
        return x

    def feed_forward(self, x: Float[Tensor, "batch time d"]) -> Tensor:
        """Two layers, token by token."""
        return self.down(F.gelu(self.up(x)))


def normed(norm: nn.Module, x: Tensor, mask: Tensor, design: Design) -> Tensor:
    """The norm of x; BatchNorm is shown the mask unless it is to count the padding."""
    return norm(x, mask) if design.norm == "batch" else norm(x)


class Small(nn.Module):
    """Embeddings and positions, blocks, a last norm if it is pre-norm, and a head: for every token, or for a text."""

    def __init__(self, design: Design, symbols: int, outputs: int, causal: bool) -> None:
        super().__init__()
        self.design, self.causal = design, causal
        self.token, self.position = nn.Embedding(symbols, design.d), nn.Embedding(design.length, design.d)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.1)
        self.blocks = nn.ModuleList(Block(design, causal) for _ in range(design.layers))
        self.last = make_norm(design.norm, design.d) if design.place == "pre" else nn.Identity()
        self.head = nn.Linear(design.d, outputs)

    def forward(self, ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"] | None = None) -> Tensor:
        """Logits: (batch, time, outputs) of a language model, (batch, outputs) of a classifier."""
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        x = self.token(ids) + self.position.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, real)
        x = x if self.design.place == "post" else normed(self.last, x, real, self.design)
        return self.head(x if self.causal else masked_mean(x, real))


# --- reviews: uneven length, so padding -------------------------------------------------------------------------------

REVIEWS = Design(layers=2, length=64)
BATCHES = (2, 8, 32, 64)
TRAINED_ON, HELD = 4000, 800


def review_parts() -> tuple[Characters, Labelled, Labelled]:
    """The characters, and a sample of the training and of the validation part."""
    reviews = assets.load_reviews()
    parts = split(reviews.texts, reviews.labels)
    known = Characters.learn(parts["train"].texts, at_least=20, max_length=REVIEWS.length)
    return known, parts["train"].sample(TRAINED_ON), parts["validation"].sample(HELD)


def train_reviews(
    norm: NormName, batch_size: int, seed: int, parts: tuple[Characters, Labelled, Labelled]
) -> tuple[Small, list[float]]:
    """One epoch in batches of random reviews, so that long and short ones meet; the model, and its losses."""
    known, train, _ = parts
    runtime.seed_everything(seed)
    model = Small(Design(**{**asdict(REVIEWS), "norm": norm}), len(known), 2, causal=False)
    rows = known.encode(train.texts)

    def loss_of(batch: list[int]) -> Tensor:
        return F.cross_entropy(model(*pad([rows[i] for i in batch])), torch.tensor([train.labels[i] for i in batch]))

    lr = 1e-3 * min(1.0, math.sqrt(batch_size / 16))
    history = fit(model, loss_of, [1] * len(rows), epochs=1, batch_size=batch_size, lr=lr, seed=seed)
    return model, history.losses


@torch.no_grad()
def review_scores(
    model: Small, known: Characters, held: Labelled, batch_size: int, training: bool
) -> tuple[float, float]:
    """Loss and accuracy in batches of random reviews, with the batch's statistics or with the running ones."""
    model = copy.deepcopy(model).train(training)  # a look with batch statistics would move the running ones
    rows, order = known.encode(held.texts), list(range(len(held)))
    random.Random(1).shuffle(order)
    loss, right = 0.0, 0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        labels = torch.tensor([held.labels[i] for i in batch])
        logits = model(*pad([rows[i] for i in batch]))
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(-1) == labels).sum())
    return loss / len(held), right / len(held)


def run_padding(seeds: Sequence[int] = (0, 1)) -> dict[str, Any]:
    """Every norm, batch size and seed: scores as trained (batch statistics) and in use (running statistics)."""
    parts, runs = review_parts(), []
    norms: tuple[NormName, ...] = ("layer", "batch", "batch over padding")
    for norm, batch_size, seed in ((n, b, s) for b in reversed(BATCHES) for n in norms for s in seeds):
        model, losses = train_reviews(norm, batch_size, seed, parts)
        row: dict[str, Any] = {"norm": norm, "batch_size": batch_size, "seed": seed}
        for name, training in (("as_trained", True), ("in_use", False)):
            loss, accuracy = review_scores(model, parts[0], parts[2], batch_size, training)
            row[name] = {"loss": round(loss, 5), "accuracy": accuracy}
        runs.append({**row, "first_losses": [round(x, 5) for x in losses[:10]]})
        print({k: v for k, v in runs[-1].items() if k != "first_losses"}, flush=True)
    return {
        "data": {"asset": "reviews", "trained_on": TRAINED_ON, "held": HELD},
        "design": asdict(REVIEWS),
        "runs": runs,
    }


# --- film snippets: a language model, where nothing may look ahead ----------------------------------------------------

PLACE_LRS = (1e-3, 3e-3, 1e-2, 3e-2)
PLACE_STEPS, PLACE_BATCH, VALIDATION = 80, 8, 64
SWAP_SEQUENCES, SWAP_BATCHES = 1600, (2, 16)


def film_windows(length: int = 64) -> tuple[int, Int[Tensor, "rows time"], Int[Tensor, "rows time"]]:
    """The film snippets as one line of characters, cut into windows: number of symbols, training and validation rows.

    A window holds ``length`` inputs and the character that follows. The last tenth of the line is for validation.
    """
    text = "\n".join(assets.load_vader("movies").texts).lower()
    symbols = sorted(c for c, count in Counter(text).items() if count >= 50)
    number = {c: i + 1 for i, c in enumerate(symbols)}
    ids = torch.tensor([number.get(c, 0) for c in text])
    rows = ids[: len(ids) // (length + 1) * (length + 1)].view(-1, length + 1)
    cut = len(rows) * 9 // 10
    order = torch.randperm(cut, generator=torch.Generator().manual_seed(0))
    return len(symbols) + 1, rows[:cut][order], rows[cut:]


@torch.no_grad()
def language_loss(model: Small, rows: Int[Tensor, "rows time"], batch_size: int, training: bool) -> float:
    """Mean loss a character, with the batch's statistics or with the running ones."""
    model = copy.deepcopy(model).train(training)
    losses = [F.cross_entropy(model(x[:, :-1]).transpose(1, 2), x[:, 1:]).item() for x in rows.split(batch_size)]
    return sum(losses) / len(losses)


def train_language(
    design: Design,
    windows: tuple[int, Tensor, Tensor],
    *,
    lr: float,
    warmup: float,
    seed: int,
    batch_size: int = PLACE_BATCH,
    steps: int = PLACE_STEPS,
    look: int | None = None,
) -> tuple[Small, list[float]]:
    """Train on ``steps`` batches, each seen once; ``look`` stops after so many. A NaN ends the losses with inf."""
    symbols, rows, _ = windows
    runtime.seed_everything(seed)
    model = Small(design, symbols, symbols, causal=True)
    losses: list[float] = []

    def loss_of(batch: list[int]) -> Tensor:
        x = rows[batch]
        loss = F.cross_entropy(model(x[:, :-1]).transpose(1, 2), x[:, 1:])
        losses.append(loss.item())
        return loss

    total = [1] * (steps * batch_size)
    try:
        fit(model, loss_of, total, epochs=1, batch_size=batch_size, lr=lr, warmup=warmup, seed=seed, max_steps=look)
    except FloatingPointError:
        losses[-1] = math.inf
    return model.eval(), losses


PLACES: dict[str, tuple[Design, float]] = {
    "post-norm": (Design(place="post"), 0.0),
    "post-norm, warm-up": (Design(place="post"), 0.2),
    "pre-norm": (Design(), 0.0),
    "pre-norm, QK-norm": (Design(qk_norm=True), 0.0),
}


def run_place(seeds: Sequence[int] = (0, 1)) -> dict[str, Any]:
    """Validation loss of every place, learning rate and seed."""
    windows, runs = film_windows(), []
    for name, (design, warmup) in PLACES.items():
        for lr, seed in ((lr, seed) for lr in PLACE_LRS for seed in seeds):
            model, losses = train_language(design, windows, lr=lr, warmup=warmup, seed=seed)
            finite = math.isfinite(losses[-1])
            held = language_loss(model, windows[2][: 8 * VALIDATION], VALIDATION, False) if finite else math.inf
            row = {"place": name, "lr": lr, "seed": seed, "validation": round(held, 5)}
            runs.append({**row, "first_losses": [round(x, 5) for x in losses[:25]]})
            print(row, flush=True)
    counts = torch.bincount(windows[1].flatten(), minlength=windows[0]).double()
    unigram = F.nll_loss((counts / counts.sum()).log()[None].expand(windows[2].numel(), -1), windows[2].flatten())
    data = {"asset": "vader movies", "symbols": windows[0], "unigram_loss": round(unigram.item(), 5)}
    return {"data": data, "steps": PLACE_STEPS, "batch_size": PLACE_BATCH, "design": asdict(Design()), "runs": runs}


SWAP = Design(layers=4)


def run_swap(seeds: Sequence[int] = (0, 1)) -> dict[str, Any]:
    """Six norms in one pre-norm model, two batch sizes, the same text; loss as trained and in use."""
    windows, runs = film_windows(), []
    norms: tuple[NormName, ...] = ("layer", "rms", "batch", "tanh", "none", "shaken")
    for norm, batch_size, seed in ((n, b, s) for b in SWAP_BATCHES for n in norms for s in seeds):
        design = Design(**{**asdict(SWAP), "norm": norm})
        lr = 3e-3 * math.sqrt(batch_size / 8)
        model, losses = train_language(
            design, windows, lr=lr, warmup=0.1, seed=seed, batch_size=batch_size, steps=SWAP_SEQUENCES // batch_size
        )
        row: dict[str, Any] = {"norm": norm, "batch_size": batch_size, "seed": seed}
        for name, training in (("as_trained", True), ("in_use", False)):
            row[name] = round(language_loss(model, windows[2][: 8 * VALIDATION], batch_size, training), 5)
        runs.append({**row, "first_losses": [round(x, 5) for x in losses[:10]]})
        print(row, flush=True)
    return {"data": {"asset": "vader movies"}, "sequences": SWAP_SEQUENCES, "design": asdict(SWAP), "runs": runs}


def main(name: str) -> None:
    """Make one of the three records."""
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    record = {"norm_padding": run_padding, "norm_place": run_place, "norm_swap": run_swap}[name]()
    record["cpu_seconds"] = round(time.process_time() - began)
    target = FOLDER / f"{name}.json"
    target.write_text(json.dumps(record, indent=1).replace("Infinity", "null") + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
