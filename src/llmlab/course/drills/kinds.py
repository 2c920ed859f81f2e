"""The kinds of drill: each draws its numbers, asks ``llmlab`` for the answer and works it out by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

from llmlab import estimate
from llmlab.course.drills.model import Drill, Step

__all__ = ["KINDS", "drill"]

#: A family of drills: random numbers in, everything but kind and seed out.
Maker = Callable[[random.Random], dict[str, object]]

#: Vendor data sheets: dense 16-bit FLOP/s, bytes/s, bytes of memory.
GPUS = {"A100 80GB": (312e12, 2.039e12, 80e9), "H100 SXM": (989e12, 3.35e12, 80e9)}


def drill(seed: int, kind: str | None = None) -> Drill:
    """The drill of a seed, of one kind or of any. The same seed and kind give the same drill.

    Raises:
        KeyError: no such kind.
    """
    chosen = kind if kind is not None else random.Random(f"kind-{seed}").choice(list(KINDS))
    if chosen not in KINDS:
        raise KeyError(f"no drill {chosen!r}; there are {', '.join(KINDS)}")
    made = KINDS[chosen](random.Random(f"{chosen}-{seed}"))
    one = Drill(kind=chosen, seed=seed, **made)  # type: ignore[arg-type]
    return replace(one, slips=_telling(one))


def _telling(one: Drill) -> dict[str, float]:
    """The slips that lead to a value of their own: away from the answer and from the slips before them."""
    kept: dict[str, float] = {}
    for slip, value in one.slips.items():
        away = not math.isclose(value, one.answer, rel_tol=2 * one.tolerance)
        if away and not any(math.isclose(value, other, rel_tol=0.03) for other in kept.values()):
            kept[slip] = value
    return kept


def _decoder(rng: random.Random) -> estimate.Architecture:
    """A decoder of the Llama family with round sizes."""
    head = rng.choice([64, 128])
    heads = rng.choice([16, 32, 40, 64])
    d = head * heads
    return estimate.Architecture(
        d=d, layers=rng.choice([16, 24, 32, 48, 80]), heads=heads, kv_heads=heads // rng.choice([1, 4, 8]),
        head_size=head, ff=round(d * rng.choice([8 / 3, 3.5, 4]) / 256) * 256,
        vocab=rng.choice([32_000, 50_304, 128_256, 151_936]), tied=rng.choice([True, False]),
    )  # fmt: skip


def _sizes(a: estimate.Architecture) -> str:
    kv = f"{a.kv_heads} key-value heads of size {a.head_size}"
    return f"{a.layers} layers, width {a.d:,}, {a.heads} query heads and {kv}"


def model_parameters(rng: random.Random) -> dict[str, object]:
    a = _decoder(rng)
    kv = (a.kv_heads or a.heads) * (a.head_size or 0)
    attention, mlp = 2 * a.d * a.d + 2 * a.d * kv, 3 * a.d * a.ff
    tables = a.vocab * a.d * (1 if a.tied else 2)
    norms = (2 * a.layers + 1) * a.d
    total = a.layers * (attention + mlp) + tables + norms
    tie = "shared by input and output" if a.tied else "not shared: one at the input, one at the output"
    return {
        "notebook": "08",
        "text": f"A decoder has {_sizes(a)}; a gated feed-forward layer (three matrices) of width {a.ff:,}; no biases, "
        f"RMSNorm; a vocabulary of {a.vocab:,} whose table is {tie}. How many parameters?",
        "unit": "parameters",
        "answer": float(estimate.total_parameters(a)),
        "working": (
            Step("attention of a layer", f"2·{a.d}² + 2·{a.d}·{kv}", attention),
            Step("feed-forward of a layer", f"3·{a.d}·{a.ff}", mlp),
            Step("all layers", f"{a.layers}·({attention:,} + {mlp:,})", a.layers * (attention + mlp)),
            Step("vocabulary", f"{a.vocab}·{a.d}{'' if a.tied else '·2'}", tables),
            Step("norms", f"({2 * a.layers} + 1)·{a.d}", norms),
            Step("together", f"{a.layers * (attention + mlp):,} + {tables:,} + {norms:,}", total),
        ),
        "slips": {
            "a gated feed-forward layer has three matrices, not two": total - a.layers * a.d * a.ff,
            "the table of the vocabulary is missing": total - tables,
            "keys and values have fewer heads than queries": total + a.layers * 2 * a.d * (a.d - kv),
            "twelve d² a layer is GPT-2's rule": 12.0 * a.layers * a.d**2 + tables,
        },
        "tolerance": 0.02,
    }


def training_flops(rng: random.Random) -> dict[str, object]:
    n, d = rng.choice([0.4e9, 1.3e9, 7e9, 13e9, 70e9, 175e9]), rng.choice([100e9, 300e9, 1.4e12, 2e12, 15e12])
    return {
        "notebook": "09",
        "text": f"A dense model of {n / 1e9:g} billion parameters is trained on {d / 1e9:,.0f} billion tokens. About "
        "how many floating-point operations is that?",
        "unit": "FLOPs",
        "answer": estimate.training_flops(n, d),
        "working": (
            Step("forward, a token", f"2·{n:.3g}", 2 * n),
            Step("forward and backward", f"3·{2 * n:.3g}", 6 * n),
            Step("all tokens", f"{6 * n:.3g}·{d:.3g}", 6 * n * d),
        ),
        "slips": {
            "two operations a parameter is the forward pass; the backward pass costs twice as much again": 2 * n * d,
            "four operations are the backward pass alone": 4 * n * d,
            "eight operations a parameter include a recomputed forward pass": 8 * n * d,
        },
    }


def training_days(rng: random.Random) -> dict[str, object]:
    n, d = rng.choice([1.3e9, 7e9, 70e9, 175e9]), rng.choice([300e9, 1e12, 2e12, 15e12])
    gpu = rng.choice(list(GPUS))
    peak = GPUS[gpu][0]
    devices, mfu = rng.choice([64, 256, 1024, 2048]), rng.choice([0.3, 0.38, 0.45, 0.5])
    flops = 6 * n * d
    days = flops / (devices * peak * mfu) / 86400
    return {
        "notebook": "09",
        "text": f"{n / 1e9:g} billion parameters, {d / 1e9:,.0f} billion tokens, {devices:,} {gpu} ({peak / 1e12:g} "
        f"dense 16-bit TFLOP/s each) at a utilisation of {mfu:.0%}. How many days does the training take?",
        "unit": "days",
        "answer": estimate.training_days(estimate.training_flops(n, d), devices=devices, peak=peak, utilisation=mfu),
        "working": (
            Step("operations", f"6·{n:.3g}·{d:.3g}", flops),
            Step("operations a second", f"{devices}·{peak:.3g}·{mfu}", devices * peak * mfu),
            Step("seconds", f"{flops:.3g} / {devices * peak * mfu:.3g}", flops / (devices * peak * mfu)),
            Step("days", f"{flops / (devices * peak * mfu):.3g} / 86,400", days),
        ),
        "slips": {
            "the devices do not reach their peak; multiply by the utilisation": days * mfu,
            "that is in hours": days * 24,
            "training costs 6, not 2, operations a parameter and token": days / 3,
        },
    }


def training_state(rng: random.Random) -> dict[str, object]:
    n = rng.choice([1.3e9, 3e9, 7e9, 13e9, 34e9, 70e9])
    total = 16 * n
    return {
        "notebook": "19",
        "text": f"Mixed-precision training of {n / 1e9:g} billion parameters with AdamW: bf16 weights and gradients, "
        "an fp32 copy of the weights and two fp32 moments. How many bytes do these take together, without activations?",
        "unit": "bytes",
        "answer": sum(estimate.training_memory(n).values()),
        "working": (
            Step("weights and gradients", "2 + 2 bytes a parameter", 4),
            Step("fp32 copy", "4 bytes a parameter", 4),
            Step("two moments", "4 + 4 bytes a parameter", 8),
            Step("together", f"16·{n:.3g}", total),
        ),
        "slips": {
            "that is the weights alone": 2 * n,
            "the fp32 copy of the weights is missing": 12 * n,
            "the moments are missing": 8 * n,
            "the gradients are missing": 14 * n,
        },
    }


def zero_stage(rng: random.Random) -> dict[str, object]:
    n, devices, stage = rng.choice([7e9, 13e9, 70e9]), rng.choice([8, 16, 64]), rng.choice([1, 2, 3])
    shared = {1: 12, 2: 14, 3: 16}[stage]
    whole = 16 - shared
    per = whole * n + shared * n / devices
    cut = {1: "the optimizer state (12 bytes a parameter with the fp32 copy)", 2: "optimizer state and gradients",
           3: "optimizer state, gradients and weights"}[stage]  # fmt: skip
    return {
        "notebook": "40",
        "text": f"The same 16 bytes a parameter (bf16 weights and gradients, fp32 copy, two fp32 moments) for "
        f"{n / 1e9:g} billion parameters, on {devices} devices with ZeRO stage {stage}. How many bytes on each device?",
        "unit": "bytes",
        "answer": sum(estimate.training_memory(n, devices=devices, zero=stage).values()),
        "working": (
            Step(f"stage {stage} divides", cut, shared),
            Step("kept whole", f"{whole}·{n:.3g}", whole * n),
            Step("divided", f"{shared}·{n:.3g} / {devices}", shared * n / devices),
            Step("on each device", f"{whole * n:.3g} + {shared * n / devices:.3g}", per),
        ),
        "slips": {"nothing was divided": 16 * n}
        | ({} if stage == 3 else {"only stage 3 divides the weights": 16 * n / devices}),
    }


def kv_cache(rng: random.Random) -> dict[str, object]:
    a = _decoder(rng)
    tokens, batch = rng.choice([2048, 8192, 32_768, 131_072]), rng.choice([1, 8, 32])
    kv, head = a.kv_heads or a.heads, a.head_size or 0
    total = 2 * a.layers * kv * head * 2 * tokens * batch
    slips = {
        "keys and values are two tensors": total / 2,
        "bf16 takes two bytes": total / 2,
        "one sequence is not the whole batch": total / batch,
    }
    if kv != a.heads:
        slips["the cache holds key-value heads, not query heads"] = total * a.heads / kv
    return {
        "notebook": "03",
        "text": f"A decoder has {_sizes(a)}. How many bytes does its KV cache take in bf16 for {batch} "
        f"sequence{'s' * (batch > 1)} of {tokens:,} tokens?",
        "unit": "bytes",
        "answer": float(
            estimate.kv_cache_bytes(layers=a.layers, kv_heads=kv, head_size=head, tokens=tokens, batch=batch)
        ),
        "working": (
            Step("numbers a token and layer", f"2·{kv}·{head}", 2 * kv * head),
            Step("bytes a token", f"{2 * kv * head:,}·{a.layers}·2", 2 * kv * head * a.layers * 2),
            Step("all tokens", f"{2 * kv * head * a.layers * 2:,}·{tokens}·{batch}", total),
        ),
        "slips": {name: value for name, value in slips.items() if value != total},
    }


def decode_speed(rng: random.Random) -> dict[str, object]:
    gpu, n = rng.choice(list(GPUS)), rng.choice([1.5e9, 7e9, 8e9, 13e9, 32e9])
    bits = rng.choice([16, 8, 4])
    bandwidth = GPUS[gpu][1]
    weights = n * bits / 8
    return {
        "notebook": "11",
        "text": f"One sequence at a time, {n / 1e9:g} billion parameters in {bits} bits, one {gpu} that reads "
        f"{bandwidth / 1e12:g} TB/s. Reading the weights bounds decoding: at most how many tokens a second?",
        "unit": "tokens a second",
        "answer": bandwidth / weights,
        "working": (
            Step("bytes of weights", f"{n:.3g}·{bits}/8", weights),
            Step("tokens a second", f"{bandwidth:.4g} / {weights:.3g}", bandwidth / weights),
        ),
        "slips": {
            "every step reads all weights once, not twice": bandwidth / weights / 2,
            f"{bits} bits are {bits / 8:g} bytes": bandwidth / (n * bits),
        },
    }


def lora(rng: random.Random) -> dict[str, object]:
    a, rank = _decoder(rng), rng.choice([4, 8, 16, 64])
    kv = (a.kv_heads or a.heads) * (a.head_size or 0)
    layer = rank * (a.d + a.d) + rank * (a.d + kv)
    return {
        "notebook": "19",
        "text": f"LoRA of rank {rank} on the query and value projections of a decoder with {_sizes(a)}. How many "
        "parameters are trained?",
        "unit": "parameters",
        "answer": float(estimate.lora_parameters(a, rank=rank)),
        "working": (
            Step("queries, a layer", f"{rank}·({a.d} + {a.d})", rank * 2 * a.d),
            Step("values, a layer", f"{rank}·({a.d} + {kv})", rank * (a.d + kv)),
            Step("all layers", f"{a.layers}·{layer:,}", a.layers * layer),
        ),
        "slips": {
            "an adapter is two matrices, A and B": a.layers * 2 * rank * a.d,
            "the whole matrices stay frozen": float(a.layers * (a.d * a.d + a.d * kv)),
        }
        | ({} if kv == a.d else {"values are narrower than queries": a.layers * 4 * rank * a.d}),
    }


def optimal_tokens(rng: random.Random) -> dict[str, object]:
    flops = rng.choice([1e19, 1e20, 1e21, 1e22, 1e23, 1e24]) * rng.choice([1, 2, 3, 6])
    n, d = estimate.balanced(flops)
    return {
        "notebook": "09",
        "text": f"You may spend {flops:.0e} operations on training one dense model, with 20 tokens a parameter as "
        "Chinchilla. How many parameters does it get?",
        "unit": "parameters",
        "answer": n,
        "working": (
            Step("with D = 20 N", "C = 6·N·20·N = 120·N²", 120),
            Step("N²", f"{flops:.3g} / 120", flops / 120),
            Step("N", f"√{flops / 120:.3g}", math.sqrt(flops / 120)),
        ),
        "slips": {
            "that is the number of tokens": d,
            "training takes six operations a parameter and token": math.sqrt(flops / 20),
        },
    }


def steps_of_training(rng: random.Random) -> dict[str, object]:
    micro, accumulate, devices = rng.choice([1, 2, 4, 8]), rng.choice([4, 8, 16, 32]), rng.choice([8, 64, 256])
    context, tokens = rng.choice([1024, 2048, 4096, 8192]), rng.choice([10e9, 100e9, 300e9, 1e12])
    batch = micro * accumulate * devices * context
    return {
        "notebook": "36",
        "text": f"{devices} devices, each with a micro-batch of {micro} sequences of {context:,} tokens, gradients "
        f"accumulated over {accumulate} micro-batches. How many optimizer steps are {tokens / 1e9:g} billion tokens?",
        "unit": "steps",
        "answer": tokens / batch,
        "working": (
            Step("sequences a step", f"{micro}·{accumulate}·{devices}", micro * accumulate * devices),
            Step("tokens a step", f"{micro * accumulate * devices:,}·{context}", batch),
            Step("steps", f"{tokens:.3g} / {batch:,}", tokens / batch),
        ),
        "slips": {
            "micro-batches that are accumulated make one step": tokens / batch * accumulate,
            "all devices work on the same step": tokens / batch * devices,
            "a batch is counted in tokens here, not in sequences": tokens / batch * context,
        },
        "tolerance": 0.02,
    }


def perplexity(rng: random.Random) -> dict[str, object]:
    tokens, total = rng.choice([500, 1000, 2000]), 0.0
    total = round(tokens * rng.uniform(1.8, 4.5), 1)
    return {
        "notebook": "20",
        "text": f"A model gives a text of {tokens:,} tokens a log-likelihood of -{total:,.1f} nats in all. What is its "
        "perplexity?",
        "unit": "",
        "answer": math.exp(total / tokens),
        "working": (
            Step("nats a token", f"{total:g} / {tokens}", total / tokens),
            Step("perplexity", f"e^{total / tokens:.4g}", math.exp(total / tokens)),
        ),
        "slips": {
            "natural logarithms want e, not 2": 2 ** (total / tokens),
            "that is the loss; perplexity is its exponential": total / tokens,
        },
    }


def bits_per_byte(rng: random.Random) -> dict[str, object]:
    loss, per = round(rng.uniform(1.8, 3.6), 2), round(rng.uniform(2.5, 4.6), 1)
    return {
        "notebook": "41",
        "text": f"A model's loss is {loss} nats a token; a token covers {per} bytes of the text on average. How many "
        "bits a byte is that?",
        "unit": "bits a byte",
        "answer": loss / math.log(2) / per,
        "working": (
            Step("bits a token", f"{loss} / ln 2", loss / math.log(2)),
            Step("bits a byte", f"{loss / math.log(2):.4g} / {per}", loss / math.log(2) / per),
        ),
        "slips": {
            "nats become bits by dividing by ln 2": loss / per,
            "nats become bits by dividing by ln 2, not by multiplying": loss * math.log(2) / per,
            "a token is several bytes: divide": loss / math.log(2) * per,
        },
        "tolerance": 0.02,
    }


def brevity_penalty(rng: random.Random) -> dict[str, object]:
    reference = rng.randint(18, 60)
    candidate = rng.randint(round(reference * 0.6), reference - 1)
    value = math.exp(1 - reference / candidate)
    return {
        "notebook": "20",
        "text": f"A translation has {candidate} tokens, its reference {reference}. What is BLEU's brevity penalty?",
        "unit": "",
        "answer": value,
        "working": (
            Step("shorter than the reference", f"1 - {reference}/{candidate}", 1 - reference / candidate),
            Step("penalty", f"e^({1 - reference / candidate:.4g})", value),
        ),
        "slips": {
            "the ratio stands in an exponential": candidate / reference,
            "reference over candidate, not the other way round": math.exp(1 - candidate / reference),
        },
        "tolerance": 0.01,
    }


def first_loss(rng: random.Random) -> dict[str, object]:
    vocab = rng.choice([256, 8_192, 32_000, 50_257, 128_256, 151_936])
    return {
        "notebook": "44",
        "text": f"A language model with a vocabulary of {vocab:,} has just been initialised. What loss, in nats a "
        "token, should the first batch show?",
        "unit": "nats",
        "answer": math.log(vocab),
        "working": (Step("every token equally likely", f"ln {vocab}", math.log(vocab)),),
        "slips": {
            "nats are natural logarithms": math.log2(vocab),
            "nats are natural logarithms, not decimal": math.log10(vocab),
        },
        "tolerance": 0.02,
    }


def f1(rng: random.Random) -> dict[str, object]:
    tp, fp, fn = rng.randint(20, 90), rng.randint(4, 20), rng.randint(30, 90)
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return {
        "notebook": "35",
        "text": f"A detector finds {tp} of the cases rightly, {fp} that are none, and misses {fn}. What is its F1?",
        "unit": "",
        "answer": 2 * tp / (2 * tp + fp + fn),
        "working": (
            Step("precision", f"{tp} / ({tp} + {fp})", precision),
            Step("recall", f"{tp} / ({tp} + {fn})", recall),
            Step(
                "harmonic mean",
                f"2·{precision:.4g}·{recall:.4g} / ({precision:.4g} + {recall:.4g})",
                2 * precision * recall / (precision + recall),
            ),
        ),  # fmt: skip
        "slips": {
            "F1 is the harmonic mean, not the arithmetic one": (precision + recall) / 2,
            "that is precision": precision,
            "that is recall": recall,
            "that is Jaccard's index": tp / (tp + fp + fn),
        },  # fmt: skip
        "tolerance": 0.003,
    }


def minhash(rng: random.Random) -> dict[str, object]:
    bands, rows, s = rng.choice([10, 16, 20]), rng.choice([5, 6, 8]), rng.choice([0.4, 0.5, 0.6, 0.7])
    value = 1 - (1 - s**rows) ** bands
    return {
        "notebook": "42",
        "text": f"MinHash with {bands} bands of {rows} rows. With what probability do two texts of Jaccard "
        f"similarity {s} become a candidate pair?",
        "unit": "",
        "answer": value,
        "working": (
            Step("one band agrees", f"{s}^{rows}", s**rows),
            Step("no band agrees", f"(1 - {s**rows:.4g})^{bands}", (1 - s**rows) ** bands),
            Step("some band agrees", f"1 - {(1 - s**rows) ** bands:.4g}", value),
        ),
        "slips": {
            "that is the probability of no candidate": 1 - value,
            "there are several bands": s**rows,
            "rows must all agree, one band is enough: not the other way round": (1 - (1 - s) ** bands) ** rows,
        },  # fmt: skip
        "tolerance": 0.01,
    }


def price(rng: random.Random) -> dict[str, object]:
    n, d = rng.choice([1.3e9, 7e9, 13e9]), rng.choice([100e9, 1e12, 2e12])
    gpu = rng.choice(list(GPUS))
    peak, mfu, dollars = GPUS[gpu][0], rng.choice([0.35, 0.4, 0.5]), rng.choice([1.5, 2.0, 3.0])
    seconds = 6 * n * d / (peak * mfu)
    return {
        "notebook": "09",
        "text": f"{n / 1e9:g} billion parameters on {d / 1e9:,.0f} billion tokens, {gpu} ({peak / 1e12:g} dense "
        f"TFLOP/s) at {mfu:.0%} utilisation, {dollars:g} dollars a device and hour. What does the run cost?",
        "unit": "dollars",
        "answer": estimate.training_cost(6 * n * d, peak=peak, utilisation=mfu, price=dollars),
        "working": (
            Step("operations", f"6·{n:.3g}·{d:.3g}", 6 * n * d),
            Step("device seconds", f"{6 * n * d:.3g} / ({peak:.3g}·{mfu})", seconds),
            Step("device hours", f"{seconds:.4g} / 3600", seconds / 3600),
            Step("dollars", f"{seconds / 3600:,.0f}·{dollars:g}", seconds / 3600 * dollars),
        ),
        "slips": {
            "devices do not reach their peak": seconds / 3600 * dollars * mfu,
            "training takes six operations a parameter and token": seconds / 3600 * dollars / 3,
        },
    }


def quantised(rng: random.Random) -> dict[str, object]:
    n, block = rng.choice([1.5e9, 7e9, 13e9, 70e9]), rng.choice([32, 64, 128])
    bits = 4 + 32 / block
    return {
        "notebook": "21",
        "text": f"{n / 1e9:g} billion weights in 4 bits, with one 32-bit scale for every {block} of them. How many "
        "bytes?",
        "unit": "bytes",
        "answer": estimate.quantised_bytes(n, bits=4, block=block, double=False),
        "working": (
            Step("bits of a scale, a weight", f"32 / {block}", 32 / block),
            Step("bits a weight", f"4 + {32 / block:g}", bits),
            Step("bytes", f"{n:.3g}·{bits:g} / 8", n * bits / 8),
        ),
        "slips": {"the scales take room too": n / 2, "that is in bits": n * bits},
        "tolerance": 0.01,
    }


#: By name. Names say what is asked.
KINDS: dict[str, Maker] = {
    make.__name__: make
    for make in (
        model_parameters,
        training_flops,
        training_days,
        price,
        training_state,
        zero_stage,
        kv_cache,
        decode_speed,
        lora,
        optimal_tokens,
        steps_of_training,
        perplexity,
        bits_per_byte,
        brevity_penalty,
        first_loss,
        f1,
        minhash,
        quantised,
    )  # fmt: skip
}
