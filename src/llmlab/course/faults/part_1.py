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


def check_axis(answer: Any) -> str:
    import torch

    q, k, v = _attention_case(1)
    k, v = k[:, :3], v[:, :3]
    right = (q @ k.mT / 8**0.5).softmax(-1) @ v
    expect_close(
        call(answer, q, k, v), right, "the output",
        near_misses=[
            ((q @ k.mT / 8**0.5).softmax(-2) @ v, "the weights of a query do not add up to 1: the softmax runs over the queries"),
            ((q @ k.mT / 8).softmax(-1) @ v, "the scores are divided by d, not by its root"),
            ((q @ k.mT).softmax(-1) @ v, "the scale 1/√d has got lost"),
        ],
    )  # fmt: skip
    constant = call(answer, q, k, torch.ones_like(v))
    if not torch.allclose(constant, torch.ones_like(constant), atol=1e-5):
        raise Wrong("if all values are 1, every output must be 1: weights of a query sum to 1")
    return "each query's weights add up to 1"


AXIS = """
import torch

def attention(q, k, v):
    scores = q @ k.mT / q.size(-1) ** 0.5
    weights = scores.softmax(dim=-2)
    return weights @ v
"""


def check_positions(answer: Any) -> str:
    import torch

    x = torch.zeros(3, 7, 8)
    got = call(answer, x)
    table = _sinusoids(7, 8)
    if torch.allclose(got[:, 0], got[:, 1]) and not torch.allclose(got[0], got[1]):
        raise Wrong(
            "all tokens of a text get the same position, and each text of the batch another: it is indexed by the batch"
        )
    expect_close(got, table.expand(3, 7, 8), "the encoded zeros")
    alone = call(answer, x[:1])
    if not torch.allclose(alone[0], got[2], atol=1e-6):
        raise Wrong("a text must get the same positions alone and in a batch")
    expect_close(call(answer, torch.ones(2, 3, 8)), torch.ones(2, 3, 8) + table[:3], "positions added to ones")
    return "positions run along the text"


def _sinusoids(length: int, d: int) -> Any:
    import torch

    angle = torch.arange(length).unsqueeze(1) / 10000 ** (torch.arange(0, d, 2) / d)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


POSITIONS = """
import torch

def add_positions(x):
    batch, length, d = x.shape
    position = torch.arange(batch).unsqueeze(1)
    angle = position / 10000 ** (torch.arange(0, d, 2) / d)
    table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
    return x + table.unsqueeze(1)
"""


def check_merge(answer: Any) -> str:
    import torch

    x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)  # batch, heads, time, size
    got = call(answer, x)
    right = torch.cat([x[:, h] for h in range(3)], -1)
    expect_close(got, right, "the merged heads",
                 near_misses=[(x.reshape(2, 4, 15), "reshape alone mixes heads and times: first bring the heads behind the time")])  # fmt: skip
    return "head after head, for each token"


MERGE = """
import torch

def merge_heads(x):
    batch, heads, time, size = x.shape
    return x.reshape(batch, time, heads * size)
"""


def check_residual(answer: Any) -> str:
    import torch

    def double(x: Any) -> Any:
        return 2 * x

    def zero(x: Any) -> Any:
        return torch.zeros_like(x)

    x = torch.tensor([[-1.0, 2.0, -3.0]])
    got = call(answer, x, zero, lambda x: x)
    if torch.equal(got, x.relu()):
        raise Wrong("what is negative in the stream is cut away: nothing may act on the sum")
    expect_close(got, x, "the stream behind a block that adds nothing")
    got = call(answer, x, double, lambda x: x / 2)
    expect_close(got, 2 * x, "the stream behind a block",
                 near_misses=[(1.5 * x, "the norm acts on the sum, so the stream itself is scaled: norm what the layer reads"),
                              (3 * x, "the norm got lost")])  # fmt: skip
    return "the stream passes untouched, the layer reads a normed copy"


RESIDUAL = """
import torch

def block(x, layer, norm):
    return torch.relu(x + layer(norm(x)))
"""


def check_norm(answer: Any) -> str:
    import torch

    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1e-4, 2e-4, 3e-4, 4e-4], [5.0, 5.0, 5.0, 5.0]])
    w, b = torch.tensor([1.0, 2.0, 1.0, 0.5]), torch.tensor([0.0, 1.0, 0.0, -1.0])
    right = torch.nn.functional.layer_norm(x, (4,), w, b, 1e-5)
    got = call(answer, x, w, b)
    expect_finite(got, "the output")
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True)
    expect_close(
        got, right, "the normed rows",
        near_misses=[
            ((x - mean) / (var + 1e-5).sqrt() * w + b, "the variance divides by d − 1: LayerNorm divides by d"),
            ((x - mean) / (x.std(-1, correction=0, keepdim=True) + 1e-5) * w + b, "eps stands behind the root: it belongs under it"),
            ((x - mean) / (var.sqrt() + 1e-5) * w + b, "two things: eps stands behind the root, and the variance divides by d − 1"),
        ],
    )  # fmt: skip
    return "torch's LayerNorm, also for tiny and constant rows"


NORM = """
import torch

def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    deviation = x.std(-1, keepdim=True)
    return (x - mean) / (deviation + eps) * weight + bias
"""


def check_dropout(answer: Any) -> str:
    import torch

    x = torch.ones(200, 50)
    torch.manual_seed(1)
    got = call(answer, x, 0.25, True)
    if got.shape != x.shape:
        raise Wrong("the dropped elements are taken out, so the shape is lost: set them to 0")
    share = float((got == 0).float().mean())
    if abs(share - 0.75) < 0.05:
        raise Wrong("three quarters are dropped where p is 0.25: the comparison is the wrong way round")
    if abs(share - 0.25) > 0.05:
        raise Wrong(f"{share:.0%} of the elements are 0 where p is 0.25")
    if abs(float(got.mean()) - 1) > 0.03:
        raise Wrong(f"the mean of ones becomes {float(got.mean()):.2f}: what stays must be divided by 1 − p")
    if not torch.equal(call(answer, x, 0.25, False), x):
        raise Wrong("when not training, x comes back as it is")
    return "shape and mean stay, and nothing happens in use"


DROPOUT = """
import torch

def dropout(x, p, training):
    mask = torch.rand(x.shape) > p
    return x[mask]
"""


FAULTS = (
    Fault(
        id="01.softmax_over_queries", title="Attention", difficulty=1,
        story="Attention of five queries over three keys. With all values equal to 1 the outputs are not 1.",
        program=AXIS, name="attention",
        diagnosis="The softmax runs over the queries, so the weights of a query do not add up to 1.",
        lures={
            "Queries and keys may not differ in number.": "They may: each query reads all keys.",
            "The scores should be divided by d.": "By its root: their standard deviation is √d.",
        },
        check=check_axis,
        mended=AXIS.replace("dim=-2", "dim=-1"),
        also_right="""
        import torch.nn.functional as F

        def attention(q, k, v):
            return F.scaled_dot_product_attention(q, k, v)
        """,
        wrong=(
            Mending("divided by the sum of scores", AXIS.replace("scores.softmax(dim=-2)", "scores / scores.sum(-1, keepdim=True)"), "the output"),
            Mending("scaled by d", AXIS.replace("dim=-2", "dim=-1").replace(" ** 0.5", ""), "not by its root"),
        ),
    ),
    Fault(
        id="02.indexed_by_the_batch", title="Sinusoidal positions", difficulty=1,
        story="Positions are added to embeddings of shape batch, time, d. A text gets other vectors when its place in the batch "
        "changes, and the order of its words makes no difference.",
        program=POSITIONS, name="add_positions",
        diagnosis="The table is made for the batch and indexed by it, not by the time.",
        lures={
            "Sine and cosine alternate, where they should stand in two halves.": "Both layouts are in use; either carries the position.",
            "The base 10000 is too large for short texts.": "It sets the slowest wave; short texts still differ in the fast ones.",
        },
        check=check_positions,
        mended=POSITIONS.replace("torch.arange(batch)", "torch.arange(length)").replace("table.unsqueeze(1)", "table"),
        also_right=POSITIONS.replace("torch.arange(batch)", "torch.arange(length)").replace("table.unsqueeze(1)", "table.expand(batch, -1, -1)"),
        wrong=(
            Mending("only the length", POSITIONS.replace("torch.arange(batch)", "torch.arange(length)"), "dimension"),
            Mending("no positions", POSITIONS.replace("x + table.unsqueeze(1)", "x"), "the encoded zeros"),
        ),
    ),
    Fault(
        id="03.merged_without_transpose", title="Merging heads", difficulty=1,
        story="The heads' results, of shape batch, heads, time, size, are put side by side for each token. The shape is right, "
        "and the model does not learn.",
        program=MERGE, name="merge_heads",
        diagnosis="reshape reads memory in order, so numbers of different tokens and heads get mixed; the axes must be swapped first.",
        lures={
            "The heads should be averaged.": "They are concatenated; the output projection mixes them.",
            "The result should be divided by the number of heads.": "Nothing in multi-head attention divides by it.",
        },
        check=check_merge,
        mended=MERGE.replace("x.reshape", "x.transpose(1, 2).reshape"),
        also_right="""
        import torch

        def merge_heads(x):
            return torch.cat(list(x.unbind(1)), dim=-1)
        """,
        wrong=(
            Mending("the wrong axes", MERGE.replace("x.reshape", "x.transpose(2, 3).reshape"), "the merged heads"),
            Mending("sizes outside heads", MERGE.replace("x.reshape", "x.permute(0, 2, 3, 1).reshape"), "the merged heads"),
        ),
    ),
    Fault(
        id="04.relu_on_the_stream", title="A residual block", difficulty=1,
        story="A pre-norm block in a deep model. The deeper it gets, the more of the stream is zero.",
        program=RESIDUAL, name="block",
        diagnosis="The ReLU acts on the sum, so the stream itself is cut; only what the layer adds may be changed.",
        lures={
            "The norm must stand behind the sum.": "That is post-norm, and another block.",
            "x should be added twice.": "Once is the identity that the gradient needs.",
        },
        check=check_residual,
        mended=RESIDUAL.replace("torch.relu(x + layer(norm(x)))", "x + layer(norm(x))"),
        also_right="""
        def block(x, layer, norm):
            update = layer(norm(x))
            return update.add(x)
        """,
        wrong=(
            Mending("norm on the sum", RESIDUAL.replace("torch.relu(x + layer(norm(x)))", "norm(x + layer(x))"), "the stream"),
            Mending("no norm", RESIDUAL.replace("torch.relu(x + layer(norm(x)))", "x + layer(x)"), "the norm got lost"),
        ),
        errata=("A04-1",),
    ),
    Fault(
        id="05.deviation_and_eps", title="LayerNorm", difficulty=2,
        story="LayerNorm by hand. It is 13 % off torch's on rows of four numbers, and far off on rows of tiny numbers.",
        program=NORM, name="layer_norm",
        diagnosis="std divides by d − 1, and eps is added behind the root where it belongs under it.",
        lures={
            "The mean should run over the batch.": "LayerNorm's statistics are those of one token.",
            "The weight must be applied before the mean is subtracted.": "Weight and bias come last.",
        },
        check=check_norm,
        mended=NORM.replace("deviation = x.std(-1, keepdim=True)", "variance = x.var(-1, correction=0, keepdim=True)").replace(
            "(deviation + eps)", "(variance + eps).sqrt()"),
        also_right="""
        import torch

        def layer_norm(x, weight, bias, eps=1e-5):
            centred = x - x.mean(-1, keepdim=True)
            return centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + eps) * weight + bias
        """,
        wrong=(
            Mending("eps still outside", NORM.replace("x.std(-1,", "x.std(-1, correction=0,"), "belongs under it"),
            Mending("still d − 1", NORM.replace("deviation = x.std(-1, keepdim=True)", "variance = x.var(-1, keepdim=True)").replace(
                "(deviation + eps)", "(variance + eps).sqrt()"), "divides by d"),
        ),
    ),
    Fault(
        id="06.mask_as_an_index", title="Dropout", difficulty=1,
        story="A dropout that should spare shape and mean. The next layer complains about a vector of odd length, and in "
        "evaluation the outputs differ from call to call.",
        program=DROPOUT, name="dropout",
        diagnosis="x[mask] takes elements out and flattens the rest; nothing is rescaled, and training is ignored.",
        lures={
            "p and 1 − p are exchanged.": "An element stays where the number is above p: with probability 1 − p.",
            "The mask should be the same for all rows.": "Each element is dropped by itself.",
        },
        check=check_dropout,
        mended=DROPOUT.replace("    mask", "    if not training:\n        return x\n    mask").replace("x[mask]", "x * mask / (1 - p)"),
        also_right="""
        import torch.nn.functional as F

        def dropout(x, p, training):
            return F.dropout(x, p, training)
        """,
        wrong=(
            Mending("no rescaling", DROPOUT.replace("    mask", "    if not training:\n        return x\n    mask").replace("x[mask]", "x * mask"), "divided by 1"),
            Mending("always on", DROPOUT.replace("x[mask]", "x * mask / (1 - p)"), "when not training"),
            Mending("the wrong way round", DROPOUT.replace("    mask", "    if not training:\n        return x\n    mask").replace(
                "> p", "< p").replace("x[mask]", "x * mask / p"), "wrong way round"),
        ),
        errata=("A06-1",),
    ),
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
