"""Two small GPTs of the Llama family: one reads four novels of Jane Austen, one 251 poems of the Tang dynasty.

``llmlab recipes austen_gpt`` and ``llmlab recipes tang_gpt`` write the weights (half precision) and the record of each.
Training, validation and test are different books, and different poems. Nothing was chosen on the test part; on the
validation part were chosen the learning rate and, for the poems, the epoch of the first of two sets of weights.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from llmlab import runtime
from llmlab.assets import load_novels, load_tang_poems
from llmlab.generate import Sampling, generate
from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.models.reading import text_losses
from llmlab.tasks.classify.checkpoints import read_weights, write_checkpoint
from llmlab.text.bpe import BPE
from llmlab.text.contamination import NgramIndex
from llmlab.train import History, Step, train_model, warmup_cosine
from llmlab.train.optim import decay_groups

__all__ = [
    "AUSTEN",
    "RARE",
    "TANG",
    "Recipe",
    "Text",
    "austen",
    "bits_per_character",
    "load",
    "main",
    "tang",
    "train",
    "written",
]

Part = Literal["train", "valid", "test"]

#: stands for every character that the training poems do not have at least twice
RARE = "□"
BETWEEN = "\n\n"


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand. ``epochs`` are passes over the training text; ``steps`` ends them earlier."""

    d: int
    layers: int
    heads: int
    kv_heads: int
    length: int
    batch_size: int
    lr: float
    epochs: int
    steps: int | None = None
    weight_decay: float = 0.1
    dropout: float = 0.0
    seed: int = 0

    def config(self, vocabulary: int) -> DecoderConfig:
        """Llama's choices; the gated network is as large as an ungated one of 4d."""
        hidden = 8 * self.d // 3 // 8 * 8
        sizes: dict[str, Any] = {"kv_heads": self.kv_heads, "hidden": hidden, "context": 2 * self.length}
        return DecoderConfig(vocabulary, self.d, self.layers, self.heads, dropout=self.dropout, **sizes)


AUSTEN = Recipe(d=128, layers=4, heads=4, kv_heads=2, length=128, batch_size=16, lr=6e-3, epochs=4, steps=1200)
TANG = Recipe(d=128, layers=4, heads=4, kv_heads=2, length=64, batch_size=16, lr=3e-3, epochs=90)

TRAIN_BOOKS = ("Emma", "Mansfield Park", "Pride and Prejudice", "Sense and Sensibility")
#: tokens of the novels' tokenizer
AUSTEN_TOKENS = 2048


@dataclass(frozen=True)
class Text:
    """A text in three parts, as token numbers, and the way back. ``documents`` are the poems or books of each part."""

    vocabulary: int
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    documents: dict[Part, list[str]]
    ids: dict[Part, Int[Tensor, " time"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, documents in self.documents.items():
            self.ids[part] = torch.tensor(self.encode(BETWEEN + BETWEEN.join(documents) + BETWEEN))


@lru_cache(maxsize=1)
def austen() -> Text:
    """Four novels to train on, Northanger Abbey to choose with, Persuasion to test on; a BPE of the four alone."""
    novels = load_novels()
    documents: dict[Part, list[str]] = {
        "train": [novels[title] for title in TRAIN_BOOKS],
        "valid": [novels["Northanger Abbey"]],
        "test": [novels["Persuasion"]],
    }
    bpe = BPE.train(documents["train"], AUSTEN_TOKENS)
    return Text(len(bpe), bpe.encode, bpe.decode, documents)


@lru_cache(maxsize=1)
def tang() -> Text:
    """The 313 poems in random order: 251 to train on, 31 to choose with, 31 to test on; a token is a character."""
    poems = [poem.text for poem in load_tang_poems()]
    random.Random(0).shuffle(poems)
    counts = Counter("".join(poems[:251]))
    known = [RARE, *sorted({c for c in counts if counts[c] > 1} | set(BETWEEN))]
    number = {c: i for i, c in enumerate(known)}
    documents: dict[Part, list[str]] = {"train": poems[:251], "valid": poems[251:282], "test": poems[282:]}
    plain: dict[Part, list[str]] = {
        part: ["".join(c if c in number else RARE for c in poem) for poem in some] for part, some in documents.items()
    }
    return Text(
        len(known),
        lambda text: [number.get(c, 0) for c in text],
        lambda ids: "".join(known[i] for i in ids),
        plain,
    )


def train(
    text: Text, recipe: Recipe, *, max_steps: int | None = None, callbacks: Sequence[Callable[[Step], Any]] = ()
) -> tuple[Decoder, History]:
    """One model, and what happened; with ``max_steps`` only the beginning of the same run.

    A window begins at a random place within its stretch of the text, so that no two epochs see the same windows.
    """
    torch.manual_seed(recipe.seed)
    model = Decoder(recipe.config(text.vocabulary))
    ids, length = text.ids["train"], recipe.length
    windows = (len(ids) - 1) // length - 1
    total = recipe.epochs * math.ceil(windows / recipe.batch_size)
    total = total if recipe.steps is None else min(total, recipe.steps)
    places = torch.arange(length + 1)

    def loss_of(batch: list[int]) -> Tensor:
        starts = torch.tensor(batch)[:, None] * length + torch.randint(length, (len(batch), 1))
        return model.loss(ids[starts + places])

    history = train_model(
        model,
        loss_of,
        [length] * windows,
        torch.optim.AdamW(decay_groups(model.parameters(), recipe.weight_decay), lr=recipe.lr, betas=(0.9, 0.95)),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        schedule=partial(warmup_cosine, total=total, warmup=total // 20, floor=0.05),
        seed=recipe.seed,
        max_steps=total if max_steps is None else min(total, max_steps),
        callbacks=callbacks,
    )
    return model, history


def bits_per_character(model: Decoder, text: Text, part: Part, context: int) -> float:
    """What the model pays for a part, its first token left out; comparable across tokenizers of the same text."""
    ids = text.ids[part]
    nats = text_losses(model, ids, context=context).sum().item()
    return nats / math.log(2) / len(text.decode(ids[1:].tolist()))


def load(name: Literal["austen_gpt", "tang_gpt"], which: str = "") -> Decoder:
    """A shipped model, in evaluation mode; of the poems' two, ``which`` is "early" or "late".

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    text, recipe = (austen(), AUSTEN) if name == "austen_gpt" else (tang(), TANG)
    start = f"{which}." if which else ""
    model = Decoder(recipe.config(text.vocabulary))
    state = read_weights(name)
    model.load_state_dict({key.removeprefix(start): value for key, value in state.items() if key.startswith(start)})
    return model.eval()


def written(model: Decoder, text: Text, count: int, length: int, seed: int = 0) -> list[str]:
    """``count`` texts drawn from the model's own distribution, each from an empty line on."""
    start = text.encode(BETWEEN)
    draw = Sampling(generator=torch.Generator().manual_seed(seed))
    return [text.decode(ids) for ids in generate(model, [start] * count, length, sampling=draw)]


def main(name: Literal["austen_gpt", "tang_gpt"]) -> None:
    """Train one of the two, measure it, write it."""
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    state, record = _make_austen() if name == "austen_gpt" else _make_tang()
    record["cpu_seconds"] = round(time.process_time() - began)
    print(write_checkpoint(state, name, record))


def _sizes(text: Text) -> dict[str, Any]:
    return {part: {"tokens": len(ids), "documents": len(text.documents[part])} for part, ids in text.ids.items()}


def _make_austen() -> tuple[dict[str, Tensor], dict[str, Any]]:
    text, curve = austen(), []

    def look(step: Step) -> None:
        if step.step % 100 == 0:
            curve.append([step.step, round(step.loss, 4)])
            print(*curve[-1], flush=True)

    model, history = train(text, AUSTEN, callbacks=[look])
    state = {name: value.half().float() for name, value in model.state_dict().items()}
    model.load_state_dict(state)  # what is measured is what is shipped
    scores = {part: round(bits_per_character(model, text, part, AUSTEN.length), 4) for part in ("valid", "test")}
    print(scores)
    return state, {
        "recipe": asdict(AUSTEN),
        "data": {"asset": "novels", "train": TRAIN_BOOKS, "valid": "Northanger Abbey", "test": "Persuasion"},
        "tokens": AUSTEN_TOKENS,
        "sizes": _sizes(text),
        "first_losses": [round(x, 4) for x in history.losses[:12]],
        "losses_every_100": curve,
        "bits_per_character": scores,
    }


def _make_tang() -> tuple[dict[str, Tensor], dict[str, Any]]:
    text = tang()
    curve: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    index = NgramIndex(text.documents["train"], n=5, unit="characters")
    steps_an_epoch = math.ceil(((len(text.ids["train"]) - 1) // TANG.length - 1) / TANG.batch_size)

    def look(step: Step) -> None:
        epoch, left = divmod(step.step, steps_an_epoch)
        if left or not (epoch in (1, 2, 3, 4, 6, 8, 10, 12) or epoch % 5 == 0):
            return
        model = step.model
        assert isinstance(model, Decoder)
        point: dict[str, float] = {"epoch": epoch}
        for part in ("train", "valid", "test"):
            point[part] = round(bits_per_character(model, text, part, TANG.length), 4)
        model.eval()
        shares = [index.overlap(sample).share for sample in written(model, text, 20, 100)]
        model.train()
        counted = [share for share in shares if share is not None]
        point["copied"] = round(sum(counted) / len(counted), 4)
        if not curve or point["valid"] < min(p["valid"] for p in curve):
            best.update({name: value.clone() for name, value in model.state_dict().items()})
        curve.append(point)
        print(point, flush=True)

    model, history = train(text, TANG, callbacks=[look])
    state = {f"early.{name}": value for name, value in best.items()}
    state |= {f"late.{name}": value for name, value in model.state_dict().items()}
    return state, {
        "recipe": asdict(TANG),
        "data": {"asset": "tang poems", "split": "251, 31 and 31 of the 313, shuffled by seed 0"},
        "sizes": _sizes(text),
        "first_losses": [round(x, 4) for x in history.losses[:12]],
        "curve": curve,
        "copied": "share of the characters of 20 drawn texts that stand in a run of 5 of a training poem",
    }
