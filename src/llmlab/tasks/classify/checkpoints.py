"""Small trained models that ship with the package: weights in safetensors, everything else in JSON beside them."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmlab.tasks.classify.char import Characters, CharClassifier, CharConfig
from llmlab.tasks.classify.data import split
from llmlab.tasks.classify.encoder import EncoderClassifier
from llmlab.tasks.classify.linear import LinearClassifier

__all__ = [
    "FOLDER",
    "CheckpointError",
    "load_char_classifier",
    "load_film_classifier",
    "load_review_classifiers",
    "read_record",
    "read_weights",
    "write_checkpoint",
]

FOLDER = Path(__file__).resolve().parents[2] / "checkpoints"


class CheckpointError(RuntimeError):
    """A shipped model is missing or is not the one that its record describes."""


def write_checkpoint(state: dict[str, Tensor], name: str, record: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write ``name.safetensors`` (half precision) and ``name.json`` (hash, versions, ``record``); returns the first."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.safetensors"
    save_file({key: value.half().contiguous() for key, value in state.items()}, weights)
    weights.chmod(0o644)  # safetensors writes for the owner alone
    described = {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "parameters": sum(value.numel() for value in state.values()),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        **record,
    }
    (folder / f"{name}.json").write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return weights


def read_weights(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """The tensors of a shipped checkpoint, in float32.

    Raises:
        CheckpointError: it is missing, or its bytes are not those of its record.
    """
    from safetensors.torch import load_file

    expected = read_record(name, folder)["sha256"]
    weights = folder / f"{name}.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else "no file"
    if found != expected:
        raise CheckpointError(
            f"{weights.name}: expected SHA-256 {expected[:12]}…, found {found[:12]}. Restore the file from the "
            "repository, or make it again with its recipe in llmlab.recipes"
        )
    return {key: value.float() for key, value in load_file(weights).items()}


def read_record(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What is known about a shipped model: its sizes, its data, its recipe, its scores.

    Raises:
        CheckpointError: there is none of this name.
    """
    file = folder / f"{name}.json"
    if not file.exists():
        known = sorted(f.stem for f in folder.glob("*.json"))
        raise CheckpointError(f"no checkpoint {name!r} in the package; there are {known}")
    return json.loads(file.read_text(encoding="utf-8"))


def load_char_classifier(name: str = "review_char", folder: Path = FOLDER) -> CharClassifier:
    """A shipped character transformer, in evaluation mode.

    Raises:
        CheckpointError: it is missing, or its bytes are not those of its record.
    """
    described = read_record(name, folder)["model"]
    model = CharClassifier(Characters(described["known"], described["max_length"]), CharConfig(**described["config"]))
    model.load_state_dict(read_weights(name, folder))
    return model.eval()


def load_film_classifier(kind: str = "biases") -> EncoderClassifier:
    """MiniLM for English film snippets: ``kind="head"`` is frozen with a trained head, ``"biases"`` is fine-tuned.

    Raises:
        AssetMissing: MiniLM was not fetched. CheckpointError: the checkpoint is damaged.
    """
    from llmlab import assets

    return EncoderClassifier(*assets.load_minilm(), kind).load_trained(read_weights(f"film_{kind}"))


@lru_cache(maxsize=1)
def load_review_classifiers() -> tuple[LinearClassifier, CharClassifier]:
    """The classifiers of Chinese reviews: the linear baseline, fitted now (about 2 s), and the character transformer.

    Both answer ``predict_proba(texts) -> (n, 2)``, negative first, and have seen the training part of
    ``split(*reviews)`` alone.

    Raises:
        AssetMissing: the reviews were not fetched. CheckpointError: the checkpoint is damaged.
    """
    from llmlab import assets

    reviews = assets.load_reviews()
    train = split(reviews.texts, reviews.labels)["train"]
    return LinearClassifier().fit(train.texts, train.labels), load_char_classifier()
