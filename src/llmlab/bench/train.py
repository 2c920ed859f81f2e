"""``llmlab bench train``: tokens a second through whole training steps, of a small GPT that predicts characters.

The baseline is the model and the loop of nanoGPT's kind, written here with torch's own modules and nothing else. It has
the same sizes and starts from the same weights, so the loss of the first batch must be the same. "fast" is our decoder
and our loop with two options: torch's fused AdamW, and in float32 linear layers by oneDNN, in bfloat16 attention by two
products instead of the fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlab.attention.short import short_attention
from llmlab.bench import contest
from llmlab.bench.measure import in_turns, matmul_rate
from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.nn.heads import compute_with
from llmlab.nn.onednn import with_onednn
from llmlab.train import train_model
from llmlab.train.optim import decay_groups

__all__ = ["main"]

Batch = Callable[[], Tensor]


class Size(NamedTuple):
    """A model, a batch, and the goal for our speed as a multiple of the plain loop's."""

    name: str
    layers: int
    heads: int
    d: int
    time: int
    batch: int
    steps: int  # a round
    dtype: torch.dtype
    goal: float


SIZES = (
    Size("1 M, float32", 4, 4, 128, 128, 16, 6, torch.float32, 1.0),
    Size("10 M, bfloat16", 6, 6, 384, 256, 16, 1, torch.bfloat16, 1.15),
)
TOY = (
    Size("toy, float32", 2, 2, 16, 12, 2, 1, torch.float32, 1.0),
    Size("toy, bfloat16", 2, 2, 16, 12, 2, 1, torch.bfloat16, 1.15),
)


class PlainAttention(nn.Module):
    """Causal self-attention with torch's kernel, as a plain script has it."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, d = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, d // self.heads).transpose(1, 2) for part in self.qkv(x).split(d, dim=2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).contiguous().view(batch, time, d))


class PlainBlock(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attend, self.norm2 = nn.LayerNorm(d), PlainAttention(d, heads), nn.LayerNorm(d)
        self.feedforward = nn.ModuleDict({"up": nn.Linear(d, 4 * d), "down": nn.Linear(4 * d, d)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.feedforward["down"](F.gelu(self.feedforward["up"](self.norm2(x))))


class PlainGPT(nn.Module):
    """GPT-2's architecture in torch's modules; its tensors have the names of ours."""

    def __init__(self, vocabulary: int, size: Size) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, size.d), nn.Embedding(size.time, size.d)
        self.blocks = nn.ModuleList(PlainBlock(size.d, size.heads) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.d)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.token.weight)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


def plain_loop(model: PlainGPT, batch: Batch, optimizer: torch.optim.Optimizer, size: Size) -> None:
    """Steps as a plain script takes them."""
    model.train()
    for _ in range(size.steps):
        windows = batch()
        with _cast(size.dtype):
            loss = model(windows[:, :-1], windows[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()


def ours(vocabulary: int, size: Size) -> Decoder:
    """The same architecture in our decoder."""
    torch.manual_seed(0)
    return Decoder(
        DecoderConfig.gpt2(vocabulary, size.d, size.layers, size.heads, context=size.time, activation="gelu")
    )


def copied(model: Decoder, vocabulary: int, size: Size) -> PlainGPT:
    """The plain model with the weights of ours."""
    plain = PlainGPT(vocabulary, size)
    names = {
        name.replace("position.table", "position.weight"): tensor.clone() for name, tensor in model.state_dict().items()
    }
    plain.load_state_dict(names)
    return plain


def _cast(dtype: torch.dtype) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype=dtype)


def main(argv: Sequence[str]) -> int:
    """Measure, print, and write what was asked for. Returns the exit status."""
    made = contest.parser(
        "train", "Tokens a second through training steps, against a plain loop of torch's modules.", 7
    )
    args, on = contest.begin(made, argv)
    numbers = torch.randint(0, 65, (4000,)) if args.quick else _novel()
    rates = {
        str(dtype).removeprefix("torch."): matmul_rate(dtype, torch.device("cpu"), 64 if args.quick else 1024)
        for dtype in (torch.float32, torch.bfloat16)
    }
    print(", ".join(f"{name} matmul {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()))
    all_rows, goals = [], contest.Goals()
    for size in TOY if args.quick else SIZES:
        all_rows += _one(size, numbers, args.rounds, rates, goals)
    setting = {"sizes": [size._asdict() | {"dtype": str(size.dtype)} for size in (TOY if args.quick else SIZES)]}
    return contest.finish(args, "train", on, setting=setting, rows=all_rows, goals=goals.all, matmul=rates)


def _one(
    size: Size, numbers: Tensor, rounds: int, rates: dict[str, float], goals: contest.Goals
) -> list[dict[str, Any]]:
    vocabulary = int(numbers.max()) + 1
    model, fast = ours(vocabulary, size), ours(vocabulary, size)
    if size.dtype == torch.float32:
        with_onednn(fast)
    else:
        compute_with(fast, short_attention)
    plain = copied(model, vocabulary, size)
    parameters = sum(p.numel() for p in model.parameters())
    generator = torch.Generator().manual_seed(0)

    def batch(_: Any = None) -> Tensor:
        starts = torch.randint(len(numbers) - size.time, (size.batch,), generator=generator)
        return torch.stack([numbers[s : s + size.time + 1] for s in starts.tolist()])

    first, losses = batch(), {}
    with torch.no_grad(), _cast(size.dtype):
        losses["plain torch"] = float(plain(first[:, :-1], first[:, 1:]))
        losses |= {"ours": float(model.loss(first)), "ours, fast": float(fast.loss(first))}

    def loop(ours: Decoder, optimizer: torch.optim.Optimizer) -> Callable[[], object]:
        def loss_of(_: list[int]) -> Tensor:
            with _cast(size.dtype):
                return ours.loss(batch())

        lengths = [size.time] * (size.batch * size.steps)
        return lambda: train_model(ours, loss_of, lengths, optimizer, batch_size=size.batch)

    def adamw(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(decay_groups(model.parameters(), 0.1), lr=1e-3, betas=(0.9, 0.99), **options)

    plainly, mine, fused = adamw(plain), adamw(model), adamw(fast, fused=True)
    times = in_turns(
        {
            "plain torch": lambda: plain_loop(plain, batch, plainly, size),
            "ours": loop(model, mine),
            "ours, fast": loop(fast, fused),
        },
        rounds,
    )
    tokens = size.steps * size.batch * size.time
    flops = 6 * parameters + 12 * size.layers * size.d * size.time / 2  # a token, forward and backward, causal
    rate = rates[str(size.dtype).removeprefix("torch.")]
    rows = []
    for name, took in times.items():
        row = contest.row(name, took, times["plain torch"], tokens, first_loss=losses[name], size=size.name)
        rows.append(row | {"of_matmul": row["per_cpu_second"] * flops / rate})
    print(
        f"\n{size.name}: {parameters / 1e6:.1f} M parameters, {size.layers} layers, {size.heads} heads, d {size.d}, "
        f"T {size.time}, batch {size.batch}"
    )
    contest.table(rows, "tokens/s", more={"first_loss": ".5f", "of_matmul": ".0%"})
    goals.add(f"{size.name}, ours fast, speed to the plain loop", rows[-1]["ratio"], size.goal)
    return rows


def _novel() -> Tensor:
    """A novel as numbers of its characters."""
    from llmlab.assets import load_novels

    text = load_novels()["Persuasion"]
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    return torch.tensor([number[character] for character in text])
