"""SmolLM2 read at 1.25 times the length it was trained for, as it is and with its rotation stretched in three ways.

``python -m llmlab.recipes.long_context`` writes ``long_context.json``: the loss by position on one stretch of New
York Times editorials. Nothing is trained. A causal model's first losses depend on the first tokens alone, so a notebook
can repeat the beginning of every line.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from llmlab import assets, runtime
from llmlab.models.rope_hooks import Rope, other_frequencies, rope_of, token_losses
from llmlab.nn.rotary import ntk_frequencies, rope_frequencies, yarn_attention_factor, yarn_frequencies

__all__ = ["BIN", "TOKENS", "long_text", "main", "ways"]

TOKENS, BIN = 10_240, 256


def long_text(tokenizer: Any) -> Int[Tensor, " tokens"]:
    """The first ``TOKENS`` tokens of the editorials, in the order of the file."""
    text = " ".join(assets.load_vader("nyt").texts)
    return tokenizer(text[: 8 * TOKENS], return_tensors="pt", verbose=False).input_ids[0, :TOKENS]


def ways(rope: Rope, factor: float) -> dict[str, tuple[Tensor, float]]:
    """The rotation as trained and stretched by ``factor`` three ways: (frequencies, factor on queries and keys)."""
    plain = rope_frequencies(rope.d, rope.base)
    return {
        "as trained": (plain, 1.0),
        "interpolation": (plain / factor, 1.0),
        "NTK": (ntk_frequencies(rope.d, rope.base, factor), 1.0),
        "YaRN": (yarn_frequencies(rope.d, rope.base, factor, rope.trained), yarn_attention_factor(factor)),
    }


def main() -> None:
    """Read, describe, write. bfloat16: a reading in float32 takes four times as long."""
    from llmlab.tasks.classify.checkpoints import FOLDER

    runtime.setup(seed=0, threads=1)
    model, tokenizer = assets.load_smollm2(dtype=torch.bfloat16)
    rope, ids = rope_of(model), long_text(tokenizer)
    began = time.process_time()
    lines: dict[str, list[float]] = {}
    for name, (frequencies, factor) in ways(rope, TOKENS / rope.trained).items():
        with other_frequencies(model, frequencies, factor):
            lines[name] = binned(token_losses(model, ids))
        print(name, [round(x, 2) for x in lines[name][::4]], f"{time.process_time() - began:.0f} s", flush=True)
    # The plain baseline: read the rest as a text of its own. Its first token is predicted from nothing.
    rest = token_losses(model, ids[rope.trained :])
    again = binned(torch.cat([rest.new_full((1,), float("nan")), rest]))
    lines["cut at the trained length"] = lines["as trained"][: rope.trained // BIN] + again
    record = {
        "model": "smollm2",
        "data": {"asset": "vader", "part": "nyt", "tokens": TOKENS},
        "ids_sha256": hashlib.sha256(json.dumps(ids.tolist()).encode()).hexdigest(),
        "dtype": "bfloat16",
        "trained_length": rope.trained,
        "factor": TOKENS / rope.trained,
        "bin": BIN,
        "loss_by_bin": lines,
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        "cpu_seconds": round(time.process_time() - began),
    }
    file = FOLDER / "long_context.json"
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(file)


def binned(losses: Tensor) -> list[float]:
    """The means of ``BIN`` losses each: bin 0 holds the losses of tokens 1 to ``BIN``, and so on."""
    return [round(part.nanmean().item(), 4) for part in losses.split(BIN)]


if __name__ == "__main__":
    main()
