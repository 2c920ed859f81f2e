"""Parameters of a transformer, worked out by part from its sizes.

Every formula is held against published counts, transformers' own classes, and our modules in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmlab.estimate.sizes import need_positive

__all__ = [
    "Architecture",
    "active_parameters",
    "attention_parameters",
    "feed_forward_parameters",
    "latent_attention_parameters",
    "non_embedding_parameters",
    "parameters",
    "total_parameters",
]


@dataclass(frozen=True)
class Architecture:
    """The sizes that decide how many numbers a transformer holds. Vectors have ``d`` numbers, vocabularies ``vocab``.

    The defaults describe a Llama: RMSNorm, no biases, a gated feed-forward layer, a head of its own. An encoder-decoder
    has ``layers`` in the encoder and ``decoder_layers`` in the decoder, or ``layers`` in each.
    """

    d: int
    layers: int
    heads: int
    ff: int
    vocab: int
    kind: Literal["decoder", "encoder", "encoder-decoder"] = "decoder"
    kv_heads: int | None = None
    head_size: int | None = None
    positions: int = 0  # learned vectors, one a position
    segments: int = 0  # BERT's learned vectors of sentence A and B
    gated: bool = True  # three matrices in the feed-forward layer instead of two
    bias: bool = False  # in every matrix of the layers
    qkv_bias: bool = False  # in queries, keys and values alone, as in Qwen2
    norm_bias: bool = False  # LayerNorm instead of RMSNorm
    norms: int = 2  # a layer; PaLM's parallel layers have one
    tied: bool = False  # the head is the embedding
    decoder_layers: int | None = None
    position_buckets: int = 0  # T5's learned biases: one a head and bucket, once in each stack
    # Mixture of experts: all layers but the first `dense_layers` hold experts instead of one feed-forward layer.
    experts: int = 0
    experts_per_token: int = 0
    expert_ff: int | None = None
    shared_experts: int = 0
    dense_layers: int = 0
    # Latent attention (DeepSeek-V2): a rank for keys and values turns it on.
    rank: int = 0
    q_rank: int | None = None
    plain_size: int = 0
    rope_size: int = 0
    value_size: int = 0

    def __post_init__(self) -> None:
        need_positive(d=self.d, layers=self.layers, heads=self.heads, ff=self.ff, vocab=self.vocab)
        if self.kind not in ("decoder", "encoder", "encoder-decoder"):
            raise ValueError(f"kind={self.kind!r}: expected decoder, encoder or encoder-decoder")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(
                f"experts_per_token={self.experts_per_token}: expected 1 to {self.experts}, the experts there are"
            )
        if not self.experts and (self.experts_per_token or self.shared_experts):
            raise ValueError("experts_per_token or shared_experts without experts: give experts as well")
        if not 0 <= self.dense_layers <= self.layers:
            raise ValueError(f"dense_layers={self.dense_layers}: expected 0 to {self.layers}, the layers there are")
        if self.rank:
            need_positive(plain_size=self.plain_size, rope_size=self.rope_size, value_size=self.value_size)
        else:
            attention_parameters(d=self.d, heads=self.heads, kv_heads=self.kv_heads, head_size=self.head_size)

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def size(self) -> int:
        """Numbers in one head's query (with latent attention: its plain and its rotated part)."""
        if self.rank:
            return self.plain_size + self.rope_size
        return self.d // self.heads if self.head_size is None else self.head_size


def attention_parameters(
    *, d: int, heads: int, kv_heads: int | None = None, head_size: int | None = None, bias: bool = False
) -> int:
    """Parameters of one attention layer: projections of queries, keys, values, and of the output.

    With as many key heads and ``head_size = d / heads`` this is 4d², for any number of heads.

    Raises:
        ValueError: ``d`` cannot be shared by the heads, or the heads by the key heads.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    need_positive(d=d, heads=heads, kv_heads=kv_heads)
    if head_size is None and d % heads:
        raise ValueError(f"d={d} cannot be shared by {heads} heads: choose a multiple, or pass head_size")
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads cannot share {kv_heads} key heads evenly: choose a divisor")
    size = d // heads if head_size is None else head_size
    made = (heads + 2 * kv_heads) * size
    return d * made + heads * size * d + (made + d if bias else 0)


def latent_attention_parameters(
    *, d: int, heads: int, rank: int, plain_size: int, rope_size: int, value_size: int, q_rank: int | None = None
) -> int:
    """Parameters of one layer of latent attention, its norms included (:class:`llmlab.nn.LatentAttention`).

    Source: DeepSeek-V2 (DeepSeek-AI, 2024, arXiv:2405.04434), section 2.1.
    """
    need_positive(d=d, heads=heads, rank=rank, plain_size=plain_size, value_size=value_size)
    width = heads * (plain_size + rope_size)
    queries = d * width if q_rank is None else d * q_rank + q_rank + q_rank * width
    latent = d * (rank + rope_size) + rank + rank * heads * (plain_size + value_size)
    return queries + latent + heads * value_size * d


def feed_forward_parameters(*, d: int, ff: int, gated: bool = True, bias: bool = False) -> int:
    """Parameters of one feed-forward layer: two matrices of d · ff, or three when gated (Shazeer, 2020)."""
    need_positive(d=d, ff=ff)
    matrices = 3 if gated else 2
    return matrices * d * ff + ((matrices - 1) * ff + d if bias else 0)


def _one_attention(a: Architecture) -> int:
    if a.rank:
        return latent_attention_parameters(
            d=a.d, heads=a.heads, rank=a.rank, q_rank=a.q_rank,
            plain_size=a.plain_size, rope_size=a.rope_size, value_size=a.value_size,
        )  # fmt: skip
    plain = attention_parameters(d=a.d, heads=a.heads, kv_heads=a.kv_heads, head_size=a.head_size, bias=a.bias)
    return plain + ((a.heads + 2 * a.key_heads) * a.size if a.qkv_bias else 0)


def _experts(a: Architecture, routed: int) -> int:
    """One layer's router, its shared experts, and ``routed`` of the others."""
    one = feed_forward_parameters(d=a.d, ff=a.expert_ff or a.ff, gated=a.gated, bias=a.bias)
    return a.d * a.experts + (a.shared_experts + routed) * one


def parameters(a: Architecture, *, active: bool = False) -> dict[str, int]:
    """Parameters by part; their sum is the model's size (:func:`total_parameters`).

    Parts: ``embedding`` (tokens, learned positions, segments, position biases), ``attention``, ``feed-forward``,
    ``experts`` (router included), ``norms``, ``head`` (0 if tied; BERT's pooler, masked-word and next-sentence heads).
    ``active`` counts only the experts that one token visits.

    Raises:
        ValueError: the sizes make no sense (raised by :class:`Architecture`).
    """
    both = a.kind == "encoder-decoder"
    decoders = (a.layers if a.decoder_layers is None else a.decoder_layers) if both else 0
    layers = a.layers + decoders
    norm = a.d * (2 if a.norm_bias else 1)
    dense = a.dense_layers if a.experts else layers
    embedding = (a.vocab + a.positions + a.segments) * a.d + (1 + both) * a.position_buckets * a.heads
    # a decoder layer of an encoder-decoder attends twice and has a norm for it
    attention = (layers + decoders) * _one_attention(a)
    forward = dense * feed_forward_parameters(d=a.d, ff=a.ff, gated=a.gated, bias=a.bias)
    experts = (layers - dense) * _experts(a, a.experts_per_token if active else a.experts) if a.experts else 0
    # one norm more after the last layer of each stack, in BERT instead after the embedding
    norms = (a.norms * layers + decoders + 1 + both) * norm
    head = 0 if a.tied else a.vocab * a.d
    if a.kind == "encoder":
        pooler, masked, next_sentence = a.d * a.d + a.d, a.d * a.d + a.d + norm + a.vocab, 2 * a.d + 2
        head += pooler + masked + next_sentence
    parts = {"embedding": embedding, "attention": attention, "feed-forward": forward, "experts": experts}
    return parts | {"norms": norms, "head": head}


def total_parameters(a: Architecture) -> int:
    """All parameters of the model."""
    return sum(parameters(a).values())


def active_parameters(a: Architecture) -> int:
    """Parameters that a token is multiplied by: no experts that it does not visit, no tables that it only looks up.

    The head counts, tied or not. This is the count that DeepSeek publishes (36.6 B of DeepSeek-V3's 671 B, in the
    README_WEIGHTS of its weights); with a tied head and no experts it is all but the learned positions.
    """
    parts = parameters(a, active=True)
    return sum(parts.values()) - parts["embedding"] + (a.vocab * a.d if a.tied else 0)


def non_embedding_parameters(a: Architecture, *, active: bool = False) -> int:
    """Parameters without the embedding and an untied head: Kaplan et al.'s N (2020, arXiv:2001.08361, table 1)."""
    parts = parameters(a, active=active)
    return sum(parts.values()) - parts["embedding"] - parts["head"]
