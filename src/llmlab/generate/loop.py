"""The loop of decoding: read the prompts once, then one token a step, each step reading the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmlab.generate import filters
from llmlab.models.decoder import Decoder
from llmlab.models.encoder_decoder import Writer
from llmlab.models.fast import FastDecoder

__all__ = ["Sampling", "generate", "left_pad", "stream"]


@dataclass(frozen=True)
class Sampling:
    """How to draw a token: temperature first, then the filters that are not None, in this order.

    Attributes:
        temperature, top_k, top_p, min_p: see the function of that name in :mod:`llmlab.generate.filters`.
        generator: where the randomness comes from; None is torch's global one.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    generator: torch.Generator | None = None

    def logits(self, logits: Float[Tensor, "batch vocabulary"]) -> Float[Tensor, "batch vocabulary"]:
        """What is drawn from, in float32."""
        logits = filters.temperature(logits.float(), self.temperature)
        if self.top_k is not None:
            logits = filters.top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = filters.top_p(logits, self.top_p)
        return logits if self.min_p is None else filters.min_p(logits, self.min_p)

    def draw(self, logits: Float[Tensor, "batch vocabulary"]) -> Int[Tensor, " batch"]:
        """One token for each row."""
        probabilities = self.logits(logits).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=self.generator)[:, 0]


def left_pad(
    prompts: Sequence[Sequence[int]], pad: int = 0
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Prompts of different lengths as one batch: ``(ids, mask)``, padding in front, so that all end together.

    Raises:
        ValueError: no prompts, or an empty one.
    """
    if not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt is empty, or there is none: give each at least one token, such as the start token")
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return ids, torch.arange(longest) >= longest - lengths[:, None]


def stream(
    model: Decoder | FastDecoder | Writer,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    *,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
    cache: bool = True,
) -> Iterator[list[int | None]]:
    """Yield the next token of every prompt, step by step; None for those that have stopped.

    Args:
        model: in evaluation mode; of an encoder-decoder a :class:`llmlab.models.encoder_decoder.Writer`, with the
            start token as the prompt of each text.
        prompts: token numbers, one list a text; they may differ in length.
        new_tokens: at most so many steps. It ends sooner when every text has stopped.
        sampling: how to draw; None takes the most likely token (greedy).
        stop: a text ends with the first of these tokens, which is still given.
        cache: False computes everything again at every step. The same tokens (up to ties in rounding), slower.

    Raises:
        ValueError: an empty prompt, a text that would outgrow the model's context, a model in training mode.

    Cost: with the cache, one pass over the prompts and one token a step; without, O(new_tokens²) tokens in all.
    """
    if model.training:
        raise ValueError("the model is in training mode and would drop at random: call model.eval() first")
    if new_tokens < 0:
        raise ValueError(f"new_tokens={new_tokens}: expected 0 or more")
    ids, real = left_pad(prompts)
    longest = ids.shape[1] + new_tokens - 1  # the last token is given out, never read
    if longest > model.config.context:
        raise ValueError(
            f"a prompt of {ids.shape[1]} tokens and {new_tokens} new ones need {longest} positions, the model has "
            f"{model.config.context}: shorten one of the two"
        )
    device = model.token.weight.device
    return _steps(model, ids.to(device), real.to(device), new_tokens, sampling, frozenset(stop), cache)


@torch.no_grad()
def _steps(
    model: Decoder | FastDecoder | Writer,
    ids: Tensor,
    real: Tensor,
    new_tokens: int,
    sampling: Sampling | None,
    stop: frozenset[int],
    cache: bool,
) -> Iterator[list[int | None]]:
    padded = not bool(real.all())
    kept: Any = model.new_cache(ids.shape[1] + new_tokens) if cache else None  # each model takes its own kind
    done = [False] * len(ids)
    unread = ids
    for _ in range(new_tokens):
        logits = model(unread if cache else ids, real if padded else None, kept, last=1)[:, -1]
        chosen = logits.argmax(dim=-1) if sampling is None else sampling.draw(logits)
        tokens = chosen.tolist()
        yield [None if over else token for token, over in zip(tokens, done)]
        done = [over or token in stop for token, over in zip(tokens, done)]
        if all(done):
            return
        unread = chosen[:, None]  # a text that has stopped goes on unheard: the others do not see it
        ids = torch.cat([ids, unread], dim=1)
        real = torch.cat([real, torch.ones_like(real[:, :1])], dim=1)


def generate(
    model: Decoder | FastDecoder | Writer,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    *,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
    cache: bool = True,
) -> list[list[int]]:
    """The continuation of every prompt, without the prompt; arguments and errors as :func:`stream`."""
    written: list[list[int]] = [[] for _ in prompts]
    for step in stream(model, prompts, new_tokens, sampling=sampling, stop=stop, cache=cache):
        for text, token in zip(written, step):
            if token is not None:
                text.append(token)
    return written
