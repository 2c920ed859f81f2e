"""Film snippets for two pre-trained models: MiniLM with a trained head or fine-tuned biases, SmolLM2 untrained.

``python -m llmlab.recipes.film NAME`` writes ``film_head`` or ``film_biases`` (safetensors and JSON), ``film_prompts``
or ``review_prompts`` (JSON) into the package. The film labels are derived from mean human ratings. The heads never see
the test part; the language model is not trained, and its log-probabilities for a sample of the test part are recorded
(for short Chinese reviews too), so that a notebook needs to run only a slice of them again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time

import torch

from llmlab import assets, runtime
from llmlab.metrics import accuracy
from llmlab.tasks.classify import (
    EncoderClassifier,
    Labelled,
    from_ratings,
    next_word_logprobs,
    sentence_features,
    split,
)
from llmlab.tasks.classify.checkpoints import FOLDER, write_checkpoint
from llmlab.train import fit

__all__ = [
    "PAIRS",
    "PROMPT",
    "WORDS",
    "film_parts",
    "short_reviews",
    "main",
    "record_prompts",
    "train_biases",
    "train_head",
]

PROMPT = "Review: {}\nSentiment:"
PAIRS = (  # (negative, positive)
    ("negative", "positive"),
    ("Negative", "Positive"),
    ("bad", "good"),
    ("terrible", "great"),
    ("awful", "excellent"),
    ("boring", "wonderful"),
)
WORDS = tuple(f" {word}" for pair in PAIRS for word in pair)
TEST_SAMPLE, REVIEW_SAMPLE, SHORT = 400, 200, 60


def film_parts() -> dict[str, Labelled]:
    """Train, validation and test part of the film snippets, labels derived from the mean rating (beyond ±0.5)."""
    snippets = assets.load_vader("movies")
    labelled = from_ratings(snippets.texts, snippets.ratings)
    return split(labelled.texts, labelled.labels)


def short_reviews() -> Labelled:
    """A sample of the Chinese reviews' test part, at most 60 characters each: a byte costs SmolLM2 nearly a token."""
    reviews = assets.load_reviews()
    test = split(reviews.texts, reviews.labels)["test"]
    return test.take(i for i, text in enumerate(test.texts) if len(text) <= SHORT).sample(REVIEW_SAMPLE)


def train_head(parts: dict[str, Labelled], c: float = 10.0) -> tuple[EncoderClassifier, dict[str, object]]:
    """A logistic regression on frozen MiniLM features of the whole training part, written into a linear head."""
    from sklearn.linear_model import LogisticRegression

    body, tokenizer = assets.load_minilm()
    features = sentence_features(body, tokenizer, parts["train"].texts).numpy()
    probe = LogisticRegression(C=c, max_iter=2000).fit(features, parts["train"].labels)
    model = EncoderClassifier(body, tokenizer, "head")
    with torch.no_grad():
        weight, bias = torch.tensor(probe.coef_[0]), torch.tensor(probe.intercept_[0])
        model.head.weight.copy_(torch.stack([-weight / 2, weight / 2]))
        model.head.bias.copy_(torch.stack([-bias / 2, bias / 2]))
    return model, {"method": "logistic regression on frozen features", "C": c}


def train_biases(
    parts: dict[str, Labelled], epochs: int = 1, lr: float = 1e-3
) -> tuple[EncoderClassifier, dict[str, object]]:
    """MiniLM's biases, norms and a new head, fine-tuned on the training part."""
    body, tokenizer = assets.load_minilm()
    torch.manual_seed(0)
    model, part = EncoderClassifier(body, tokenizer, "biases"), parts["train"]
    held = parts["validation"]

    def evaluate() -> float:
        score = accuracy(held.labels, model.predict_proba(held.texts).argmax(1))
        print(f"validation accuracy {score:.4f}", flush=True)
        return score

    history = fit(
        model,
        lambda batch: model.loss([part.texts[i] for i in batch], [part.labels[i] for i in batch]),
        [len(text) for text in part.texts],
        epochs=epochs,
        lr=lr,
        evaluate=evaluate,
    )
    return model, {"method": "biases, norms and head", "epochs": epochs, "lr": lr, "by_epoch": history.scores}


def record_prompts(part: Labelled) -> dict[str, object]:
    """SmolLM2's log-probabilities of every word of ``WORDS`` after each prompt."""
    model, tokenizer = assets.load_smollm2()
    logs = next_word_logprobs(model, tokenizer, [PROMPT.format(text) for text in part.texts], WORDS)
    return {
        "prompt": PROMPT,
        "words": WORDS,
        "texts_sha256": hashlib.sha256("\n".join(part.texts).encode()).hexdigest(),
        "logprobs": [[round(x, 4) for x in row] for row in logs.tolist()],
    }


def main(what: str) -> None:
    """Make one of the four."""
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    if what not in ("film_head", "film_biases", "film_prompts", "review_prompts"):
        raise SystemExit(f"{what!r}: expected film_head, film_biases, film_prompts or review_prompts")
    if what.endswith("prompts"):
        part = film_parts()["test"].sample(TEST_SAMPLE) if what == "film_prompts" else short_reviews()
        record = {**record_prompts(part), "texts": len(part)}
        record["cpu_seconds"] = round(time.process_time() - began)
        (FOLDER / f"{what}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
        return
    parts = film_parts()
    model, recipe = train_head(parts) if what == "film_head" else train_biases(parts)
    data = {"asset": "vader", "domain": "movies", "margin": 0.5, **{name: len(part) for name, part in parts.items()}}
    held = parts["validation"]
    score = accuracy(held.labels, model.predict_proba(held.texts).argmax(1))
    record = {"recipe": recipe, "data": data, "validation": {"accuracy": score}}
    record["cpu_seconds"] = round(time.process_time() - began)
    print(write_checkpoint(model.trained_state(), what, record), record)


if __name__ == "__main__":
    main(sys.argv[1])
