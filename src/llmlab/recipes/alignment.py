"""Instruction tuning with the loss on the answer or on everything, then DPO on derived preferences, both measured.

``python -m llmlab.recipes.alignment sft_mask`` writes ``sft_mask.json``, with ``dpo_short`` it writes
``dpo_short.json`` and ``dpo_short.safetensors``. The instructions are film snippets with a question; their labels come
from human ratings. The preferences are derived, not human: of SmolLM2's own answer to a real question the first
sentence is preferred to the whole. What that teaches is known beforehand, so that what else it does can be told apart.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab import assets, runtime
from llmlab.generate import Sampling, generate
from llmlab.models.decoder import Decoder
from llmlab.models.load import smollm2
from llmlab.recipes.four_ways import Recipe as FilmRecipe
from llmlab.recipes.four_ways import parts, prose_loss, write_adapters
from llmlab.recipes.passages import HELD_OUT
from llmlab.tasks.classify import Labelled
from llmlab.train import fit, train_model, warmup_cosine
from llmlab.train.dpo import Preference, dpo_loss, sequence_logprobs
from llmlab.train.lora import adapters_off, add_lora
from llmlab.train.sft import Batch, Example, answer_loss, answer_only, collate

__all__ = [
    "FOLDER",
    "Pair",
    "Recipe",
    "divergence",
    "examples",
    "first_sentence",
    "main",
    "make_pairs",
    "preference",
    "questions",
    "replies",
    "turn",
]

FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"
END = 2  #: <|im_end|>
ASK = "Film review: {}\nIs the reviewer for or against the film?"
ANSWERS = ("Verdict: negative.", "Verdict: positive.")


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand."""

    examples: int = 128
    held_out: int = 48
    evaluate_every: int = 4
    batch_size: int = 8
    rank: int = 8
    sft_lr: float = 2e-3
    sft_seeds: tuple[int, ...] = (0, 1, 2)
    pairs: int = 40
    held_out_pairs: int = 16
    reply_tokens: int = 48
    beta: float = 0.1
    dpo_lr: float = 1e-3
    dpo_epochs: int = 3
    dpo_repeats: tuple[int, ...] = (1, 2)


class Pair(NamedTuple):
    """A question and two answers to it, in tokens; ``chosen`` ends with the end token."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def turn(tokenizer: Any, text: str) -> list[int]:
    """A user's message in SmolLM2's chat format, up to where the assistant speaks; without a system message."""
    return tokenizer.encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)


def examples(tokenizer: Any, part: Labelled, *, everything: bool) -> list[Example]:
    """Prompt and answer of each snippet, the prompt's tokens counted in the loss or not."""
    made = []
    for text, label in zip(part.texts, part.labels):
        answer = tokenizer.encode(ANSWERS[label], add_special_tokens=False)
        example = answer_only(turn(tokenizer, ASK.format(text)), [*answer, END])
        made.append(Example(example.ids, list(example.ids)) if everything else example)
    return made


def sft(recipe: Recipe, train: Labelled, held: Labelled, seed: int, *, everything: bool) -> dict[str, Any]:
    """Tune adapters on one epoch; ``trace`` has (step, held-out nats a token of the answers, accuracy)."""
    model, (_, tokenizer) = smollm2(), assets.load_smollm2()
    torch.manual_seed(seed)
    add_lora(model, ["attend.qkv"], recipe.rank)
    made = examples(tokenizer, train, everything=everything)
    test = examples(tokenizer, held, everything=False)

    def loss_of(indices: list[int]) -> Tensor:
        batch = collate([made[i] for i in indices], END)
        with torch.autocast("cpu", torch.bfloat16):
            return answer_loss(model(batch.ids, batch.mask), batch.labels)

    trace = [(0, *answers_scored(model, test))]

    def evaluate() -> float:
        trace.append((recipe.evaluate_every * len(trace), *answers_scored(model, test)))
        return trace[-1][1]

    train_model(
        model,
        loss_of,
        [len(e.ids) for e in made],
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=recipe.sft_lr, weight_decay=0.0),
        batch_size=recipe.batch_size,
        schedule=partial(warmup_cosine, total=len(made) // recipe.batch_size, warmup=1),
        seed=seed,
        evaluate=evaluate,
        evaluate_every=recipe.evaluate_every,
    )
    prompts = [e.ids[: sum(label < 0 for label in e.labels)] for e in test[:24]]
    written = generate(model, prompts, 8, stop=[END])
    formed = sum(tokenizer.decode(w, skip_special_tokens=True) in ANSWERS for w in written) / len(written)
    return {"everything": everything, "seed": seed, "trace": trace, "in_format": round(formed, 4)}


@torch.no_grad()
def answers_scored(model: Decoder, test: Sequence[Example]) -> tuple[float, float]:
    """Nats a token of the right answers, and the share of texts whose right answer is likelier than the wrong one."""
    ids_of = [assets.load_smollm2()[1].encode(a, add_special_tokens=False) + [END] for a in ANSWERS]
    total = count = right = 0.0
    for start in range(0, len(test), 16):
        rows, sums = test[start : start + 16], []
        for ids in ids_of:
            swapped = [answer_only(e.ids[: -len(ids)], ids) for e in rows]
            batch = collate(swapped, END)
            with torch.autocast("cpu", torch.bfloat16):
                sums.append(sequence_logprobs(model(batch.ids, batch.mask), batch.labels))
        truth = [ids_of.index(e.ids[-len(ids_of[0]) :]) for e in rows]
        for i, label in enumerate(truth):
            total -= sums[label][i].item()
            count += len(ids_of[label])
            right += float(sums[label][i] > sums[1 - label][i])
    return round(total / count, 4), round(right / len(test), 4)


def questions(recipe: Recipe) -> list[str]:
    """Real questions to a chatbot, of five words or more, in a fixed order."""
    found = [q for q in assets.load_conversations()["english"] if q.endswith("?") and 5 <= len(q.split()) <= 16]
    found = [q for q in dict.fromkeys(found) if re.match(r"(What|Which|Who|How|Why|Where)\b", q)]
    return found[:: max(1, len(found) // (2 * (recipe.pairs + recipe.held_out_pairs)))]


def first_sentence(text: str) -> str | None:
    """Up to the first full stop that is followed by more; None where there is no second sentence."""
    found = re.match(r"(.{15,}?[.!?])\s+\S", text, re.DOTALL)
    return None if found is None or "\n" in found[1] else found[1]


def replies(
    model: Decoder, prompts: Sequence[list[int]], recipe: Recipe, sampling: Sampling | None = None
) -> list[list[int]]:
    """What the model answers, cut after ``reply_tokens``."""
    found: list[list[int]] = []
    for start in range(0, len(prompts), 24):
        with torch.autocast("cpu", torch.bfloat16):
            found += generate(model, prompts[start : start + 24], recipe.reply_tokens, sampling=sampling, stop=[END])
    return found


def make_pairs(model: Decoder, tokenizer: Any, recipe: Recipe) -> list[Pair]:
    """The model's own answers: the first sentence and an end is preferred, the whole is not."""
    made: list[Pair] = []
    asked = [turn(tokenizer, q) for q in questions(recipe)]
    for start in range(0, len(asked), 48):
        for prompt, reply in zip(asked[start : start + 48], replies(model, asked[start : start + 48], recipe)):
            short = first_sentence(tokenizer.decode(reply, skip_special_tokens=True))
            if short is not None:
                chosen = tokenizer.encode(short, add_special_tokens=False)
                made.append(Pair(prompt, [*chosen, END], reply))
        if len(made) >= recipe.pairs + recipe.held_out_pairs:
            break
    return made[: recipe.pairs + recipe.held_out_pairs]


def _logps(model: Decoder, batch: Batch) -> Float[Tensor, " texts"]:
    with torch.autocast("cpu", torch.bfloat16):
        return sequence_logprobs(model(batch.ids, batch.mask), batch.labels)


def preference(model: Decoder, pairs: Sequence[Pair], beta: float) -> Preference:
    """DPO's loss of these pairs; the reference is the model with its adapters off."""
    batch = collate([answer_only(p.prompt, answer) for p in pairs for answer in (p.chosen, p.rejected)], END)
    with torch.no_grad(), adapters_off(model):
        reference = _logps(model, batch)
    now = _logps(model, batch)
    return dpo_loss(now[0::2], now[1::2], reference[0::2], reference[1::2], beta)


@torch.no_grad()
def divergence(model: Decoder, prompts: Sequence[list[int]], written: Sequence[list[int]]) -> float:
    """KL(model ‖ reference) in nats a token, over the tokens that the model itself wrote: exact in the vocabulary."""
    total = count = 0.0
    for start in range(0, len(prompts), 8):
        rows = [answer_only(p, w) for p, w in zip(prompts[start : start + 8], written[start : start + 8])]
        batch = collate(rows, END)
        with torch.autocast("cpu", torch.bfloat16):
            now = model(batch.ids, batch.mask)
            with adapters_off(model):
                reference = model(batch.ids, batch.mask)
        keep = batch.labels[:, 1:] >= 0
        p, q = (x[:, :-1][keep].float().log_softmax(-1) for x in (now, reference))
        total += (p.exp() * (p - q)).sum().item()
        count += len(p)
    return total / count


def _examine(model: Decoder, tokenizer: Any, held: Sequence[Pair], recipe: Recipe) -> dict[str, Any]:
    found = [preference(model, held[i : i + 8], recipe.beta) for i in range(0, len(held), 8)]
    chosen, rejected = (torch.cat([getattr(f, name) for f in found]) for name in ("chosen", "rejected"))
    prompts = [p.prompt for p in held]
    written = replies(model, prompts, recipe, Sampling(generator=torch.Generator().manual_seed(0)))
    texts = [tokenizer.decode(w, skip_special_tokens=True) for w in written]
    return {
        "chosen": [round(x, 4) for x in chosen.tolist()],
        "rejected": [round(x, 4) for x in rejected.tolist()],
        "kl_a_token": round(divergence(model, prompts, written), 5),
        "words": [len(t.split()) for t in texts],
        "ended": sum(w[-1] == END for w in written) / len(written),
        "prose": round(prose_loss(model, tokenizer, HELD_OUT), 4),
        "texts": texts[:4],
    }


def dpo(recipe: Recipe) -> dict[str, Any]:
    """Adapters trained on the pairs; what they do to held-out pairs, to free answers and to prose, on the way.

    Once in the pairs' order with ``dpo_short.safetensors`` as its result, and once for each of ``dpo_repeats`` with
    other pairs held out, of which the beginning and the end are kept.
    """
    _, tokenizer = assets.load_smollm2()
    pairs = make_pairs(smollm2(), tokenizer, recipe)
    train, held = pairs[: recipe.pairs], pairs[recipe.pairs :]
    print(len(train), "pairs to train,", len(held), "held out", flush=True)
    model, trace, losses = dpo_run(tokenizer, train, held, recipe, 0)
    write_adapters(model, "dpo_short.safetensors")
    repeats = []
    for seed in recipe.dpo_repeats:
        mixed = random.Random(seed).sample(pairs, len(pairs))
        _, other, _ = dpo_run(tokenizer, mixed[: recipe.pairs], mixed[recipe.pairs :], recipe, seed)
        repeats.append({"seed": seed, "first": _short(other[0]), "last": _short(other[-1])})
        print(repeats[-1], flush=True)
    shown = [[tokenizer.decode(part, skip_special_tokens=False) for part in pair] for pair in held[:3]]
    return {
        "pairs": [p._asdict() for p in held],
        "losses": [round(x, 4) for x in losses],
        "trace": trace,
        "repeats": repeats,
        "examples": shown,
    }


def _short(examined: dict[str, Any]) -> dict[str, Any]:
    """What a repeat keeps: all but the texts."""
    return {name: value for name, value in examined.items() if name != "texts"}


def dpo_run(
    tokenizer: Any, train: Sequence[Pair], held: Sequence[Pair], recipe: Recipe, seed: int
) -> tuple[Decoder, list[dict[str, Any]], list[float]]:
    """One training: the model with its adapters, what was examined before it and after each epoch, and the losses."""
    model = smollm2()
    torch.manual_seed(seed)
    add_lora(model, ["attend.qkv"], recipe.rank)
    trace = [{"epochs": 0, **_examine(model, tokenizer, held, recipe)}]

    def evaluate() -> float:
        trace.append({"epochs": len(trace), **_examine(model, tokenizer, held, recipe)})
        shown = {k: v for k, v in trace[-1].items() if k not in ("chosen", "rejected", "words")}
        print(shown, sum(trace[-1]["chosen"]) / len(held), sum(trace[-1]["rejected"]) / len(held), flush=True)
        return 0.0

    history = fit(
        model,
        lambda batch: preference(model, [train[i] for i in batch], recipe.beta).loss,
        [len(p.rejected) for p in train],
        epochs=recipe.dpo_epochs,
        batch_size=8,
        lr=recipe.dpo_lr,
        seed=seed,
        evaluate=evaluate,
    )
    return model, trace, history.losses


def main(what: str, recipe: Recipe | None = None) -> None:
    """Make one of the two."""
    if what not in ("sft_mask", "dpo_short"):
        raise SystemExit(f"{what!r}: expected sft_mask or dpo_short")
    recipe = recipe or Recipe()
    runtime.setup(threads=1)
    began = time.process_time()
    record: dict[str, Any] = {"recipe": asdict(recipe)}
    if what == "sft_mask":
        film = FilmRecipe()
        train, held = (part.sample(n, seed=1) for part, n in zip(parts(film), (recipe.examples, recipe.held_out)))
        record["runs"] = []
        for seed in recipe.sft_seeds:
            for everything in (False, True):
                record["runs"].append(sft(recipe, train, held, seed, everything=everything))
                print(record["runs"][-1], round(time.process_time() - began), flush=True)
    else:
        record |= dpo(recipe)
    record["cpu_seconds"] = round(time.process_time() - began)
    (FOLDER / f"{what}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    print(what, record["cpu_seconds"], "CPU seconds")


if __name__ == "__main__":
    main(sys.argv[1])
