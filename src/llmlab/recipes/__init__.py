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
    "bert_mlm": ("bert", "a small Chinese BERT that fills blanks in People's Daily"),
    "bert_causal": ("bert", "its twin, which tells the next character"),
    "bert_rates": ("bert", "the same BERT, shorter, under four ways to mask"),
    "austen_gpt": ("small_gpt", "a small GPT that reads four novels of Jane Austen"),
    "tang_gpt": ("small_gpt", "the same on 251 Tang poems, where it is best and where it knows them by heart"),
    "label_curves": ("label_curves", "what 50 to 5,000 labels are worth with and without pretraining, film snippets"),
    "four_ways": ("four_ways", "SmolLM2 by prompt, probe, LoRA and full tuning: cost, forgetting, what moved"),
    "sft_mask": ("alignment", "instruction tuning with the loss on the answer or on everything"),
    "dpo_short": ("alignment", "DPO on derived preferences for short answers, and what else it does"),
    "gpt_to_llama": ("gpt_ladder", "from GPT-2 to Llama in five changes, three seeds each"),
    "gpt_rates": ("gpt_ladder", "learning rates for five sizes of a small GPT"),
    "gpt_sizes": ("gpt_ladder", "one small GPT in five sizes on one budget of text, three seeds each"),
    "senses": ("senses", "whether a word's vector knows its sense, by layer and with the context cut in four ways"),
    "needles": ("needles", "ten facts at ten depths of a novel: which of them SmolLM2 finds at four lengths"),
    "long_text": ("needles", "the same facts in a text four times longer than the window, answered in seven ways"),
    "context_loss": ("needles", "SmolLM2's loss on the novels by how many tokens stand before a token"),
    "recall": ("recall", "one letter at a distance: RNN, LSTM, a state space model and attention, two seeds each"),
    "data_pipeline": ("data_pipeline", "one small model on a dirty corpus after each cleaning step, three seeds each"),
    "data_mixing": ("data_pipeline", "the same on reviews and news in five shares, and on 400 reviews again and again"),
    "data_scaling": ("data_scaling", "what more, repeated and spoiled text is worth to one small language model"),
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
    alone = [other for other, _ in RECIPES.values()].count(module) == 1
    make() if alone else make(name)
    return 0
