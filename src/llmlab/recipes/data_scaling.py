"""What text is worth to one small language model: more of it, the same again, and worse: the record of notebook 09.

``llmlab recipes data_scaling`` trains about eighty models of 103 thousand parameters on characters of Jane Austen's
novels (about 5 minutes, one thread) and measures each on a novel that none of them read:

- ``clean``: 2^14 to 2^20 characters, each read once;
- ``repeat``: 2^16 characters read in all, of which 2^15 to 2^10 are different;
- ``noise``: 2^16 characters, a share of them spoiled in one of three ways;
- ``levers``: a run of those with one thing changed, its width or its weight decay.

All runs have the same batch and the same peak learning rate, and a schedule that ends with the run.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from llmlab import runtime
from llmlab.assets import load_novels, load_vader
from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.tasks.classify.checkpoints import FOLDER
from llmlab.train import History, train_model, warmup_cosine
from llmlab.train.optim import decay_groups

__all__ = ["NOISES", "WINDOW", "Corpus", "Run", "corpus", "held_loss", "main", "plan", "text_of", "train"]

TRAIN = ("Emma", "Mansfield Park", "Pride and Prejudice", "Sense and Sensibility")
WINDOW, BATCH, HELD, LOOKS = 64, 2, 512, 128

Noise = Literal["", "words shuffled", "letters shuffled", "newspaper"]
NOISES: tuple[Noise, ...] = ("words shuffled", "letters shuffled", "newspaper")


class Corpus(NamedTuple):
    """The characters of the four novels; their windows of 65 characters, each beginning where the one before it ends;
    windows of Persuasion; and windows of newspaper articles of two centuries later."""

    characters: str
    train: Int[Tensor, "windows 65"]
    held: Int[Tensor, "windows 65"]
    newspaper: Int[Tensor, "windows 65"]


@dataclass(frozen=True)
class Run:
    """One model: how many different characters, how often each is read, which share of them is spoiled and how."""

    part: Literal["clean", "repeat", "noise", "levers"]
    unique: int
    epochs: int = 1
    seed: int = 0
    noise: Noise = ""
    share: float = 0.0
    d: int = 64
    weight_decay: float = 0.1
    lr: float = 4e-3

    @property
    def total(self) -> int:
        """Characters read."""
        return self.unique * self.epochs


@lru_cache(maxsize=1)
def corpus() -> Corpus:
    """Everything as windows of numbers; a character that the four novels lack is left out."""
    novels = load_novels()
    text = "\n\n".join(novels[title] for title in TRAIN)
    known = "".join(sorted(set(text)))
    number = {c: i for i, c in enumerate(known)}
    articles = "\n\n".join(dict.fromkeys(load_vader("nyt").texts))

    def windows(part: str) -> Tensor:
        return torch.tensor([number[c] for c in part if c in number]).unfold(0, WINDOW + 1, WINDOW)

    return Corpus(known, windows(text), windows(novels["Persuasion"])[:HELD], windows(articles))


def plan() -> list[Run]:
    """All runs, the long ones last."""
    clean = [Run("clean", 2**k, seed=s) for k in range(14, 18) for s in range(3)]
    repeat = [Run("repeat", 2 ** (16 - k), 2**k, s) for k in range(1, 7) for s in range(3)]
    noise = [Run("noise", 2**16, 1, s, kind, share) for share in (0.5, 0.25, 0.1) for kind in NOISES for s in range(3)]
    levers = [Run("levers", 2**15, seed=s, d=96) for s in range(3)]
    levers += [Run("levers", 2**11, 32, s, weight_decay=1.0) for s in range(3)]
    long = [Run("clean", 2**18, seed=s) for s in range(2)] + [Run("clean", 2**19)]
    longer = [Run("clean", 2**18, seed=2), Run("clean", 2**19, seed=1), Run("clean", 2**20)]
    return clean + repeat + levers + noise[:18] + long + noise[18:] + longer


def text_of(run: Run) -> Int[Tensor, "windows 65"]:
    """The windows that a run reads. With one seed a smaller text is a part of a larger one."""
    c = corpus()
    order = torch.randperm(len(c.train), generator=torch.Generator().manual_seed(run.seed))
    windows = c.train[order[: run.unique // WINDOW]].clone()
    spoiled = round(run.share * len(windows))
    if run.noise == "newspaper":
        other = torch.randperm(len(c.newspaper), generator=torch.Generator().manual_seed(run.seed))
        windows[:spoiled] = c.newspaper[other[:spoiled]]
    elif run.noise:
        shuffle: Callable[..., Tensor] = _words if run.noise == "words shuffled" else _letters
        rng = random.Random(run.seed)
        for i in range(spoiled):
            windows[i] = shuffle(windows[i], c.characters, rng)
    return windows


def _words(window: Tensor, characters: str, rng: random.Random) -> Tensor:
    """The same words and spaces in another order; those cut at the ends are shuffled like the rest."""
    words = "".join(characters[i] for i in window.tolist()).split(" ")
    rng.shuffle(words)
    return torch.tensor([characters.index(c) for c in " ".join(words)])


def _letters(window: Tensor, characters: str, rng: random.Random) -> Tensor:
    """The same characters in another order: how often each occurs is all that is left."""
    return torch.tensor(rng.sample(window.tolist(), len(window)))


def train(run: Run, *, max_steps: int | None = None, looks: int = 0) -> tuple[Decoder, History]:
    """Train a run's model. ``looks``: how often it is measured on the way, on a quarter of the held-out windows."""
    torch.manual_seed(run.seed)
    config = DecoderConfig(
        len(corpus().characters), run.d, layers=2, heads=4, hidden=8 * run.d // 3 // 8 * 8, context=WINDOW
    )
    model, windows = Decoder(config), text_of(run)
    _widen(model, run.d)
    steps = run.epochs * -(-len(windows) // BATCH)
    groups = decay_groups(model.parameters(), run.weight_decay)
    history = train_model(
        model,
        lambda batch: model.loss(windows[batch]),
        [WINDOW] * len(windows),
        torch.optim.AdamW(groups, lr=run.lr, betas=(0.9, 0.95)),
        epochs=run.epochs,
        batch_size=BATCH,
        schedule=partial(warmup_cosine, total=steps, warmup=max(1, steps // 10), floor=0.1),
        seed=run.seed,
        max_steps=max_steps,
        evaluate=(lambda: held_loss(model, corpus().held[:LOOKS])) if looks else None,
        evaluate_every=max(1, steps // looks) if looks else None,
    )
    return model, history


@torch.no_grad()
def _widen(model: Decoder, d: int) -> None:
    """Draw the blocks' matrices with a deviation of 1/sqrt(d), not 0.02, which suits a width of 2,500: at 64 a model
    that starts so small spends the shortest runs on leaving its start."""
    for weight in model.blocks.parameters():
        if weight.ndim == 2:
            weight.mul_(d**-0.5 / 0.02)


@torch.inference_mode()
def held_loss(model: Decoder, windows: Int[Tensor, "windows 65"] | None = None) -> float:
    """Nats a character on all held-out windows, or on those given."""
    windows = corpus().held if windows is None else windows
    return float(sum(model.loss(part) * len(part) for part in windows.split(128)) / len(windows))


def main() -> None:
    """Train all, measure each, write the record."""
    runtime.setup(seed=0, threads=1)
    began, runs = time.process_time(), []
    for run in plan():
        model, history = train(run, looks=8 if run.epochs > 1 else 0)
        runs.append(
            {
                **asdict(run),
                "parameters": sum(p.numel() for p in model.parameters()),
                "held": round(held_loss(model), 5),
                "train": round(held_loss(model, text_of(run)[:LOOKS]), 4),
                "looks": [round(x, 4) for x in history.scores],
                "first_losses": [round(x, 4) for x in history.losses[:8]],
            }
        )
        print(runs[-1], flush=True)
    c = corpus()
    record = {
        "what": "loss in nats a character on the first 32,768 characters of Persuasion, its 64 before it known",
        "characters": len(c.characters),
        "windows": {"train": len(c.train), "held": len(c.held), "newspaper": len(c.newspaper)},
        "runs": runs,
        "cpu_seconds": round(time.process_time() - began),
        "made_with": {"torch": torch.__version__.partition("+")[0]},
    }
    (FOLDER / "data_scaling.json").write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
