"""How the shipped checkpoints and records were made: ``llmlab recipes`` lists them, ``llmlab recipes NAME`` makes one.

What takes longer than a notebook's minute is made here once. The result is small, ships in ``llmlab/checkpoints`` with
its recipe, its data's name and its score, and a notebook reruns a slice of it to show that it is real.
"""

from __future__ import annotations

import argparse

__all__ = ["main"]

RECIPES = {
    "review_char": "the character transformer of the Chinese reviews",
    "film_head": "a trained head on MiniLM's frozen features, film snippets",
    "film_biases": "MiniLM with its biases, norms and head fine-tuned, film snippets",
    "film_prompts": "SmolLM2's log-probabilities of answer words, film snippets",
    "review_prompts": "the same on short Chinese reviews",
}


def main(argv: list[str]) -> int:
    """List the recipes, or run one and write its result into the package (minutes, one thread)."""
    parser = argparse.ArgumentParser(prog="llmlab recipes", description="Make a shipped checkpoint or record again.")
    parser.add_argument("name", nargs="?", choices=RECIPES, help="which; none lists them")
    name = parser.parse_args(argv).name
    if name is None:
        print("\n".join(f"  {recipe:16}{what}" for recipe, what in RECIPES.items()))
        return 0
    if name == "review_char":
        from llmlab.recipes import review_char

        review_char.main()
    else:
        from llmlab.recipes import film

        film.main(name)
    return 0
