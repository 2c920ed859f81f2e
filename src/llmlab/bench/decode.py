"""``llmlab bench decode``: tokens a second, greedy, of one text; and whether they are still the same tokens.

The baseline is ``generate`` of transformers on the same weights in float32. Speed without agreement is no result, so
beside it stand the share of most likely tokens that equal the baseline's, on prose read with teacher forcing, and the
loss on that prose. ``--ablate`` puts the plain steps back into the fast decoder, one at a time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmlab.attention import attention
from llmlab.bench import contest
from llmlab.bench.measure import in_turns, read_rate
from llmlab.generate import generate
from llmlab.models.decoder import Decoder
from llmlab.models.fast import FastCache, FastDecoder
from llmlab.models.load import decoder_from
from llmlab.models.matrices import KINDS, Matrix
from llmlab.nn.rotary import apply_rope

__all__ = ["main"]

THEIRS = "transformers float32"


def main(argv: Sequence[str]) -> int:
    """Measure, print, and write what was asked for. Returns the exit status."""
    made = contest.parser("decode", "Tokens a second with a cache, against transformers, and their agreement.", 5)
    made.add_argument("--prompt", type=contest.count, default=32, help="tokens that are given, default 32")
    made.add_argument("--new", type=contest.count, default=64, help="tokens to write, default 64")
    made.add_argument("--prose", type=contest.count, default=2000, help="tokens to compare, default 2000")
    made.add_argument("--ablate", action="store_true", help="put each plain step back, and say what that costs")
    args, on = contest.begin(made, argv)
    theirs, ids = _toy() if args.quick else _smollm2(args.prompt + args.prose)
    args.prose = min(args.prose, len(ids) - args.prompt)
    ours = decoder_from(theirs.config.to_dict(), theirs.state_dict())
    fast = _kinds(ours)
    prompt, prose = ids[: args.prompt], ids[args.prompt :][: args.prose]
    on["versions"] |= contest.versions("transformers")
    size = sum(p.numel() for p in theirs.parameters())
    print(
        f"{size / 1e6:.1f} M parameters; {args.prompt} tokens given, {args.new} written; ratios are to transformers "
        f"{on['versions']['transformers']} in this run"
    )
    writers: dict[str, Any] = {"ours, readable": ours} | {f"ours, fast, {kind}": fast[kind] for kind in fast}
    runs: dict[str, Callable[[], list[int]]] = {THEIRS: partial(_generate, theirs, prompt, args.new)}
    runs |= {name: partial(_ours, model, prompt, args.new) for name, model in writers.items()}
    written = {name: run() for name, run in runs.items()}
    times = in_turns(runs, args.rounds)
    top, loss = _read(lambda x: theirs(x, use_cache=False).logits, prose)
    rows = [contest.row(THEIRS, times[THEIRS], times[THEIRS], args.new, agree=1.0, loss=loss, mb=size * 4 / 1e6)]
    for name, model in writers.items():
        tops, loss = _read(model, prose)
        row = contest.row(name, times[name], times[THEIRS], args.new, agree=float((tops == top).double().mean()))
        row |= {"loss": loss, "mb": (model.bytes() if isinstance(model, FastDecoder) else size * 4) / 1e6}
        rows.append(row | {"same": sum(a == b for a, b in zip(written[name], written[THEIRS]))})
    shown = [r | {"same_tokens": f"{r['same']}/{args.new}" if "same" in r else None} for r in rows]
    contest.table(
        shown, "tokens/s", more={"same_tokens": "", "agree": ".4f", "loss": ".4f", "mb": ".0f"}
    )  # mb: of weights read a token
    print(f"  agree: most likely tokens equal to transformers', of {len(top)}; loss in nats; mb: read a token")
    rate = read_rate(2**22 if args.quick else 2**28)
    for r in rows:
        took, least = 1e3 / r["per_cpu_second"], r["mb"] * 1e9 / rate
        print(f"  {r['name']:22} {took:6.2f} ms a token; its weights at {rate / 1e9:.0f} GB/s need {least:.2f} ms")
    by, goals = {r["name"]: r for r in rows}, contest.Goals()
    goals.add("fast float32, speed to transformers' float32", by["ours, fast, float32"]["ratio"], 1.4)
    goals.add("fast float32, the same tokens written", by["ours, fast, float32"]["same"] / args.new, 1)
    goals.add("fast int8, speed to transformers' float32", by["ours, fast, int8"]["ratio"], 2)
    goals.add("fast int8, agreement", by["ours, fast, int8"]["agree"], 0.95)
    steps = _ablate(ours, prompt, args) if args.ablate else []
    setting = {"prompt": args.prompt, "new": args.new, "prose": len(top), "parameters": size}
    return contest.finish(
        args, "decode", on, setting=setting, rows=rows, goals=goals.all, read_rate=rate, ablation=steps
    )


def _kinds(ours: Decoder) -> dict[str, FastDecoder]:
    """The fast decoder with every kind of matrices that this machine can read."""
    made = {}
    for kind in KINDS:
        try:
            made[kind] = FastDecoder.from_decoder(ours, kind)  # type: ignore[arg-type]
        except ValueError as error:
            print(f"{kind} is left out: {error}")
    return made


def _smollm2(tokens: int) -> tuple[Any, list[int]]:
    """SmolLM2 of transformers, and the beginning of a novel in its tokens."""
    from llmlab.assets import load_novels, load_smollm2

    theirs, tokenizer = load_smollm2()
    text = load_novels()["Persuasion"]
    return theirs, tokenizer(text[: 6 * tokens])["input_ids"][:tokens]


def _toy() -> tuple[Any, list[int]]:
    """A Llama of random weights, and random tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = LlamaConfig(vocab_size=300, num_key_value_heads=2, tie_word_embeddings=True, **sizes)
    return LlamaForCausalLM(config).eval(), torch.randint(0, 300, (100,)).tolist()


def _generate(theirs: Any, prompt: list[int], new: int) -> list[int]:
    from transformers import GenerationConfig

    ids = torch.tensor([prompt])
    settings = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
    with torch.inference_mode():
        out = theirs.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return out[0, len(prompt) :].tolist()


def _ours(model: Decoder | FastDecoder, prompt: list[int], new: int) -> list[int]:
    return generate(model, [prompt], new)[0]


@torch.no_grad()
def _read(model: Callable[[Tensor], Tensor], prose: list[int]) -> tuple[Tensor, float]:
    """The most likely token after each of ``prose``, read in windows of 250, and the mean loss in nats."""
    tops, losses = [], []
    for start in range(0, len(prose), 250):
        ids = torch.tensor(prose[start : start + 250])
        logits = model(ids[None])[0].float()
        tops.append(logits.argmax(-1))
        losses.append(F.cross_entropy(logits[:-1], ids[1:], reduction="none"))
    return torch.cat(tops), float(torch.cat(losses).mean())


# --- the plain steps ------------------------------------------------------------------------------------------------


class _PlainNorm(FastDecoder):
    def normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[1],), weight, self.config.norm_eps)


class _PlainRotation(FastDecoder):
    def rotate(self, qkv: Tensor, turns: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=2))
        cos, sin = turns.real[..., 0, :], turns.imag[..., 0, :]
        if cos.ndim == 3:
            cos, sin = cos[:, None], sin[:, None]
        q, k = apply_rope(q, cos, sin, "interleaved"), apply_rope(k, cos, sin, "interleaved")
        return torch.cat([q, k, v], dim=1).transpose(1, 2)


class _PlainAttention(FastDecoder):
    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        keys = None if mask is None else mask[:, None, None, :]
        return attention(q, k, v, causal=True, mask=keys, enable_gqa=True).transpose(1, 2).flatten(2).flatten(0, 1)


class _PlainCache(FastCache):
    def grow(self, new: int, shape: tuple[int, int, int, int], device: torch.device) -> tuple[list[Tensor], ...]:
        start = self.length
        super().grow(new, shape, device)
        assert self.kept is not None
        layers = range(shape[0])
        return (
            [self.kept[i][:, :, :, start : self.length] for i in layers],
            [self.kept[i][:, :, :, : self.length] for i in layers],
        )


class _PlainCuts(FastDecoder):
    def new_cache(self, capacity: int = 0) -> FastCache:
        return _PlainCache(capacity)


class _Two(Matrix):
    def __init__(self, first: Matrix, second: Matrix) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, rows: Tensor) -> Any:
        return self.first(rows), self.second(rows)


class _PlainGate(FastDecoder):
    def keep(self, weight: Tensor, is_head: bool = False) -> Matrix:
        hidden = self.config.hidden or 4 * self.config.d
        if is_head or len(weight) != 2 * hidden:
            return super().keep(weight, is_head)
        return _Two(super().keep(weight[:hidden]), super().keep(weight[hidden:]))

    def gate(self, both: Any) -> Tensor:
        return F.silu(both[0]) * both[1]


class _AsLinear(Matrix):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight.detach().clone()

    def forward(self, rows: Tensor) -> Tensor:
        return torch.mv(self.weight, rows[0])[None] if len(rows) == 1 else F.linear(rows, self.weight)

    def bytes(self) -> int:
        return self.weight.numel() * 4


class _PlainLayout(FastDecoder):
    def keep(self, weight: Tensor, is_head: bool = False) -> Matrix:
        return _AsLinear(weight)


#: what is put back -> (the kind of weights in which it matters most, the decoder with it)
PLAIN: dict[str, tuple[str, type[FastDecoder]]] = {
    "matrices multiplied by torch.mv": ("float32", _PlainLayout),
    "F.rms_norm": ("float16", _PlainNorm),
    "rotation of q, then of k, in real numbers": ("float16", _PlainRotation),
    "attention() instead of two products": ("float16", _PlainAttention),
    "cache cut in every layer": ("float16", _PlainCuts),
    "gate and up as two matrices": ("float16", _PlainGate),
}


def _ablate(ours: Decoder, prompt: list[int], args: Any) -> list[dict[str, Any]]:
    """What each plain step costs: milliseconds of processor a token, the median of the rounds' differences."""
    models = {f"fast {kind}": FastDecoder.from_decoder(ours, kind) for kind in ("float32", "float16")}
    models |= {name: variant.from_decoder(ours, kind) for name, (kind, variant) in PLAIN.items()}  # type: ignore[arg-type]
    times = in_turns({name: partial(_ours, model, prompt, args.new) for name, model in models.items()}, args.rounds)
    print("\nOne plain step put back; ms of processor a token, and what that is more than without it")
    rows = []
    for name, (kind, _) in PLAIN.items():
        own, base = times[name].cpu, times[f"fast {kind}"].cpu
        took = statistics.median(own) / args.new * 1e3
        costs = sorted((a - b) / args.new * 1e3 for a, b in zip(own, base))
        cost = statistics.median(costs)
        row = {"put_back": name, "weights": kind, "ms": took, "costs_ms": cost, "least": costs[0], "most": costs[-1]}
        rows.append(row)
        print(f"  {kind:8} {name:43}{took:7.2f}  {cost:+6.2f}  (rounds {costs[0]:+.2f} to {costs[-1]:+.2f})")
    return rows
