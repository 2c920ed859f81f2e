"""Attention in tiles: the same numbers as ``naive``, never more than one tile of the table of scores.

Forward, the online softmax. Keys come tile by tile. For every query we carry ``row_max`` m, the largest score so far,
``row_sum`` l = sum exp(s - m), and ``weighted`` a = sum exp(s - m) v. A new tile with maximum m' raises m to
m_new = max(m, m'). What was summed before was measured from the old m; one factor, ``rescale``, moves it to the new:

    l <- exp(m - m_new) l + sum exp(s - m_new)          a <- exp(m - m_new) a + sum exp(s - m_new) v

After the last tile the output is a / l, the softmax's weighted mean, and lse = m + log l is all that must be kept of a
row: any weight is had again as exp(s - lse).

Backward. With p_j = exp(s_j - lse), o = sum_j p_j v_j, and the incoming gradients do (of o) and dlse (of lse):

    dv_j = p_j do                              o is linear in v
    dp_j = do . v_j
    ds_j = p_j (dp_j - sum_k p_k dp_k)         the softmax's Jacobian
           + p_j dlse                          because d lse / d s_j = p_j

The sum over k would need all tiles before the first could be finished. But sum_k p_k dp_k = do . sum_k p_k v_k, and
that is do . o: one number a row, known before the first tile. With ``delta`` = do . o - dlse it reads
ds_j = p_j (dp_j - delta). Then dq = scale sum_j ds_j k_j; dk_j = scale sum of ds_j q over the queries; a bias gets ds.
Dropout multiplies p by z (0 or 1 / (1 - dropout_p)) in o. So dv_j = z_j p_j do, dp_j = z_j (do . v_j), and the sum over
k still is do . o.

Time is naive's less the tiles that causal or window rule out. Memory is linear in time: one tile beside the tensors.

Sources: Milakov and Gimelshein 2018, arXiv:1805.02867 (the running m and l). Rabe and Staats 2021, arXiv:2112.05682
(the running a). FlashAttention, Dao et al. 2022, arXiv:2205.14135 (tiles of queries and keys; delta: appendix B.2).
FlashAttention-2, Dao 2023, arXiv:2307.08691 (one division at the end; of a row only lse is kept).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmlab.attention.masks import all_visible, key_ranges, visible

__all__ = ["tiled_attention"]

# Scores in one tile: 2**17 float32 numbers are 512 KiB, small enough to stay in a core's second-level cache between the
# product that writes them and the product that reads them, large enough that calling torch ten times costs little.
TILE = 2**17
TILE_KEYS = 512


def tiled_attention(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]:
    """The output and the log-sum-exp of each row of scores. Differentiable once, in q, k, v and a float mask."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if mask is not None:
        mask = mask[(None,) * (4 - mask.ndim)]
    # One number from torch's generator decides the dropout of every tile, so that the backward can draw it again.
    seed = int(torch.randint(2**62, ())) if dropout_p else 0
    output, lse = _Tiled.apply(q, k, v, mask, Rules(causal, window, sinks, scale, dropout_p, seed))
    return output, lse


class Rules(NamedTuple):
    """What holds for every tile."""

    causal: bool
    window: int | None
    sinks: int
    scale: float
    dropout_p: float
    seed: int

    def band(self) -> dict[str, Any]:
        """The rules of positions, as the functions of ``masks`` take them."""
        return {"causal": self.causal, "window": self.window, "sinks": self.sinks}


class Rows(NamedTuple):
    """The rows of a tile: some sequences, some key heads (each with its group of query heads), some queries."""

    batch: slice
    heads: slice
    queries: slice


class Table:
    """The table of scores that is never written down: it cuts itself into tiles and masks the one at hand.

    Query heads are (kv_heads, group) inside: all queries of a group stand in one tile and read one copy of the keys.
    """

    def __init__(self, q: Tensor, k: Tensor, mask: Tensor | None, rules: Rules) -> None:
        self.batch, heads, self.queries, _ = q.shape
        self.kv_heads, self.keys = k.shape[1], k.shape[2]
        self.group = heads // self.kv_heads
        self.rules, self.device = rules, q.device
        self.dtype = torch.promote_types(q.dtype, torch.float32)  # half precision is summed in float32
        shape = (self.batch, self.kv_heads, self.group, self.queries, self.keys)
        self.mask = None if mask is None else self.split(mask).expand(shape)
        self.bands: dict[tuple[int, int, int, int], Tensor] = {}
        self.generator = torch.Generator(q.device).manual_seed(rules.seed)

    def split(self, x: Tensor) -> Tensor:
        """(batch, heads, ...) as (batch, kv_heads, group, ...); one head that serves all stays one."""
        return x.unflatten(1, (1, 1) if x.shape[1] == 1 else (self.kv_heads, self.group))

    def rows(self) -> Iterator[Rows]:
        """Cut sequences, heads and queries so that a tile has at most about ``TILE`` scores."""
        size = TILE // max(1, min(TILE_KEYS, self.keys))
        # A power of two divides the tile of keys, so that the same few masks return all along the causal edge.
        queries = min(2 ** (max(1, size // self.group).bit_length() - 1), max(1, self.queries))
        heads = max(1, min(size // (queries * self.group), self.kv_heads))
        batch = max(1, size // (queries * self.group * heads)) if heads == self.kv_heads else 1
        for b in range(0, self.batch, batch):
            for h in range(0, self.kv_heads, heads):
                for i in range(0, self.queries, queries):
                    stop = min(b + batch, self.batch), min(h + heads, self.kv_heads), min(i + queries, self.queries)
                    yield Rows(slice(b, stop[0]), slice(h, stop[1]), slice(i, stop[2]))

    def positions(self, rows: Rows) -> tuple[int, int]:
        """Where the first and the last of these queries stand among the keys (bottom-right aligned)."""
        offset = self.keys - self.queries
        return rows.queries.start + offset, rows.queries.stop - 1 + offset

    def tiles(self, rows: Rows) -> Iterator[slice]:
        """The tiles of keys that some query of ``rows`` may see; what is neither sink nor band is never touched."""
        for start, stop in key_ranges(*self.positions(rows), self.keys, **self.rules.band()):
            for j in range(start, stop, TILE_KEYS):
                yield slice(j, min(j + TILE_KEYS, stop))

    def scores(self, q_rows: Tensor, k_tile: Tensor, rows: Rows, tile: slice) -> Tensor:
        """One tile: the products, the bias, then -inf where a key is forbidden. ``q_rows`` is scaled already."""
        scores = q_rows @ k_tile.mT
        grid = self.grid(scores, rows)
        if self.mask is not None:
            part = self.mask[rows.batch, rows.heads, :, rows.queries, tile]
            grid.masked_fill_(~part, -torch.inf) if part.dtype == torch.bool else grid.add_(part)
        first, last = self.positions(rows)
        if not all_visible(first, last, tile, **self.rules.band()):
            grid.masked_fill_(self.hidden(first, last, tile), -torch.inf)
        return scores

    def hidden(self, first: int, last: int, tile: slice) -> Bool[Tensor, "rows columns"]:
        """What causal and window forbid in a tile on their edge. Only distances matter, so few are ever made."""
        key = first - tile.start, last - first, tile.stop - tile.start, max(0, self.rules.sinks - tile.start)
        if key not in self.bands:
            i = torch.arange(first, last + 1, device=self.device)
            j = torch.arange(tile.start, tile.stop, device=self.device)
            self.bands[key] = ~visible(i, j, **self.rules.band())
        return self.bands[key]

    def keep(self, weights: Tensor) -> Tensor:
        """Dropout's factors, 0 or 1 / (1 - p), for the next tile. The same walk from the same seed draws them again."""
        drawn = torch.rand(weights.shape, generator=self.generator, dtype=weights.dtype, device=weights.device)
        return (drawn >= self.rules.dropout_p).to(drawn.dtype) / (1 - self.rules.dropout_p)

    def grid(self, x: Tensor, rows: Rows) -> Tensor:
        """(batch * kv_heads, group * queries, size) as (batch, kv_heads, group, queries, size)."""
        heads, queries = rows.heads.stop - rows.heads.start, rows.queries.stop - rows.queries.start
        return x.view(-1, heads, self.group, queries, x.shape[-1])

    def take(self, x: Tensor, rows: Rows) -> Tensor:
        """Rows of a (batch, kv_heads, group, queries, size) tensor as (batch * kv_heads, group * queries, size)."""
        return x[rows.batch, rows.heads, :, rows.queries].flatten(2, 3).flatten(0, 1).to(self.dtype)

    def take_keys(self, x: Tensor, rows: Rows, tile: slice) -> Tensor:
        """A tile of a (batch, kv_heads, keys, size) tensor as (batch * kv_heads, keys, size)."""
        return x[rows.batch, rows.heads, tile].flatten(0, 1).to(self.dtype)


def forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rules: Rules
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]:
    """The online softmax of the module's docstring."""
    table = Table(q, k, mask, rules)
    q = table.split(q)
    output = q.new_empty(*q.shape[:-1], v.shape[-1])
    lse = q.new_empty(*q.shape[:-1], 1, dtype=table.dtype)
    for rows in table.rows():
        q_rows = table.take(q, rows) * rules.scale
        # The lowest finite number, not -inf: where no key has been seen, -inf - row_max stays -inf and its exp is 0.
        row_max = q_rows.new_full((*q_rows.shape[:-1], 1), torch.finfo(table.dtype).min)
        row_sum = torch.zeros_like(row_max)
        weighted = q_rows.new_zeros(*q_rows.shape[:-1], v.shape[-1])
        for tile in table.tiles(rows):
            scores = table.scores(q_rows, table.take_keys(k, rows, tile), rows, tile)
            new_max = torch.maximum(row_max, scores.amax(-1, keepdim=True))
            rescale = torch.exp(row_max - new_max)
            weights = scores.sub_(new_max).exp_()
            row_sum = row_sum * rescale + weights.sum(-1, keepdim=True)
            if rules.dropout_p:
                weights *= table.keep(weights)  # after row_sum: dropout takes weights away, it does not renormalise
            weighted.mul_(rescale).baddbmm_(weights, table.take_keys(v, rows, tile))
            row_max = new_max
        empty = row_sum == 0
        row_sum.masked_fill_(empty, 1)
        output[rows.batch, rows.heads, :, rows.queries] = table.grid(weighted / row_sum, rows)
        row_lse = (row_max + row_sum.log()).masked_fill_(empty, -torch.inf)
        lse[rows.batch, rows.heads, :, rows.queries] = table.grid(row_lse, rows)
    return output.flatten(1, 2), lse.flatten(1, 2).squeeze(-1)


class _Tiled(torch.autograd.Function):
    """Keeps the inputs, the output and lse; the backward computes every tile again."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rules: Rules) -> tuple[Tensor, Tensor]:
        return forward(q, k, v, mask, rules)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.rules = inputs
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, output, lse = ctx.saved_tensors
        table = Table(q, k, mask, ctx.rules)
        bias = mask if ctx.needs_input_grad[3] else None
        with torch.autocast(q.device.type, enabled=False):
            return *backward(table, (q, k, v, bias), (output, lse), (d_output, d_lse)), None


def backward(
    table: Table,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None],
    outputs: tuple[Tensor, Tensor],
    d_outputs: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of q, k, v and, where one is given, of the bias, by the second half of the module's docstring."""
    (q, k, v, bias), rules = inputs, table.rules
    q = table.split(q)
    output, lse, d_output, d_lse = (table.split(x) for x in (*outputs, *d_outputs))
    delta = (d_output.to(table.dtype) * output).sum(-1, keepdim=True) - d_lse[..., None]
    # A row without keys has lse = -inf; +inf in its place makes every weight exp(s - inf) = 0 instead of NaN.
    lse = lse.masked_fill(lse == -torch.inf, torch.inf)[..., None]
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k, dtype=table.dtype), torch.zeros_like(v, dtype=table.dtype)
    d_bias = None if bias is None else table.split(torch.zeros_like(bias, dtype=table.dtype))
    for rows in table.rows():
        q_rows = table.take(q, rows) * rules.scale
        do_rows, lse_rows, delta_rows = (table.take(x, rows) for x in (d_output, lse, delta))
        dq_rows = torch.zeros_like(q_rows)
        for tile in table.tiles(rows):
            k_tile, v_tile = table.take_keys(k, rows, tile), table.take_keys(v, rows, tile)
            scores = table.scores(q_rows, k_tile, rows, tile)
            weights = scores.sub_(lse_rows).exp_()
            d_weights = do_rows @ v_tile.mT
            if rules.dropout_p:
                keep = table.keep(weights)
                d_weights *= keep
                dv_tile = (weights * keep).mT @ do_rows
            else:
                dv_tile = weights.mT @ do_rows
            d_scores = d_weights.sub_(delta_rows).mul_(weights)
            dq_rows.baddbmm_(d_scores, k_tile)
            dk_tile = d_scores.mT @ q_rows  # q_rows carries the scale
            heads = rows.batch, rows.heads, tile
            dk[heads] += dk_tile.view(dk[heads].shape)
            dv[heads] += dv_tile.view(dv[heads].shape)
            if d_bias is not None:
                _add_broadcast(
                    d_bias, table.grid(d_scores, rows), (rows.batch, rows.heads, slice(None), rows.queries, tile)
                )
        dq[rows.batch, rows.heads, :, rows.queries] = table.grid(dq_rows * rules.scale, rows)
    if bias is not None and d_bias is not None:
        d_bias = d_bias.flatten(1, 2).to(bias.dtype)
    return dq.flatten(1, 2), dk.to(q.dtype), dv.to(q.dtype), d_bias


def _add_broadcast(total: Tensor, part: Tensor, where: tuple[slice, ...]) -> None:
    """Add a tile to ``total``, summing over the axes along which ``total`` has size 1 because it was broadcast."""
    once = [axis for axis, size in enumerate(total.shape) if size == 1]
    if once:
        part = part.sum(once, keepdim=True)
    total[tuple(slice(None) if axis in once else at for axis, at in enumerate(where))] += part
