"""What each layer of SmolLM2 is worth: four cuts at each of its 30 layers, on six passages.

``python -m llmlab.recipes.layer_surgery`` measures and writes ``layer_surgery.json`` into the package. Nothing is
trained.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlab import assets, runtime
from llmlab.models.stream import residual_stream, run_layers, token_losses
from llmlab.recipes.passages import MAP

__all__ = ["CUTS", "RECORD", "TOKENS", "loss_after", "main"]

RECORD = Path(__file__).resolve().parents[1] / "checkpoints" / "layer_surgery.json"
TOKENS = 96  #: of each passage

#: a cut: from the stream before and after a layer to the stream that goes on instead
Cut = Callable[[Tensor, Tensor], Tensor]
CUTS: dict[str, Cut] = {
    "branch removed": lambda before, after: before,
    "plus removed": lambda before, after: after - before,
    "ReLU after the sum": lambda before, after: after.relu(),
}


def loss_after(
    model: Any, ids: Int[Tensor, "batch time"], stream: Float[Tensor, "points batch time d"], layer: int, cut: str
) -> list[float]:
    """Mean loss of each text in nats a token when one layer is cut; ``cut`` is one of :data:`CUTS` or "swapped".

    "branch removed" passes the stream by the layer; "plus removed" keeps only what the layer added; "swapped" runs the
    layer after its successor. The layers before are not run again.
    """
    if cut == "swapped":
        x = run_layers(model, stream[layer], [layer + 1, layer])
        rest = range(layer + 2, len(stream) - 1)
    else:
        x = CUTS[cut](stream[layer], stream[layer + 1])
        rest = range(layer + 1, len(stream) - 1)
    return token_losses(model, run_layers(model, x, rest), ids).mean(-1).tolist()


def main() -> None:
    """Cut every layer in every way, write the losses by passage."""
    runtime.setup(threads=1)
    model, tokenizer = assets.load_smollm2()
    ids = torch.tensor([tokenizer(text).input_ids[:TOKENS] for text in MAP])
    began = time.process_time()
    stream = residual_stream(model, ids)
    layers = len(stream) - 1
    losses: dict[str, list[list[float]]] = {}
    for cut in (*CUTS, "swapped"):
        last = layers - (cut == "swapped")
        losses[cut] = [[round(x, 4) for x in loss_after(model, ids, stream, i, cut)] for i in range(last)]
        print(cut, round(time.process_time() - began), "CPU seconds", flush=True)
    record = {
        "data": {"passages": len(MAP), "tokens": TOKENS},
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        "intact": [round(x, 4) for x in token_losses(model, stream[-1], ids).mean(-1).tolist()],
        "losses": losses,
        "cpu_seconds": round(time.process_time() - began),
    }
    RECORD.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
