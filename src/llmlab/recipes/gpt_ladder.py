"""Two ladders on Jane Austen: from GPT-2 to Llama in five changes, and one model in five sizes.

``llmlab recipes gpt_to_llama`` trains six small models, each with one change more than the one before it, three seeds
each, on the same windows in the same order. ``llmlab recipes gpt_rates`` tries learning rates for five sizes, on
Northanger Abbey, and ``llmlab recipes gpt_sizes`` trains each size with its best, three seeds on one budget of
characters. The test is Persuasion, which nothing here was chosen on.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlab import runtime
from llmlab.assets import load_novels
from llmlab.estimate import Architecture, cache_bytes
from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.models.reading import text_losses
from llmlab.recipes.small_gpt import TRAIN_BOOKS
from llmlab.tasks.classify.checkpoints import FOLDER
from llmlab.train import train_model, warmup_cosine
from llmlab.train.optim import decay_groups

__all__ = ["CHANGES", "LLAMA", "SIZES", "Run", "Size", "characters", "main", "steps_to_llama", "test_blocks", "train"]

TEST_LENGTH, BLOCK = 24_000, 1_000

#: the five changes, in the order in which they are made, each a field or two of DecoderConfig
CHANGES: dict[str, dict[str, Any]] = {
    "RoPE for learned positions": {"positions": "rotary"},
    "RMSNorm for LayerNorm": {"norm": "rms"},
    "SwiGLU for GELU": {"activation": "swiglu", "hidden": 256},
    "no biases": {"bias": False},
    "2 key heads for 6": {"kv_heads": 2},
}


@dataclass(frozen=True)
class Run:
    """How one model of a ladder is trained."""

    length: int = 64
    batch_size: int = 4
    steps: int = 500
    lr: float = 3e-3
    weight_decay: float = 0.1


LLAMA = Run()
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Size:
    """A rung of the second ladder: width, layers, heads, and the highest learning rate."""

    d: int
    layers: int
    heads: int
    lr: float

    def config(self, vocabulary: int) -> DecoderConfig:
        """Of the Llama family."""
        return DecoderConfig(vocabulary, self.d, self.layers, self.heads, hidden=8 * self.d // 3 // 8 * 8, context=128)


#: each with the best of the rates that ``gpt_rates`` tried
SIZES = (
    Size(16, 2, 2, 1.6e-2),
    Size(32, 2, 2, 3e-3),
    Size(48, 3, 3, 4e-3),
    Size(96, 3, 4, 2e-3),
    Size(128, 5, 4, 1.5e-3),
)
SIZE_RUN = Run(steps=700)
#: width -> the rates tried; two seeds each that the ladder itself does not use
RATES = {
    16: (8e-3, 1.6e-2, 3.2e-2),
    32: (1.5e-3, 3e-3, 6e-3, 1.2e-2),
    48: (2e-3, 4e-3, 8e-3),
    96: (1e-3, 2e-3, 4e-3),
    128: (7.5e-4, 1.5e-3, 3e-3),
}
RATE_SEEDS = (7, 8)


def steps_to_llama(vocabulary: int) -> dict[str, DecoderConfig]:
    """Six configurations: GPT-2's, and one more after each change. At d = 96 a gated 256 is as large as a plain 384."""
    config = DecoderConfig.gpt2(vocabulary, 96, 2, 6, hidden=384, context=128)
    ladder = {"GPT-2": config}
    for name, change in CHANGES.items():
        config = replace(config, **change)
        ladder[name] = config
    return ladder


@lru_cache(maxsize=1)
def characters() -> tuple[str, Int[Tensor, " time"], Int[Tensor, " time"], Int[Tensor, " time"]]:
    """The known characters, and the novels for training, choosing and testing as numbers of them."""
    novels = load_novels()
    text = "\n\n".join(novels[title] for title in TRAIN_BOOKS)
    known = "".join(sorted(set(text)))
    number = {c: i for i, c in enumerate(known)}
    parts = (text, novels["Northanger Abbey"], novels["Persuasion"])
    train_ids, valid, test = (torch.tensor([number[c] for c in part if c in number]) for part in parts)
    return known, train_ids, valid, test


def train(
    config: DecoderConfig, ids: Int[Tensor, " time"], run: Run, seed: int, max_steps: int | None = None
) -> tuple[Decoder, list[float]]:
    """One model and the loss of every step. Models of one seed see the same windows in the same order."""
    torch.manual_seed(seed)
    model = Decoder(config)
    windows = torch.randint(
        len(ids) - run.length, (run.steps * run.batch_size,), generator=torch.Generator().manual_seed(seed)
    )
    places = torch.arange(run.length + 1)
    history = train_model(
        model,
        lambda batch: model.loss(ids[windows[batch][:, None] + places]),
        [run.length] * len(windows),
        torch.optim.AdamW(decay_groups(model.parameters(), run.weight_decay), lr=run.lr, betas=(0.9, 0.95)),
        batch_size=run.batch_size,
        schedule=partial(warmup_cosine, total=run.steps, warmup=run.steps // 20, floor=0.05),
        seed=seed,
        max_steps=max_steps,
    )
    return model, history.losses


def test_blocks(model: Decoder, ids: Int[Tensor, " time"]) -> Float[Tensor, " blocks"]:
    """The mean loss in nats of each block of 1,000 characters of the beginning of a held-out text."""
    return text_losses(model, ids[: TEST_LENGTH + 1], context=LLAMA.length).view(-1, BLOCK).mean(1)


def cache_bytes_a_token(config: DecoderConfig) -> int:
    """In 16 bits."""
    hidden = config.hidden or 4 * config.d
    shape = Architecture(
        config.d, config.layers, config.heads, hidden, config.vocabulary, kv_heads=config.kv_heads or config.heads
    )
    return cache_bytes(shape, tokens=1)


def main(name: Literal["gpt_to_llama", "gpt_rates", "gpt_sizes"]) -> None:
    """Train one ladder, measure it, write its record."""
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    record = {"gpt_to_llama": _make_llama, "gpt_rates": _make_rates, "gpt_sizes": _make_sizes}[name]()
    record["cpu_seconds"] = round(time.process_time() - began)
    record["made_with"] = {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]}
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


def _run(config: DecoderConfig, ids: Tensor, test: Tensor, run: Run, seed: int) -> dict[str, Any]:
    model, losses = train(config, ids, run, seed)
    blocks = test_blocks(model, test)
    print(f"{config.d}x{config.layers} seed {seed}: {losses[-1]:.3f}, test {blocks.mean():.4f}", flush=True)
    return {
        "seed": seed,
        "first_losses": [round(x, 4) for x in losses[:12]],
        "test": round(blocks.mean().item(), 5),
        "blocks": [round(x, 4) for x in blocks.tolist()],
    }


def _make_llama() -> dict[str, Any]:
    known, ids, _, test = characters()
    rungs: Mapping[str, DecoderConfig] = steps_to_llama(len(known))
    return {
        "what": "loss in nats a character on the first 24,000 characters of Persuasion",
        "run": LLAMA.__dict__,
        "characters": LLAMA.steps * LLAMA.batch_size * LLAMA.length,
        "rungs": [
            {
                "change": change,
                "parameters": sum(p.numel() for p in Decoder(config).parameters()),
                "cache_bytes": cache_bytes_a_token(config),
                "runs": [_run(config, ids, test, LLAMA, seed) for seed in SEEDS],
            }
            for change, config in rungs.items()
        ],
    }


def _make_rates() -> dict[str, Any]:
    known, ids, valid, _ = characters()
    tried = []
    for size in SIZES:
        for lr in RATES[size.d]:
            models = (train(size.config(len(known)), ids, replace(SIZE_RUN, lr=lr), seed)[0] for seed in RATE_SEEDS)
            losses = [round(test_blocks(model, valid).mean().item(), 4) for model in models]
            tried.append({"d": size.d, "lr": lr, "valid": losses})
            print(tried[-1], flush=True)
    return {
        "what": "loss in nats a character on the first 24,000 characters of Northanger Abbey, seeds 7 and 8",
        "run": SIZE_RUN.__dict__,
        "tried": tried,
    }


def _make_sizes() -> dict[str, Any]:
    known, ids, _, test = characters()
    rungs = []
    for size in SIZES:
        config = size.config(len(known))
        total = sum(p.numel() for p in Decoder(config).parameters())
        run = replace(SIZE_RUN, lr=size.lr)
        runs = [_run(config, ids, test, run, seed) for seed in SEEDS]
        rungs.append({**size.__dict__, "parameters": total, "blocks_only": total - len(known) * size.d, "runs": runs})
    return {
        "what": "loss in nats a character on the first 24,000 characters of Persuasion",
        "run": SIZE_RUN.__dict__,
        "characters": SIZE_RUN.steps * SIZE_RUN.batch_size * SIZE_RUN.length,
        "rungs": rungs,
    }
