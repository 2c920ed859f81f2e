"""SmolLM2 adapted to film snippets by a prompt, a probe, LoRA and full tuning: what each costs, and what it forgets.

``python -m llmlab.recipes.four_ways`` writes ``four_ways.json`` into the package, and two files of adapters:
``film_lora.safetensors``, the trained ones, and ``film_rank1.safetensors``, the best rank-1 approximation of what full
tuning did to each matrix. All methods read the same 320 labels and answer by the same two words; two more draws of
labels say how much of a result is the draw's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmlab import assets, runtime
from llmlab.models.decoder import Decoder
from llmlab.models.load import smollm2
from llmlab.recipes.film import PROMPT, film_parts
from llmlab.recipes.passages import HELD_OUT
from llmlab.tasks.classify import AnswerClassifier, Labelled
from llmlab.train import fit, state_bytes
from llmlab.train.lora import LoRALinear, add_lora, lora_layers, save_lora, trained_parameters

__all__ = [
    "MATRICES",
    "RECORD",
    "Recipe",
    "changes",
    "classifier",
    "low_rank",
    "main",
    "moved",
    "parts",
    "prose_loss",
    "step_memory",
    "train",
]

RECORD = Path(__file__).resolve().parents[1] / "checkpoints" / "four_ways.json"
#: the matrices of a block, by the ends of their paths
MATRICES = ("attend.qkv", "attend.out", "feedforward.gate", "feedforward.up", "feedforward.down")
WORDS = (" negative", " positive")


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand."""

    labels: int = 320
    test: int = 300
    epochs: int = 2
    batch_size: int = 16
    max_characters: int = 140
    rank: int = 8
    alpha: float = 16.0
    lora_lr: float = 1e-3
    full_lr: float = 2e-5
    wiping_lr: float = 1e-3
    seed: int = 0
    repeats: tuple[int, ...] = (1, 2)


def parts(recipe: Recipe) -> tuple[Labelled, Labelled]:
    """What is trained on, by the recipe's seed, and what is tested on, always the same."""
    film = film_parts()
    short = {
        name: part.take(i for i, text in enumerate(part.texts) if len(text) <= recipe.max_characters)
        for name, part in film.items()
    }
    return short["train"].sample(recipe.labels, seed=recipe.seed), short["test"].sample(recipe.test)


def classifier() -> AnswerClassifier:
    """SmolLM2, fresh, with the prompt and the two words."""
    _, tokenizer = assets.load_smollm2()
    return AnswerClassifier(smollm2(), tokenizer, PROMPT, WORDS)


def train(
    model: AnswerClassifier, part: Labelled, recipe: Recipe, *, lora: bool, lr: float, max_steps: int | None = None
) -> list[float]:
    """Adapters in every block's attention, or all weights, trained in place; the loss of every step."""
    torch.manual_seed(recipe.seed)
    if lora:
        add_lora(model.model, ["attend.qkv"], recipe.rank, recipe.alpha)

    def loss_of(batch: list[int]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):  # the weights and the optimizer stay in float32
            return model.loss([part.texts[i] for i in batch], [part.labels[i] for i in batch])

    return fit(
        model,
        loss_of,
        [len(text) for text in part.texts],
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        lr=lr,
        weight_decay=0.0,
        seed=recipe.seed,
        max_steps=max_steps,
    ).losses


def right(model: AnswerClassifier, part: Labelled) -> np.ndarray:
    """Which of the texts are answered right, as booleans."""
    with torch.autocast("cpu", torch.bfloat16):
        return model.predict_proba(part.texts).argmax(1) == np.array(part.labels)


@torch.no_grad()
def prose_loss(model: Decoder, tokenizer: Any, texts: Sequence[str]) -> float:
    """Nats a token over ``texts``, each read alone: the logarithm of their perplexity."""
    total = count = 0.0
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        total += model.loss(ids).item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return total / count


def novel() -> list[str]:
    """A passage of 1,500 characters out of each of two novels."""
    return [text[200_000:201_500] for text in list(assets.load_novels().values())[:2]]


def step_memory(model: AnswerClassifier, part: Labelled) -> dict[str, int]:
    """Bytes that one training step holds, in float32 with AdamW and 4 texts: measured, not computed.

    ``gradients`` and ``optimizer`` are what stays after the step, ``peak`` the most that was held at one time beyond
    the weights, activations included. The weights are moved by a rate of 0.
    """
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0, foreach=False)

    def step() -> None:
        model.loss(part.texts[:4], part.labels[:4]).backward()
        optimizer.step()

    model.zero_grad(set_to_none=True)  # gradients left over from training would not be counted
    peak = runtime.peak_memory(step, torch.device("cpu"))
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    found = {"gradients": gradients, "optimizer": state_bytes(optimizer), "peak": peak}
    model.zero_grad(set_to_none=True)
    return found


def changes(model: Decoder, before: dict[str, Tensor]) -> Iterator[tuple[str, Float[Tensor, "d_out d_in"]]]:
    """Path and W - W₀ of each matrix in the blocks: the adapters' product where there are some."""
    for path, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield path, module.delta()
        elif path.endswith(MATRICES) and isinstance(module, nn.Linear):
            yield path, module.weight.detach() - before[f"{path}.weight"]


def moved(delta: Float[Tensor, "d_out d_in"], weight: Float[Tensor, "d_out d_in"]) -> dict[str, Any]:
    """How far a matrix moved and in how many directions.

    ``relative`` is ‖ΔW‖ / ‖W‖ (Frobenius); ``energy`` the share of ‖ΔW‖² in its 1, 2, 4 … 256 largest singular
    values; ``stable_rank`` ‖ΔW‖² over the square of the largest one.
    """
    wide = delta.detach().double()
    gram = wide.T @ wide if wide.shape[0] > wide.shape[1] else wide @ wide.T
    squares = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)
    total = squares.sum().clamp(min=1e-300)
    share = squares.cumsum(0) / total
    return {
        "relative": (wide.norm() / weight.norm()).item(),
        "stable_rank": (total / squares[0].clamp(min=1e-300)).item(),
        "energy": [round(share[min(k, len(share)) - 1].item(), 4) for k in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
    }


def low_rank(delta: Float[Tensor, "d_out d_in"], rank: int) -> tuple[Tensor, Tensor]:
    """B (out, rank) and A (rank, in) whose product is the best approximation of ``delta`` of this rank."""
    u, s, v = torch.svd_lowrank(delta, q=min(rank + 8, *delta.shape), niter=4)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:, :rank].T


@contextmanager
def weights(model: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """``model`` with some other weights for a while."""
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if name in state}
    model.load_state_dict(state, strict=False)
    try:
        yield
    finally:
        model.load_state_dict(kept, strict=False)


def write_adapters(model: nn.Module, file: str) -> None:
    """In 16 bits: half the size, and no answer depends on more."""
    for layer in lora_layers(model).values():
        layer.a.data, layer.b.data = layer.a.data.half(), layer.b.data.half()
    save_lora(model, RECORD.with_name(file))


def main(recipe: Recipe | None = None) -> None:
    """Adapt, measure, write."""
    recipe = recipe or Recipe()
    runtime.setup(threads=1)
    began = time.process_time()
    train_part, test = parts(recipe)
    record: dict[str, Any] = {"recipe": asdict(recipe), "prompt": PROMPT, "words": WORDS, "methods": {}}

    def measured(name: str, model: AnswerClassifier, **more: Any) -> None:
        answers = right(model, test)
        record["methods"][name] = {
            "right": "".join("1" if r else "0" for r in answers),
            "accuracy": round(float(answers.mean()), 4),
            "prose": round(prose_loss(model.model, model.tokenizer, HELD_OUT), 4),
            "novels": round(prose_loss(model.model, model.tokenizer, novel()), 4),
            **more,
        }
        shown = {k: v for k, v in record["methods"][name].items() if k not in ("right", "layers", "losses")}
        print(f"{time.process_time() - began:4.0f} s", name, shown, flush=True)
        record["cpu_seconds"] = round(time.process_time() - began)
        RECORD.write_text(json.dumps(record) + "\n", encoding="utf-8")

    model = classifier().requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    measured("prompt", model, trained=0)
    probe_right = probe(model, train_part, test, recipe)
    record["methods"]["probe"] = {**record["methods"]["prompt"], **probe_right}
    print("probe", record["methods"]["probe"]["accuracy"], flush=True)

    def adapt(name: str, lora: bool, lr: float) -> AnswerClassifier:
        model = classifier()
        losses = train(model, train_part, recipe, lora=lora, lr=lr)
        layers = {path: moved(delta, before[path + ".weight"]) for path, delta in changes(model.model, before)}
        more = {"trained": trained_parameters(model)[0], "losses": [round(x, 4) for x in losses], "layers": layers}
        if not lora:
            after = dict(model.model.named_parameters())
            matrices = {path + ".weight" for path in layers}
            same = sum(int((after[n].bfloat16() == before[n].bfloat16()).sum()) for n in matrices)
            more["same_in_bfloat16"] = round(same / sum(before[n].numel() for n in matrices), 4)
        if name != "wiped":
            more["memory"] = step_memory(model, train_part)
        measured(name, model, **more)
        return model

    lora = adapt("LoRA", True, recipe.lora_lr)
    write_adapters(lora.model, "film_lora.safetensors")
    del lora
    full = adapt("full", False, recipe.full_lr)
    deltas = dict(changes(full.model, before))
    rounded = {name: p.detach().bfloat16().float() for name, p in full.model.named_parameters()}
    with weights(full.model, rounded):
        measured("full, rounded to bfloat16", full)
    del full, rounded
    model = rank_one(deltas)
    measured("full, rank 1", model)
    write_adapters(model.model, "film_rank1.safetensors")
    del model
    adapt("wiped", False, recipe.wiping_lr)
    record["repeats"] = []
    for seed in recipe.repeats:
        record["repeats"].append(repeat(replace(recipe, seed=seed), before))
        print(f"{time.process_time() - began:4.0f} s", record["repeats"][-1], flush=True)
        record["cpu_seconds"] = round(time.process_time() - began)
        RECORD.write_text(json.dumps(record) + "\n", encoding="utf-8")
    print(RECORD.name, record["cpu_seconds"], "CPU seconds")


def rank_one(deltas: dict[str, Tensor]) -> AnswerClassifier:
    """The pretrained model with the best rank-1 approximation of each of ``deltas`` beside its matrix."""
    model = classifier()
    add_lora(model.model, list(MATRICES), rank=1, alpha=1.0)
    for path, layer in lora_layers(model.model).items():
        layer.b.data, layer.a.data = low_rank(deltas[path], 1)
    return model


def repeat(recipe: Recipe, before: dict[str, Tensor]) -> dict[str, Any]:
    """Probe, LoRA, full tuning and its rank-1 part once more, on the labels and in the order of ``recipe.seed``.

    ``moved`` is the mean of ‖ΔW‖ / ‖W‖ over the attention's query-key-value matrices.
    """
    train_part, test = parts(recipe)
    found: dict[str, Any] = {"seed": recipe.seed}

    def measure(name: str, model: AnswerClassifier, **more: float) -> None:
        loss = prose_loss(model.model, model.tokenizer, HELD_OUT)
        found[name] = {"accuracy": round(float(right(model, test).mean()), 4), "prose": round(loss, 4), **more}

    found["probe"] = {"accuracy": probe(classifier(), train_part, test, recipe)["accuracy"]}
    for name, lora, lr in (("LoRA", True, recipe.lora_lr), ("full", False, recipe.full_lr)):
        model = classifier()
        train(model, train_part, recipe, lora=lora, lr=lr)
        deltas = dict(changes(model.model, before))
        far = [(d.norm() / before[f"{p}.weight"].norm()).item() for p, d in deltas.items() if p.endswith("attend.qkv")]
        measure(name, model, moved=round(float(np.mean(far)), 6))
        del model
    measure("full, rank 1", rank_one(deltas))
    return found


def probe(model: AnswerClassifier, train_part: Labelled, test: Labelled, recipe: Recipe) -> dict[str, Any]:
    """A logistic regression on the state that the prompt's last token ends with; its strength chosen by folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def read(part: Labelled) -> np.ndarray:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            rows = [model.features(part.texts[i : i + 16]).float() for i in range(0, len(part), 16)]
        return torch.cat(rows).numpy()

    x, held = read(train_part), read(test)
    fitted = make_pipeline(
        StandardScaler(), GridSearchCV(LogisticRegression(max_iter=500), {"C": [1e-4, 1e-3, 1e-2, 0.1]}, cv=5)
    )
    answers = fitted.fit(x, train_part.labels).predict(held) == np.array(test.labels)
    return {
        "right": "".join("1" if r else "0" for r in answers),
        "accuracy": round(float(answers.mean()), 4),
        "trained": x.shape[1] + 1,
    }


if __name__ == "__main__":
    main()
