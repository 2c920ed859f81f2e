"""What each of SmolLM2's 270 attention heads is worth on fresh English text, and what groups of them are.

``python -m llmlab.recipes.head_map`` writes ``head_map.json`` into the package (about ten minutes on one thread). Every
head is knocked out alone, once with zeros and once with its mean output, on six passages; then growing groups of heads,
chosen by that map or at random, are knocked out together on four other passages.
"""

from __future__ import annotations

import json
import platform
import time
from typing import Any

import torch
from torch import Tensor

from llmlab import assets, runtime
from llmlab.models.knockout import head_means, knockout_losses, token_losses, without_heads
from llmlab.recipes.passages import HELD_OUT, MAP
from llmlab.tasks.classify.checkpoints import FOLDER

__all__ = ["TOKENS", "encode", "main"]

TOKENS = 112  # of each passage: equal lengths need no padding
GROUPS = (0, 9, 27, 54, 81, 108, 135, 162)
DRAWS = 3


def encode(tokenizer: Any, passages: tuple[str, ...]) -> Tensor:
    """The first ``TOKENS`` tokens of each passage."""
    rows = [tokenizer(text).input_ids[:TOKENS] for text in passages]
    short = [i for i, row in enumerate(rows) if len(row) < TOKENS]
    if short:
        raise ValueError(f"passages {short} have fewer than {TOKENS} tokens: write them longer")
    return torch.tensor(rows)


def _map(model: Any, ids: Tensor, intact: Tensor, fill: Tensor | None, name: str) -> dict[str, Any]:
    """Mean increase of the loss a head and passage, and its standard error over all tokens."""
    cost = torch.zeros(len(model.model.layers), model.config.num_attention_heads, len(ids))
    error = torch.zeros(cost.shape[:2])
    for layer, head, losses in knockout_losses(model, ids, fill):
        more = losses - intact
        cost[layer, head] = more.mean(1)
        error[layer, head] = more.std() / more.numel() ** 0.5
        if head == 0:
            print(f"{name}: layer {layer}, head 0 costs {more.mean():+.4f} nats", flush=True)
    return {"cost": _rounded(cost), "error": _rounded(error)}


def _rounded(x: Tensor) -> Any:
    return [_rounded(row) for row in x] if x.ndim else round(x.item(), 5)


def _groups(model: Any, ids: Tensor, order: list[int], fill: Tensor | None) -> list[float]:
    """The mean loss without the first k heads of ``order``, for every k of ``GROUPS``."""
    heads, found = model.config.num_attention_heads, []
    for k in GROUPS:
        with without_heads(model, [divmod(i, heads) for i in order[:k]], fill):
            found.append(round(token_losses(model, ids).mean().item(), 5))
    print(f"without {GROUPS} heads: {found}", flush=True)
    return found


def main() -> None:
    """Measure, write."""
    runtime.setup(seed=0, threads=1)
    model, tokenizer = assets.load_smollm2()
    ids, held = encode(tokenizer, MAP), encode(tokenizer, HELD_OUT)
    began = time.process_time()
    means, intact = head_means(model, ids), token_losses(model, ids)
    print(f"intact: {intact.mean():.4f} nats, held out {token_losses(model, held).mean():.4f}", flush=True)
    zero, mean = _map(model, ids, intact, None, "zero"), _map(model, ids, intact, means, "mean")
    generator = torch.Generator().manual_seed(0)
    cheapest, cheapest_by_mean = (torch.tensor(m["cost"]).mean(-1).flatten().argsort().tolist() for m in (zero, mean))
    draws = [torch.randperm(270, generator=generator).tolist() for _ in range(DRAWS)]
    record = {
        "what": "loss in nats a token without one head, less the loss with all; [layer][head][passage]",
        "model": "smollm2",
        "tokens_a_passage": TOKENS,
        "intact": _rounded(intact.mean(1)),
        "zero": zero,
        "mean": mean,
        "groups": {
            "sizes": list(GROUPS),
            "cheapest_first_zero": _groups(model, held, cheapest, None),
            "cheapest_first_mean": _groups(model, held, cheapest_by_mean, means),
            "dearest_first_zero": _groups(model, held, cheapest[::-1], None),
            "random_zero": [_groups(model, held, order, None) for order in draws],
        },
        "cpu_seconds": round(time.process_time() - began),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
    }
    path = FOLDER / "head_map.json"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
