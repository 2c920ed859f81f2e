"""How the shipped checkpoints and records were made: ``llmlab recipes`` lists them, ``llmlab recipes NAME`` makes one.

What takes longer than a notebook's minute is made here once. The result is small, ships in ``llmlab/checkpoints`` with
its recipe, its data's name and its score, and a notebook reruns a slice of it to show that it is real.
"""

from __future__ import annotations

import argparse
import importlib

__all__ = ["main"]

#: name -> (module, what it makes). A module of the recipe's own name makes one thing; another is told which.
RECIPES = {
    "review_char": ("review_char", "the character transformer of the Chinese reviews"),
    "film_head": ("film", "a trained head on MiniLM's frozen features, film snippets"),
    "film_biases": ("film", "MiniLM with its biases, norms and head fine-tuned, film snippets"),
    "film_prompts": ("film", "SmolLM2's log-probabilities of answer words, film snippets"),
    "review_prompts": ("film", "the same on short Chinese reviews"),
    "positions": ("positions", "six small language models that differ in their positions alone, three seeds each"),
    "long_context": ("long_context", "SmolLM2 read beyond its trained length, its rotation stretched in three ways"),
    "head_map": ("head_map", "what each of SmolLM2's 270 attention heads is worth, alone and in groups"),
    "head_count": ("head_count", "one small language model with 1, 4, 16 and 64 heads, three seeds each"),
    "residual_depth": ("residual_depth", "seven wirings of a Transformer at three depths: which of them train"),
    "layer_surgery": ("layer_surgery", "what each of SmolLM2's layers, and each of its plus signs, is worth"),
    "norm_padding": ("norms", "BatchNorm and LayerNorm on reviews of uneven length, batch sizes 2 to 64"),
    "norm_place": ("norms", "the norm before or after the sum, over learning rates"),
    "norm_swap": ("norms", "six norms in one small language model"),
    "dropout_reviews": ("dropout", "dropout rates on 600 and on all reviews, and other regularisers"),
    "dropout_lm": ("dropout", "dropout in one pass over fresh text, and in twenty over a twentieth of it"),
    "dropout_mc": ("dropout", "20 draws of Monte Carlo dropout for 1,000 test reviews"),
}


def main(argv: list[str]) -> int:
    """List the recipes, or run one and write its result into the package (minutes, one thread)."""
    parser = argparse.ArgumentParser(prog="llmlab recipes", description="Make a shipped checkpoint or record again.")
    parser.add_argument("name", nargs="?", choices=RECIPES, help="which; none lists them")
    name = parser.parse_args(argv).name
    if name is None:
        print("\n".join(f"  {recipe:17}{what}" for recipe, (_, what) in RECIPES.items()))
        return 0
    module, _ = RECIPES[name]
    make = importlib.import_module(f"llmlab.recipes.{module}").main
    make() if module == name else make(name)
    return 0
