"""Supervised fine-tuning: the loss counts the answer's tokens, and neither the prompt's nor the padding's.

Labels stand beside the tokens they repeat, with :data:`IGNORE` where nothing is to be learned; the shift by one, a
token being predicted from those before it, happens in :func:`token_losses` and nowhere else. So it is in transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "IGNORE",
    "Batch",
    "Example",
    "Packed",
    "answer_loss",
    "answer_only",
    "chat_example",
    "collate",
    "counted",
    "pack",
    "token_losses",
]

#: The label of a token that is not counted; torch's and transformers' convention.
IGNORE = -100


class Example(NamedTuple):
    """One text: its tokens, and for each the label."""

    ids: list[int]
    labels: list[int]


class Batch(NamedTuple):
    """Texts padded on the right to one length."""

    ids: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    labels: Int[Tensor, "batch time"]


def answer_only(prompt: Sequence[int], answer: Sequence[int]) -> Example:
    """A prompt that is read and an answer that is learned. End the answer with the end token, or it is never learned.

    Raises:
        ValueError: no answer; or no prompt, since a text's first token is predicted from nothing.
    """
    if not prompt or not answer:
        raise ValueError(f"a prompt of {len(prompt)} and an answer of {len(answer)} tokens: expected 1 or more of each")
    return Example([*prompt, *answer], [IGNORE] * len(prompt) + list(answer))


def chat_example(
    render: Callable[[Sequence[Mapping[str, str]], bool], Sequence[int]], messages: Sequence[Mapping[str, str]]
) -> Example:
    """A conversation, of which every turn of the assistant is learned, its end marker included.

    Where a turn begins and ends is found by rendering the conversation up to there, so any template will do whose
    beginning does not depend on what comes later.

    Args:
        render: (messages, whether the assistant is to speak next) to tokens. For a tokenizer of transformers:
            ``lambda m, speak: tok.apply_chat_template(m, add_generation_prompt=speak, return_dict=False)``.
        messages: each with ``role`` and ``content``.

    Raises:
        ValueError: no turn of the assistant, or a template that rewrites earlier turns.

    Cost: two renderings a turn of the assistant.
    """
    ids = list(render(messages, False))
    labels = [IGNORE] * len(ids)
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        raise ValueError(f"none of the {len(messages)} messages is the assistant's: there is nothing to learn")
    for i in turns:
        before, after = list(render(messages[:i], True)), list(render(messages[: i + 1], False))
        if ids[: len(before)] != before or ids[: len(after)] != after:
            raise ValueError(
                f"the template renders message {i} differently when more follows: mask it by prompt length"
            )
        labels[len(before) : len(after)] = after[len(before) :]
    return Example(ids, labels)


def collate(examples: Sequence[Example], pad: int, *, limit: int | None = None) -> Batch:
    """Pad on the right; padding is neither looked at nor counted, whichever token ``pad`` is.

    Args:
        limit: cut every text after so many tokens.

    Raises:
        ValueError: no example, ids and labels of unequal length, or one of which no label is counted.
    """
    if not examples:
        raise ValueError("a batch of no examples")
    for i, (ids, labels) in enumerate(examples):
        if len(ids) != len(labels):
            raise ValueError(f"example {i} has {len(ids)} ids and {len(labels)} labels")
        if all(label == IGNORE for label in labels[1:limit]):
            raise ValueError(f"example {i} has no label that counts within limit={limit}: leave it out, or allow more")
    cut = [Example(ids[:limit], labels[:limit]) for ids, labels in examples]
    longest = max(len(ids) for ids, _ in cut)
    padded = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in cut])
    targets = torch.tensor([labels + [IGNORE] * (longest - len(labels)) for _, labels in cut])
    lengths = torch.tensor([len(ids) for ids, _ in cut])
    return Batch(padded, torch.arange(longest) < lengths[:, None], targets)


def counted(labels: Int[Tensor, "batch time"]) -> int:
    """How many tokens :func:`answer_loss` is a mean over: what ``train_model(weight_of=...)`` wants to know."""
    return int((labels[:, 1:] != IGNORE).sum())


def token_losses(
    logits: Float[Tensor, "batch time vocabulary"], labels: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch time-1"]:
    """-log p of every token given those before it, in float32; 0 where its label is not counted.

    The softmax is taken only where a label counts: with long prompts most of its memory is saved.

    Raises:
        ValueError: a label that is neither a token nor :data:`IGNORE`; fewer than two tokens.
    """
    if labels.shape[1] < 2:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)}: expected two tokens or more, the first predicts the next"
        )
    target = labels[:, 1:]
    keep = target != IGNORE
    wanted = target[keep]
    if wanted.numel() and not 0 <= int(wanted.min()) <= int(wanted.max()) < logits.shape[-1]:
        low, high = int(wanted.min()), int(wanted.max())
        raise ValueError(f"labels from {low} to {high}: expected 0 to {logits.shape[-1] - 1}, or {IGNORE} to leave out")
    wide = torch.promote_types(logits.dtype, torch.float32)
    losses = torch.zeros(target.shape, dtype=wide, device=logits.device)
    losses[keep] = F.cross_entropy(logits[:, :-1][keep].to(wide), wanted, reduction="none")
    return losses


def answer_loss(logits: Float[Tensor, "batch time vocabulary"], labels: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """The mean of -log p over all counted tokens of the batch: a long answer weighs more than a short one.

    Raises:
        ValueError: no label counts, where the mean would be 0 / 0.
    """
    count = counted(labels)
    if not count:
        raise ValueError("no label of this batch counts: the whole of it is prompt and padding")
    return token_losses(logits, labels).sum() / count


class Packed(NamedTuple):
    """Several texts a row. ``segments`` numbers them from 1 (0 is padding), ``positions`` start at 0 in each."""

    ids: Int[Tensor, "rows size"]
    labels: Int[Tensor, "rows size"]
    segments: Int[Tensor, "rows size"]
    positions: Int[Tensor, "rows size"]


def pack(examples: Sequence[Example], size: int, pad: int) -> Packed:
    """Texts end to end in rows of ``size``, longest first, each into the first row with room for it.

    A text's first label is left out: it would be predicted from the text before. That texts do not look at each other
    is attention's business: with ``segments`` equal, or with :func:`llmlab.attention.varlen_attention`.

    Raises:
        ValueError: a text longer than ``size``, or no example.

    Cost: O(examples · rows). At most 11/9 of the fewest rows and a fraction (first-fit decreasing).
    """
    if not examples:
        raise ValueError("no example to pack")
    if (longest := max(len(example.ids) for example in examples)) > size:
        raise ValueError(f"a text of {longest} tokens does not fit rows of size={size}: cut it first")
    rows: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: -len(e.ids)):
        room = (row for row in rows if sum(len(e.ids) for e in row) + len(example.ids) <= size)
        row = next(room, None)
        if row is None:
            rows.append(row := [])
        row.append(example)
    packed = torch.zeros(4, len(rows), size, dtype=torch.long)
    packed[0], packed[1] = pad, IGNORE
    for r, row in enumerate(rows):
        start = 0
        for number, (ids, labels) in enumerate(row, 1):
            end = start + len(ids)
            packed[0, r, start:end] = torch.tensor(ids)
            packed[1, r, start + 1 : end] = torch.tensor(labels[1:], dtype=torch.long)
            packed[2, r, start:end] = number
            packed[3, r, start:end] = torch.arange(len(ids))
            start = end
    return Packed(*packed)
