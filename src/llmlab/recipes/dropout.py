"""What dropout does to real training runs: the records of notebook 06.

``python -m llmlab.recipes.dropout NAME`` writes one of three JSON files into the package:

- ``dropout_reviews``: small character transformers on 600 and on all training reviews, over p and seeds, and other
  regularisers on the 600 (about 3 minutes, one thread);
- ``dropout_lm``: small character language models on film snippets, one pass of fresh text against twenty passes of a
  twentieth of it, over p and seeds (about 3 minutes);
- ``dropout_mc``: 20 draws of Monte Carlo dropout for 1,000 test reviews from the shipped transformer (about a minute).
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab import assets, runtime
from llmlab.metrics import accuracy, ensemble_uncertainty, log_loss
from llmlab.nn.blocks import PreNormBlock
from llmlab.nn.dropout import DropConnectLinear, Dropout, mc_dropout
from llmlab.nn.feedforward import FeedForward
from llmlab.nn.heads import MultiHeadAttention
from llmlab.tasks.classify import Characters, CharClassifier, CharConfig, Labelled, pad, split
from llmlab.tasks.classify.checkpoints import FOLDER, load_char_classifier
from llmlab.train import History, fit

__all__ = [
    "METHODS",
    "RATES",
    "CharLM",
    "Unscaled",
    "film_windows",
    "mc_probabilities",
    "review_parts",
    "train_lm",
    "train_review",
]

# --- Chinese reviews: one small character transformer

RATES = (0.0, 0.1, 0.3, 0.5, 0.6)
FEW, EPOCHS = 600, {"few": 12, "all": 2}
#: Other ways to hold a model back, on the 600 reviews. Dropout is off, except in the last, which forgets 1/(1-p).
METHODS = (
    "tokens hidden 0.2",
    "attention dropout 0.5",
    "DropConnect 0.5",
    "label smoothing 0.1",
    "weight decay 1.0",
    "3 epochs, not 12",
    "no LayerNorm",
    "dropout 0.5 without 1/(1-p)",
)


class Unscaled(Dropout):
    """The popular fault: the mask without the division, so that evaluation sees larger numbers than training did."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop, and do not scale."""
        return super().forward(x) * (1 - self.p) if self.training else x


@lru_cache(maxsize=1)
def review_parts() -> dict[str, Labelled]:
    """Train, validation and test part of the deduplicated reviews."""
    reviews = assets.load_reviews()
    return split(reviews.texts, reviews.labels)


def _change(model: Any, method: str) -> None:
    """Put one method of :data:`METHODS` into a :class:`CharClassifier`."""
    for block in model.blocks:
        if method == "attention dropout 0.5":
            block.attend.dropout = 0.5
        for name in ("up", "down"):
            if method == "DropConnect 0.5":
                old = getattr(block, name)
                new = DropConnectLinear(old.in_features, old.out_features, p=0.5)
                new.load_state_dict(old.state_dict())
                setattr(block, name, new)
        if method == "no LayerNorm":
            block.norm1, block.norm2 = nn.Identity(), nn.Identity()
        if method.endswith("without 1/(1-p)"):
            block.dropout = Unscaled(0.5)
    if method == "no LayerNorm":
        model.norm = nn.Identity()
    if method.endswith("without 1/(1-p)"):
        model.dropout = Unscaled(0.5)


def train_review(
    share: str, p: float, seed: int, method: str = "", *, max_steps: int | None = None
) -> tuple[CharClassifier, History, Labelled]:
    """A new model with one block of width 48, on ``share`` "few" (600 reviews, drawn by the seed) or "all".

    Dropout of one rate stands after the embeddings, after both parts of the block and before the head.
    """
    whole = review_parts()["train"]
    part = whole if share == "all" else whole.sample(FEW, seed)
    characters = Characters.learn(whole.texts, max_length=64)
    torch.manual_seed(seed)
    model = CharClassifier(characters, CharConfig(d=48, heads=4, layers=1, hidden=96, dropout=p))
    _change(model, method)
    rows = characters.encode(part.texts)
    labels = torch.tensor(part.labels)

    def loss_of(batch: list[int]) -> Tensor:
        if method == "label smoothing 0.1":
            return F.cross_entropy(model(*pad([rows[i] for i in batch])), labels[batch], label_smoothing=0.1)
        hide = 0.2 if method == "tokens hidden 0.2" else 0.0
        return model.loss([rows[i] for i in batch], [part.labels[i] for i in batch], hide=hide)

    history = fit(
        model,
        loss_of,
        [len(row) for row in rows],
        epochs=3 if method.startswith("3 epochs") else EPOCHS[share],
        batch_size=64,
        lr=3e-3,
        weight_decay=1.0 if method.startswith("weight decay") else 0.01,
        seed=seed,
        max_steps=max_steps,
    )
    return model, history, part


def _scored(model: CharClassifier, history: History, part: Labelled) -> dict[str, Any]:
    held, seen = review_parts()["validation"], part.take(range(FEW))
    found: dict[str, Any] = {"first_losses": [round(x, 4) for x in history.losses[:5]]}
    for name, data in (("held", held), ("train", seen)):
        probabilities = model.predict_proba(data.texts)
        found[f"{name}_accuracy"] = round(accuracy(data.labels, probabilities.argmax(1)), 4)
        found[f"{name}_loss"] = round(log_loss(data.labels, probabilities), 4)
    return found


def record_reviews() -> dict[str, Any]:
    """Every rate on both shares, and every method on the 600."""
    runs = []
    plan = [("few", p, "", s) for p in RATES for s in range(3)]
    plan += [("all", p, "", s) for p in RATES[::2] for s in range(3)]
    plan += [("few", 0.5 if "1/(1-p)" in m else 0.0, m, s) for m in METHODS for s in range(3)]
    for share, p, method, seed in plan:
        run = {"share": share, "p": p, "method": method, "seed": seed, **_scored(*train_review(share, p, seed, method))}
        print(run, flush=True)
        runs.append(run)
    parts = review_parts()
    return {"runs": runs, "few": FEW, "epochs": EPOCHS, "data": {name: len(part) for name, part in parts.items()}}


# --- Film snippets: a small causal language model

LM_RATES = (0.0, 0.1, 0.2, 0.4)
CONTEXT, CHARACTERS, HELD = 64, 300_000, 300
PASSES = {"fresh": 1, "repeated": 20}


@lru_cache(maxsize=1)
def film_windows() -> tuple[Int[Tensor, "train time"], Int[Tensor, "held time"], int]:
    """Windows of 65 characters from the distinct film snippets, lower case, shuffled: train, held out, vocabulary.

    Each begins where the one before it ends; characters seen fewer than 50 times are one.
    """
    text = "\n".join(dict.fromkeys(assets.load_vader("movies").texts)).lower()
    counts = Counter(text)
    number = {c: i + 1 for i, c in enumerate(sorted(c for c in counts if counts[c] >= 50))}
    ids = torch.tensor([number.get(c, 0) for c in text])
    windows = ids.unfold(0, CONTEXT + 1, CONTEXT)
    windows = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))]
    return windows[HELD:], windows[:HELD], len(number) + 1


class CharLM(nn.Module):
    """Embeddings, two pre-norm blocks, one head, with dropout in the places of Vaswani et al., 2017, section 5.4:
    after the embeddings and on what each part of a block returns; and, as GPT-2 has it, on the attention weights.

    Args:
        vocabulary: number of characters.
        p: the one rate for all places.
    """

    def __init__(self, vocabulary: int, p: float, d: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, d), nn.Embedding(CONTEXT, d)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = Dropout(p)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                MultiHeadAttention(d, heads, causal=True, dropout=p),
                FeedForward(d, 4 * d),
                nn.LayerNorm(d),
                nn.LayerNorm(d),
                dropout=p,
            )
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocabulary)

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocabulary"]:
        """Logits of every next character."""
        x = self.dropout(self.token(ids) + self.position.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, windows: Int[Tensor, "batch time_and_one"]) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats a character."""
        return F.cross_entropy(self(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def train_lm(regime: str, p: float, seed: int, *, max_steps: int | None = None) -> tuple[CharLM, History]:
    """300,000 characters of training in ``regime`` "fresh" (once) or "repeated" (a twentieth of them, twenty times)."""
    train, held, vocabulary = film_windows()
    count = CHARACTERS // CONTEXT
    mine = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:count]]
    part = mine[: count // PASSES[regime]]
    torch.manual_seed(seed)
    model = CharLM(vocabulary, p)

    def evaluate() -> float:
        with torch.inference_mode():
            return float(model.loss(held))

    history = fit(
        model,
        lambda batch: model.loss(part[batch]),
        [CONTEXT] * len(part),
        epochs=PASSES[regime],
        batch_size=16,
        lr=3e-3,
        seed=seed,
        max_steps=max_steps,
        evaluate=evaluate,
    )
    return model, history


def record_lm() -> dict[str, Any]:
    """Every rate in both regimes, three seeds each."""
    runs = []
    for regime in PASSES:
        for p in LM_RATES:
            for seed in range(3):
                _, history = train_lm(regime, p, seed)
                run = {
                    "regime": regime,
                    "p": p,
                    "seed": seed,
                    "held_loss": [round(x, 4) for x in history.scores],
                    "train_loss": round(float(np.mean(history.losses[-20:])), 4),
                    "steps": len(history.losses),
                    "first_losses": [round(x, 4) for x in history.losses[:12]],
                }
                print(run, flush=True)
                runs.append(run)
    train, held, vocabulary = film_windows()
    data = {"train": len(train), "held": len(held), "vocabulary": vocabulary}
    return {"runs": runs, "characters": CHARACTERS, "passes": PASSES, "data": data}


# --- Monte Carlo dropout on the shipped transformer

DRAWS, SAMPLE, SLICE = 20, 1000, 64


@torch.inference_mode()
def mc_probabilities(
    model: CharClassifier, texts: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, "draws texts"]:
    """P(positive) of every text in ``draws`` thinned networks. (``predict_proba`` would switch dropout off again.)"""
    rows = model.characters.encode(texts)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = np.zeros((draws, len(rows)))
    torch.manual_seed(seed)
    with mc_dropout(model):
        for start in range(0, len(order), 64):
            batch = order[start : start + 64]
            ids, mask = pad([rows[i] for i in batch])
            for draw in range(draws):
                found[draw, batch] = model(ids, mask).double().softmax(-1)[:, 1].numpy()
    return found


def record_mc() -> dict[str, Any]:
    """Of a sample of the test reviews: P(positive) with dropout off, its mean over the draws, and their disagreement.

    ``slice_mean`` are the means of the first ``slice`` reviews drawn by themselves, for a look that takes a second.
    """
    test = review_parts()["test"].sample(SAMPLE)
    model = load_char_classifier()
    draws = mc_probabilities(model, test.texts)
    found = ensemble_uncertainty(np.stack([1 - draws, draws], axis=-1))
    columns = {
        "off": model.predict_proba(test.texts)[:, 1],
        "first_draw": draws[0],
        "mean": draws.mean(0),
        "total": found.total,
        "disagreement": found.disagreement,
        "slice_mean": mc_probabilities(model, test.texts[:SLICE]).mean(0),
    }
    return {
        "texts": len(test),
        "texts_sha256": hashlib.sha256("\n".join(test.texts).encode()).hexdigest(),
        "p": model.config.dropout,
        "draws": DRAWS,
        "slice": SLICE,
        **{name: [round(float(x), 6) for x in values] for name, values in columns.items()},
    }


def main(name: str) -> None:
    """Make one of the three."""
    made = {"dropout_reviews": record_reviews, "dropout_lm": record_lm, "dropout_mc": record_mc}
    if name not in made:
        raise SystemExit(f"{name!r}: expected one of {', '.join(made)}")
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    record = made[name]()
    record["cpu_seconds"] = round(time.process_time() - began)
    record["made_with"] = {"torch": torch.__version__.partition("+")[0]}
    (FOLDER / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
