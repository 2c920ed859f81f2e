"""Lab 12, sentiment: pooling that padding cannot reach, an encoder that changes its mind in company, decisions with costs."""

from __future__ import annotations

import math
from typing import Any

from llmlab.course.checking import (
    Bank,
    Case,
    Task,
    call,
    expect,
    expect_close,
    expect_finite,
    expect_number,
    expect_shape,
)
from llmlab.course.expect import expect_choice, expect_type

# --- Build: masked mean pooling


def _batch() -> tuple[Any, Any]:
    """Four texts of 5, 2, 1 and 0 tokens; what stands in the padding is large, and in one place not even a number."""
    import torch

    states = torch.linspace(-1, 2, 4 * 5 * 3).sin().reshape(4, 5, 3)
    mask = torch.arange(5) < torch.tensor([5, 2, 1, 0])[:, None]
    states[~mask] = 7.0
    states[1, 4, 0] = float("nan")
    return states, mask.long()


def check_pool(answer: Any) -> str:
    import torch

    states, mask = _batch()
    plain = torch.where(states.isnan(), torch.zeros(()), states)
    got = call(answer, plain[:3], mask[:3])
    expect_type(got, torch.Tensor)
    expect_shape(got, (3, 3), "the pooled batch", "one vector a text: the mean runs over time, which is axis 1")
    kept = plain[:3] * mask[:3, :, None]
    real = kept.sum(1) / mask[:3].sum(1, keepdim=True)
    near = [
        (plain[:3].mean(1), "the padding is averaged too: a text changes with the length of its neighbours"),
        (
            kept.mean(1),
            "the padding is left out of the sum but not out of the count: divide by the number of real tokens",
        ),
        (kept.sum(1), "that is the sum; a long text would get a long vector. Divide by the number of real tokens"),
        (plain[:3, 0], "that is the first token's vector ([CLS] pooling); the mean of all real tokens is asked for"),
        (kept.max(1).values, "that is the maximum, not the mean"),
        (
            kept.sum(1) / mask[:3].sum(),
            "you divide by the number of real tokens in the batch; each text has its own count",
        ),
    ]
    expect_close(
        got,
        real,
        "the mean over the real tokens",
        near_misses=near,
        hint="sum of mask * state, divided by the sum of the mask",
    )
    empty = call(answer, plain, mask)[3]
    expect_finite(empty, "the vector of a text without any token", "0 / 0 is NaN: keep the count at 1 or more")
    expect_close(empty, torch.zeros(3), "the vector of a text without any token")
    expect_finite(
        call(answer, states[:3], mask[:3]),
        "the pooled batch when a padded place holds NaN",
        "0 * NaN is NaN: fill the padding with zeros (masked_fill or where) instead of multiplying by the mask",
    )
    found = call(answer, plain[:3], mask[:3].bool())
    expect_close(found, real, "the same with a boolean mask", hint="convert the mask once: mask.bool()")
    return "padding takes no part, neither in the sum nor in the count, and an empty text spoils nothing"


def _fill(states: Any, mask: Any) -> Any:
    return states.masked_fill(~mask.bool()[..., None], 0.0)


def _loop(states: Any, mask: Any) -> Any:
    """The right answer, a text at a time."""
    import torch

    rows = [s[m.bool()] for s, m in zip(states, mask)]
    return torch.stack([row.mean(0) if len(row) else states.new_zeros(states.shape[-1]) for row in rows])


def _by_product(states: Any, mask: Any) -> Any:
    """As in most copies of this function."""
    m = mask[..., None].float()
    return (states * m).sum(1) / m.sum(1).clamp(min=1e-9)


# --- Debug: an encoder that changes its mind in company


def _encoder() -> tuple[Any, Any]:
    """A tiny encoder with the interface of transformers, and its tokenizer."""
    from types import SimpleNamespace

    import torch
    from torch import nn

    from llmlab.nn import EncoderBlock

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = nn.Embedding(60, 8), nn.Embedding(64, 8)
            self.block = EncoderBlock(8, 2, 16)
            generator = torch.Generator().manual_seed(1)
            for p in self.parameters():
                nn.init.normal_(p, std=0.7, generator=generator)

        def forward(self, input_ids: Any, attention_mask: Any = None, **_: Any) -> Any:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            x = self.token(input_ids) + self.position(torch.arange(input_ids.shape[1]))
            x = self.block(x, mask.bool())
            return SimpleNamespace(last_hidden_state=x, pooler_output=x[:, 0].tanh())

    class Letters:
        def __call__(
            self, texts: Any, padding: bool = False, truncation: bool = False, return_tensors: Any = None, **_: Any
        ) -> dict:
            rows = [[1, *(ord(c) % 50 + 3 for c in t[:60]), 2] for t in ([texts] if isinstance(texts, str) else texts)]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            return {"input_ids": ids, "attention_mask": (ids != 0).long()}

    return Tiny().eval(), Letters()


TEXTS = ("a good film", "bad", "not a word of this long complaint is true")


def check_embed(answer: Any) -> str:
    import torch

    model, tokenizer = _encoder()
    embed = call(answer, model, tokenizer)
    expect(callable(embed), "make_embed must return the function embed itself: `return embed`")
    with torch.no_grad():
        alone = torch.cat([model(**tokenizer([t])).last_hidden_state.mean(1) for t in TEXTS])
        batch = tokenizer(list(TEXTS))
        masked, blind = model(**batch).last_hidden_state, model(batch["input_ids"]).last_hidden_state
    m = batch["attention_mask"][..., None].float()
    got = embed(list(TEXTS))
    expect_type(got, torch.Tensor, "the vectors")
    expect_shape(got, tuple(alone.shape), "the vectors", "one a text: pool over the tokens")
    near = [
        (blind.mean(1), "both faults are still there: the model is not told what is padding, and the mean runs over it"),
        (masked.mean(1), "the attention is mended; but the mean still runs over the padding"),
        ((blind * m).sum(1) / m.sum(1), "the mean is mended; but the real tokens still attend to the padding: hand attention_mask to the model"),
        (masked[:, 0], "that is the first token's vector: it ignores padding, but embed is to return the mean"),
        ((masked * m).sum(1), "the sum is not divided by the number of real tokens"),
    ]  # fmt: skip
    what = "the vectors of three texts in one batch"
    expect_close(got, alone, what, rtol=1e-4, atol=1e-5, near_misses=near, hint="each must be what the text gets alone")
    return "a text gets the same vector alone and in company"


def _embedder(pool: Any, told: bool) -> Any:
    """``make_embed`` with this pooling, with or without the attention mask."""

    def make_embed(model: Any, tokenizer: Any) -> Any:
        def embed(texts: Any) -> Any:
            import torch

            batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                out = model(**batch) if told else model(batch["input_ids"])
            return pool(out.last_hidden_state, batch["attention_mask"])

        return embed

    return make_embed


def _one_by_one(model: Any, tokenizer: Any) -> Any:
    """Right without any mask: no batch, no padding."""

    def embed(texts: Any) -> Any:
        import torch

        with torch.inference_mode():
            return torch.cat([model(**tokenizer([t], return_tensors="pt")).last_hidden_state.mean(1) for t in texts])

    return embed


# --- Reason: what to answer when mistakes cost money


def check_decide(answer: Any) -> str:
    expect_type(answer, dict, "answer")
    missing = [key for key in ("threshold", "calibrated", "action", "cost", "texts") if key not in answer]
    expect(not missing, f"answer lacks {', '.join(missing)}")
    expect_number(
        answer["threshold"],
        0.8,
        what="threshold",
        near_misses={
            0.2: "that is the risk you may take; the threshold is on the probability of being right, 1 minus it",
            5 / 6: "a look costs 1 instead of the mistake, not on top of it: answer while (1 - p) * 5 < 1",
            0.5: "0.5 ignores the costs: a mistake costs five times what a look costs",
        },
    )
    p = 1 / (1 + math.exp(-2 / 1.57))
    expect_number(
        answer["calibrated"],
        p,
        rtol=2e-3,
        what="calibrated",
        near_misses={
            1 / (1 + math.exp(-2)): "that is the probability before calibration: divide the logit by T first",
            1 / (1 + math.exp(-2)) / 1.57: "the temperature divides the logit, not the probability",
            1 / (1 + math.exp(-2 * 1.57)): "you multiplied by T: that makes an overconfident model surer still",
        },
    )
    expect_choice(
        answer["action"],
        "hand over",
        {"answer": "compare the calibrated probability with the threshold: it is below", "neutral": "'not sure' is no sentiment: the review may be very clear to a person"},
        "action",
    )  # fmt: skip
    expect_number(
        answer["cost"],
        0.4875,
        what="cost",
        near_misses={
            0.6375: "that is the cost of answering everything; the third group is below the threshold and costs 1 each",
            1.0: "that is the cost of handing over everything",
            0.3375: "the reviews that are handed over are missing: 15 % of them at 1 each",
            0.0975: "multiply every mistake by what it costs, 5",
        },
    )
    expect_number(
        answer["texts"],
        1.96**2 * 0.83 * 0.17 / 0.01**2,
        rtol=2e-3,
        what="texts",
        near_misses={
            1.96**2 * 0.83 * 0.17 / 0.02**2: "that is an interval of ± 2 points; half the width takes four times the texts",
            0.83 * 0.17 / 0.01**2: "that is one standard error; 95 % takes 1.96 of them",
            1.96 * (0.83 * 0.17) ** 0.5 / 0.01: "you forgot to square: n = (1.96 / 0.01)² · p (1 - p)",
        },
    )  # fmt: skip
    return "a threshold is a price: it comes from the costs, and holds only for calibrated probabilities"


RIGHT = {"threshold": 0.8, "calibrated": 0.7814, "action": "hand over", "cost": 0.4875, "texts": 5421}

TASKS = [
    Task(
        id="12.pool",
        kind="build",
        title="A mean that padding cannot reach",
        difficulty=1,
        minutes=10,
        hints=(
            "Two places know about padding: the sum and the count. And 0 * NaN is NaN.",
            "Fill the padded places with 0, sum over time, divide by mask.sum(1, keepdim=True) kept at 1 or more.",
        ),
        check=check_pool,
        bank=Bank(
            wrong=[
                Case("mean over padding", lambda s, m: s.mean(1), "neighbours"),
                Case("count over padding", lambda s, m: _fill(s, m).mean(1), "not out of the count"),
                Case("sum", lambda s, m: _fill(s, m).sum(1), "that is the sum"),
                Case("first token", lambda s, m: s[:, 0], "[CLS]"),
                Case("multiplied", _by_product, "0 * NaN"),
                Case("no guard for an empty text", lambda s, m: _fill(s, m).sum(1) / m.sum(1, keepdim=True), "0 / 0"),
                Case("count of the batch", lambda s, m: _fill(s, m).sum(1) / m.sum(), "its own count"),
                Case("mean over the batch", lambda s, m: s.mean(0), "shape"),
            ],
            right=[Case("a text at a time", _loop)],
        ),
    ),
    Task(
        id="12.embed",
        kind="debug",
        title="The sentence that changes its mind in company",
        difficulty=2,
        minutes=14,
        hints=(
            "Ask for one sentence alone, then together with a long one. Which lines could make a difference?",
            "Padding enters twice: the model is never told which tokens are real, and the mean counts all of them.",
        ),
        check=check_embed,
        bank=Bank(
            wrong=[
                Case("as found", _embedder(lambda s, m: s.mean(1), told=False), "both faults"),
                Case("attention alone", _embedder(lambda s, m: s.mean(1), told=True), "mean still runs"),
                Case("mean alone", _embedder(_by_product, told=False), "hand attention_mask"),
                Case("first token", _embedder(lambda s, m: s[:, 0], told=True), "first token's vector"),
                Case("sum", _embedder(lambda s, m: _fill(s, m).sum(1), told=True), "not divided"),
            ],
            right=[
                Case("masked mean", _embedder(_by_product, told=True)),
                Case("one by one", _one_by_one),
            ],
        ),
    ),
    Task(
        id="12.decide",
        kind="reason",
        title="When a mistake costs five",
        difficulty=2,
        minutes=12,
        hints=(
            "Answering costs (1 - p) · 5 on average; a person's look costs 1 for certain.",
            "Logit 2 at T = 1.57 is a logit of 2 / 1.57. The interval's half width is 1.96 · sqrt(p (1 - p) / n).",
        ),
        check=check_decide,
        bank=Bank(
            wrong=[
                Case("the risk", {**RIGHT, "threshold": 0.2}, "the risk you may take"),
                Case("no temperature", {**RIGHT, "calibrated": 0.8808}, "before calibration"),
                Case("answered anyway", {**RIGHT, "action": "answer"}, "below"),
                Case("neutral", {**RIGHT, "action": "neutral"}, "no sentiment"),
                Case("everything answered", {**RIGHT, "cost": 0.6375}, "answering everything"),
                Case("nobody paid for looking", {**RIGHT, "cost": 0.3375}, "handed over are missing"),
                Case("one standard error", {**RIGHT, "texts": 1411}, "1.96 of them"),
                Case("incomplete", {"threshold": 0.8}, "lacks"),
            ],
            right=[
                Case("with formulas", {**RIGHT, "threshold": 1 - 1 / 5, "calibrated": 1 / (1 + math.exp(-2 / 1.57)), "texts": 3.8416 * 0.1411 / 1e-4}),
            ],
        ),
    ),
]  # fmt: skip
