"""The character transformer of notebooks 12 and 27, trained on the Chinese reviews in a few minutes on one thread.

``python -m llmlab.recipes.review_char`` trains it and writes ``review_char.safetensors`` and ``review_char.json`` into
the package. The test part of the reviews is not looked at: the model is chosen and described with the validation part.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from llmlab import assets, runtime
from llmlab.metrics import accuracy, log_loss
from llmlab.tasks.classify import Characters, CharClassifier, CharConfig, Labelled, split, write_checkpoint
from llmlab.train import History, fit

__all__ = ["Recipe", "main", "train"]


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand."""

    epochs: int = 6
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.01
    hide: float = 0.1  # share of characters hidden while training
    seed: int = 0
    max_steps: int | None = None  # only the first steps of the run, for a look


def train(train_part: Labelled, validation: Labelled | None, recipe: Recipe) -> tuple[CharClassifier, History]:
    """Train a new model; with ``validation``, its accuracy there is recorded after every epoch."""
    runtime.seed_everything(recipe.seed)
    characters = Characters.learn(train_part.texts)
    model = CharClassifier(characters, CharConfig())
    rows = characters.encode(train_part.texts)

    def loss_of(batch: list[int]) -> torch.Tensor:
        return model.loss([rows[i] for i in batch], [train_part.labels[i] for i in batch], hide=recipe.hide)

    def evaluate() -> float:
        assert validation is not None
        score = accuracy(validation.labels, model.predict_proba(validation.texts).argmax(1))
        print(f"validation accuracy {score:.4f}", flush=True)
        return score

    history = fit(
        model,
        loss_of,
        [len(row) for row in rows],
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        max_steps=recipe.max_steps,
        evaluate=evaluate if validation else None,
    )
    return model, history


def main(recipe: Recipe | None = None) -> None:
    """Train, describe, write."""
    recipe = recipe or Recipe()
    runtime.setup(seed=recipe.seed, threads=1)
    reviews = assets.load_reviews()
    parts = split(reviews.texts, reviews.labels)
    began = time.process_time()
    model, history = train(parts["train"], parts["validation"], recipe)
    seconds = time.process_time() - began
    model = model.half().float()  # what is described is what is shipped
    held = parts["validation"]
    probabilities = model.predict_proba(held.texts)
    steps_a_point = 50
    record = {
        "recipe": {**replace(recipe).__dict__},
        "data": {"asset": "reviews", "deduplicated": True, **{name: len(part) for name, part in parts.items()}},
        "validation": {
            "accuracy": accuracy(held.labels, probabilities.argmax(1)),
            "log_loss": log_loss(held.labels, probabilities),
            "accuracy_by_epoch": history.scores,
        },
        "first_losses": [round(loss, 4) for loss in history.losses[:12]],
        "train_loss": [
            round(float(np.mean(history.losses[i : i + steps_a_point])), 4)
            for i in range(0, len(history.losses), steps_a_point)
        ],
        "train_loss_steps_a_point": steps_a_point,
        "cpu_seconds": round(seconds),
    }
    print(write_checkpoint(model.state_dict(), "review_char", {"model": model.describe(), **record}))


if __name__ == "__main__":
    main()
