"""What are labels worth, with and without pretraining? Film snippets, 50 to 5,000 labels, four ways, several draws.

``python -m llmlab.recipes.label_curves`` trains and writes ``label_curves.json`` into the package. MiniLM's
architecture is trained from random weights and from its pretrained ones; a logistic regression reads the frozen model;
another reads word counts and has seen no other text. Random weights get the better of two rates, by the first draw's
score on 400 validation snippets. Test: 600 snippets that no run sees.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmlab import assets, runtime
from llmlab.metrics import accuracy
from llmlab.recipes.film import film_parts
from llmlab.tasks.classify import EncoderClassifier, Labelled, LinearClassifier, sentence_features
from llmlab.train import fit

__all__ = ["METHODS", "RECORD", "Recipe", "main", "run", "test_part", "train_encoder", "validation_part"]

RECORD = Path(__file__).resolve().parents[1] / "checkpoints" / "label_curves.json"
METHODS = ("word counts", "frozen probe", "from scratch", "fine-tuned")


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand; epochs and draws go with ``labels``, one for each.

    Random weights get more epochs than pretrained ones, and a rate of their own at each size: with the pretrained
    weights' they would look worse than they are.
    """

    labels: tuple[int, ...] = (50, 200, 800, 5000)
    fine_tuning_epochs: tuple[int, ...] = (8, 6, 3, 1)
    scratch_epochs: tuple[int, ...] = (16, 12, 6, 2)
    draws: tuple[int, ...] = (3, 3, 3, 3)
    batch_size: int = 16
    fine_tuning_lr: float = 1e-4
    scratch_lrs: tuple[float, ...] = (2e-4, 5e-4)
    max_characters: int = 140
    validation: int = 400
    test: int = 600


def train_part(recipe: Recipe) -> Labelled:
    """The training snippets that are short enough for this budget (most are)."""
    return _short("train", recipe)


def validation_part(recipe: Recipe) -> Labelled:
    """The snippets by which a rate is chosen."""
    return _short("validation", recipe).sample(recipe.validation)


def test_part(recipe: Recipe) -> Labelled:
    """The test snippets, short ones as in training."""
    return _short("test", recipe).sample(recipe.test)


def _short(name: str, recipe: Recipe) -> Labelled:
    part = film_parts()[name]
    return part.take(i for i, text in enumerate(part.texts) if len(text) <= recipe.max_characters)


def train_encoder(
    part: Labelled, recipe: Recipe, seed: int, *, pretrained: bool, lr: float | None = None
) -> EncoderClassifier:
    """MiniLM trained throughout, from its own weights or from random ones; ``lr`` if not the recipe's.

    Raises:
        ValueError: a number of labels that the recipe does not name, or random weights without a rate.
    """
    if not pretrained and lr is None:
        raise ValueError(f"random weights have no rate of their own: give one of {recipe.scratch_lrs}")
    if len(part) not in recipe.labels:
        raise ValueError(f"{len(part)} labels: expected one of {', '.join(map(str, recipe.labels))}")
    size = recipe.labels.index(len(part))
    epochs = (recipe.fine_tuning_epochs if pretrained else recipe.scratch_epochs)[size]
    body, tokenizer = assets.load_minilm()
    torch.manual_seed(seed)
    if not pretrained:
        body = type(body)(body.config)
    model = EncoderClassifier(body, tokenizer, "all")

    def loss_of(batch: list[int]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):  # half the time where the processor has bfloat16 units
            return model.loss([part.texts[i] for i in batch], [part.labels[i] for i in batch])

    fit(
        model,
        loss_of,
        [len(text) for text in part.texts],
        epochs=epochs,
        batch_size=recipe.batch_size,
        lr=recipe.fine_tuning_lr if lr is None else lr,
        seed=seed,
    )
    return model


def run(method: str, part: Labelled, test: Labelled, recipe: Recipe, seed: int, lr: float | None = None) -> float:
    """The accuracy of ``method`` on ``test`` after training on ``part``; ``lr`` for random weights."""
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    if method == "word counts":
        words = LinearClassifier("word", (1, 2)).fit(part.texts, part.labels)
        return accuracy(test.labels, words.predict_proba(test.texts).argmax(1))
    if method == "frozen probe":
        from sklearn.linear_model import LogisticRegression

        body, tokenizer = assets.load_minilm()
        x, held = (sentence_features(body, tokenizer, p.texts).numpy() for p in (part, test))
        return accuracy(test.labels, LogisticRegression(C=10.0, max_iter=2000).fit(x, part.labels).predict(held))
    model = train_encoder(part, recipe, seed, pretrained=method == "fine-tuned", lr=lr)
    return accuracy(test.labels, model.predict_proba(test.texts).argmax(1))


def main(recipe: Recipe | None = None) -> None:
    """Train all, test, write after every size."""
    recipe = recipe or Recipe()
    runtime.setup(threads=1)
    train, valid, test = train_part(recipe), validation_part(recipe), test_part(recipe)
    began, runs, rates = time.process_time(), [], []
    for count, draws in zip(recipe.labels, recipe.draws):
        first = train.sample(count, seed=0)
        tried = {lr: run("from scratch", first, valid, recipe, 0, lr) for lr in recipe.scratch_lrs}
        best = max(tried, key=tried.__getitem__)
        rates += [
            {"labels": count, "lr": lr, "validation": round(score, 5), "chosen": lr == best}
            for lr, score in tried.items()
        ]
        print(f"{count:5} labels, random weights, validation by rate: {tried}", flush=True)
        for seed in range(draws):
            part = train.sample(count, seed=seed)
            for method in METHODS:
                score = run(method, part, test, recipe, seed, best if method == "from scratch" else None)
                runs.append({"method": method, "labels": count, "seed": seed, "accuracy": round(score, 5)})
                print(f"{count:5} labels, draw {seed}, {method:13} {score:.4f}", flush=True)
        record = {
            "recipe": asdict(recipe),
            "data": {
                "asset": "vader, film snippets, labels derived from mean ratings beyond ±0.5",
                "train": len(train),
                "validation": len(valid),
                "test": len(test),
                "majority": round(max(np.mean(test.labels), 1 - np.mean(test.labels)), 4),
            },
            "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
            "cpu_seconds": round(time.process_time() - began),
            "rates": rates,
            "runs": runs,
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(RECORD.name, record["cpu_seconds"], "CPU seconds")


if __name__ == "__main__":
    main()
