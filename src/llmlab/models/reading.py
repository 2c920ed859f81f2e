"""What a decoder makes of a text longer than its context: the loss of every token, each with enough text before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.models.decoder import Decoder

__all__ = ["text_losses"]


@torch.no_grad()
def text_losses(
    model: Decoder, ids: Int[Tensor, " time"] | Sequence[int], *, context: int, stride: int | None = None
) -> Float[Tensor, " time_less_one"]:
    """The loss in nats of every token but the first, read in overlapping windows.

    Each window of ``context`` predictions begins ``stride`` tokens after the one before it and is charged only for the
    tokens that are new, so that every token but those of the first window has at least ``context - stride`` tokens
    before it. Cut without overlap (``stride`` = ``context``), every window's first tokens would be guessed blindly, and
    the loss would be too high.

    Args:
        model: its dropout is switched off while it reads.
        ids: the text, two tokens or more.
        context: predictions a window.
        stride: from 1 to ``context``, half of it by default.

    Raises:
        ValueError: a text of fewer than two tokens, or a stride outside its range.

    Cost: ``context / stride`` times one pass over the text.
    """
    text = torch.as_tensor(ids, device=model.token.weight.device)
    stride = max(1, context // 2) if stride is None else stride
    if text.ndim != 1 or len(text) < 2:
        raise ValueError(f"ids of shape {tuple(text.shape)}: expected one text of two tokens or more")
    if not 1 <= stride <= context:
        raise ValueError(f"stride={stride}: expected 1 to context={context}; a larger one would leave tokens out")
    was_training = model.training
    model.eval()
    losses: list[Tensor] = []
    done, last = 0, len(text) - 1  # predictions made, predictions there are
    for batch in _batches(list(range(0, max(1, last - context + stride), stride)), 64):
        ends = [min(start + context, last) for start in batch]
        starts = [max(0, end - context) for end in ends]  # the last window ends with the text and overlaps more
        windows = torch.stack([text[s : e + 1] for s, e in zip(starts, ends)])
        found = F.cross_entropy(model(windows[:, :-1]).mT.float(), windows[:, 1:], reduction="none")
        for row, start, end in zip(found, starts, ends):
            losses.append(row[done - start :])
            done = end
    model.train(was_training)
    return torch.cat(losses)


def _batches(items: list[int], size: int) -> list[list[int]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
