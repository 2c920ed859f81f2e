"""Faults of part I, the block: notebooks 01 to 06."""

from __future__ import annotations

from typing import Any

from llmlab.course.checking import Wrong, call, expect_close, expect_finite
from llmlab.course.faults.model import Fault, Mending

__all__ = ["FAULTS"]


def _attention_case(seed: int) -> tuple[Any, ...]:
    import torch

    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 5, 8, generator=g) for _ in range(3))


def check_mask(answer: Any) -> str:
    import torch

    q, k, v = _attention_case(0)
    got = call(answer, q, k, v)
    scores = q @ k.mT / 8**0.5
    seen = torch.ones(5, 5).tril().bool()
    right = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v
    expect_finite(got, "the output")
    late = (scores.softmax(-1) * seen) @ v
    expect_close(
        got, right, "causal attention",
        near_misses=[
            (late, "the weights of a row no longer add up to 1: the mask still acts after the softmax"),
            ((scores * seen).softmax(-1) @ v, "a score of 0 is no mask: e^0 is 1, and the future keeps its weight"),
            ((q @ k.mT).masked_fill(~seen, float("-inf")).softmax(-1) @ v, "the scale 1/√d has got lost"),
            (scores.masked_fill(seen, float("-inf")).nan_to_num(0).softmax(-1) @ v, "the mask is the wrong way round"),
        ],
    )  # fmt: skip
    changed = v.clone()
    changed[:, -1] += 100
    if not torch.allclose(call(answer, q, k, changed)[:, :-1], got[:, :-1]):
        raise Wrong("a change of the last token still moves the outputs before it")
    return "no token sees a later one, and every row of weights adds up to 1"


MASK = """
import torch

def causal_attention(q, k, v):
    scores = q @ k.mT / q.size(-1) ** 0.5
    weights = scores.softmax(dim=-1)
    seen = torch.ones(q.size(-2), k.size(-2)).tril()
    return (weights * seen) @ v
"""

FAULTS = (
    Fault(
        id="01.mask_after_softmax",
        title="Causal attention",
        difficulty=1,
        story="Each token should see itself and the tokens before it. No output moves when the future changes, and "
        "yet the early tokens come out far too small.",
        program=MASK,
        name="causal_attention",
        diagnosis="The mask acts after the softmax, so the weights of a row no longer add up to 1.",
        lures={
            "The mask lets a token see the future.": "It does not: tril keeps the diagonal and what is left of it.",
            "The scores are divided by √d, where they should be divided by d.": "√d is right: a dot product of d "
            "unit-variance pairs has variance d.",
            "The softmax runs over the queries.": "The last dimension of q @ k.mT is the keys, as it should be.",
        },
        check=check_mask,
        mended=MASK.replace("weights = scores.softmax(dim=-1)\n    ", "").replace(
            "return (weights * seen) @ v", 'return scores.masked_fill(seen == 0, float("-inf")).softmax(dim=-1) @ v'
        ),
        also_right="""
        import torch.nn.functional as F

        def causal_attention(q, k, v):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        """,
        wrong=(
            Mending("zeros before the softmax", MASK.replace("scores.softmax(dim=-1)", "scores").replace(
                "(weights * seen)", "(weights * seen).softmax(dim=-1)"), "e^0 is 1"),
            Mending("upside down", MASK.replace("weights = scores.softmax(dim=-1)\n    ", "").replace(
                "(weights * seen)", 'scores.masked_fill(seen == 1, float("-inf")).softmax(dim=-1)'), "the output is NaN"),
            Mending("no scale", MASK.replace(" / q.size(-1) ** 0.5", "").replace(
                "weights = scores.softmax(dim=-1)\n    ", "").replace(
                "(weights * seen)", 'scores.masked_fill(seen == 0, float("-inf")).softmax(dim=-1)'), "1/√d"),
        ),
    ),
)  # fmt: skip
