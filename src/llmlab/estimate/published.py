"""Published models: their sizes as published, and the count that was published beside them."""

from __future__ import annotations

from dataclasses import dataclass

from llmlab.estimate.parameters import Architecture

__all__ = ["PUBLISHED", "Published", "find"]


@dataclass(frozen=True)
class Published:
    """One model: its sizes, the published count, half of that figure's last digit, where both stand.

    ``off`` says why a count is further than 1 % and its rounding from what the sizes give.
    """

    architecture: Architecture
    count: float
    rounding: float
    source: str
    active: float | None = None
    off: str = ""


def _gpt(d: int, layers: int, heads: int, positions: int) -> Architecture:
    return Architecture(
        d=d, layers=layers, heads=heads, ff=4 * d, vocab=50257, positions=positions,
        gated=False, bias=True, norm_bias=True, tied=True,
    )  # fmt: skip


def _bert(d: int, layers: int, heads: int) -> Architecture:
    return Architecture(
        kind="encoder", d=d, layers=layers, heads=heads, ff=4 * d, vocab=30522, positions=512, segments=2,
        gated=False, bias=True, norm_bias=True, tied=True,
    )  # fmt: skip


def _t5(d: int, layers: int, heads: int, ff: int, *, size: int = 64, v11: bool = False) -> Architecture:
    return Architecture(
        kind="encoder-decoder", d=d, layers=layers, heads=heads, head_size=size, ff=ff, vocab=32128,
        position_buckets=32, gated=v11, tied=not v11,
    )  # fmt: skip


def _llama(
    d: int, layers: int, heads: int, ff: int, *, kv: int | None = None, vocab: int = 32000, tied: bool = False,
    size: int | None = None, qkv_bias: bool = False,
) -> Architecture:  # fmt: skip
    return Architecture(
        d=d, layers=layers, heads=heads, kv_heads=kv, head_size=size, ff=ff, vocab=vocab, tied=tied, qkv_bias=qkv_bias
    )


def _palm(d: int, layers: int, heads: int) -> Architecture:
    return Architecture(
        d=d, layers=layers, heads=heads, kv_heads=1, head_size=256, ff=4 * d, vocab=256_000, tied=True, norms=1
    )


def _mixtral(d: int, layers: int, heads: int, ff: int, vocab: int) -> Architecture:
    return Architecture(d=d, layers=layers, heads=heads, kv_heads=8, ff=ff, vocab=vocab, experts=8, experts_per_token=2)


def _deepseek(
    d: int, layers: int, heads: int, ff: int, vocab: int, *, q_rank: int | None, experts: int, per_token: int,
    shared: int, expert_ff: int, dense: int,
) -> Architecture:  # fmt: skip
    return Architecture(
        d=d, layers=layers, heads=heads, ff=ff, vocab=vocab,
        rank=512, q_rank=q_rank, plain_size=128, rope_size=64, value_size=128,
        experts=experts, experts_per_token=per_token, shared_experts=shared, expert_ff=expert_ff, dense_layers=dense,
    )  # fmt: skip


_GPT2 = "Radford et al., 2019, table 2 (sizes); openai/gpt-2 README (counts)"
_GPT3 = "Brown et al., 2020, arXiv:2005.14165, tables 2.1 (sizes) and D.1 (counts)"
_T5 = "Raffel et al., 2020, arXiv:1910.10683, section 3.7"
_FLAN = "T5 v1.1's configurations; Chung et al., 2022, arXiv:2210.11416, table 2 (counts)"
_LLAMA1 = "Touvron et al., 2023, arXiv:2302.13971, table 2"
_LLAMA2 = "Touvron et al., 2023, arXiv:2307.09288, table 1"
_LLAMA3 = "Llama 3, 2024, arXiv:2407.21783, table 3"
_LLAMA32 = "model card of Llama 3.2"
_QWEN = "model card; Qwen2.5, 2024, arXiv:2412.15115, table 1"
_GEMMA = "Gemma, 2024, arXiv:2403.08295, tables 1 and 2"
_PALM = "Chowdhery et al., 2022, arXiv:2204.02311, table 1"
_SMOL = "model card; Ben Allal et al., 2025, arXiv:2502.02737"

M, B = 1e6, 1e9

#: name -> the model. Sizes of the vocabulary are those of the published weights, padding included.
PUBLISHED: dict[str, Published] = {
    "gpt2": Published(_gpt(768, 12, 12, 1024), 124 * M, 0.5 * M, _GPT2),
    "gpt2-medium": Published(_gpt(1024, 24, 16, 1024), 355 * M, 0.5 * M, _GPT2),
    "gpt2-large": Published(_gpt(1280, 36, 20, 1024), 774 * M, 0.5 * M, _GPT2),
    "gpt2-xl": Published(_gpt(1600, 48, 25, 1024), 1558 * M, 0.5 * M, _GPT2),
    "gpt3-small": Published(_gpt(768, 12, 12, 2048), 125 * M, 0.5 * M, _GPT3),
    "gpt3-medium": Published(_gpt(1024, 24, 16, 2048), 356 * M, 0.5 * M, _GPT3),
    "gpt3-large": Published(_gpt(1536, 24, 16, 2048), 760 * M, 5 * M, _GPT3),
    # table 2.1 gives 24 heads of 128, which is 3072 and not its d of 2048; with 16 the count is the published one
    "gpt3-xl": Published(_gpt(2048, 24, 16, 2048), 1320 * M, 5 * M, _GPT3),
    "gpt3-2.7b": Published(_gpt(2560, 32, 32, 2048), 2650 * M, 5 * M, _GPT3),
    "gpt3-6.7b": Published(_gpt(4096, 32, 32, 2048), 6660 * M, 5 * M, _GPT3),
    # table 2.1 gives d = 5140, which 40 heads of 128 do not fill; 5120 gives the published count
    "gpt3-13b": Published(_gpt(5120, 40, 40, 2048), 12850 * M, 5 * M, _GPT3),
    "gpt3-175b": Published(_gpt(12288, 96, 96, 2048), 174_600 * M, 50 * M, _GPT3),
    "bert-base": Published(_bert(768, 12, 12), 110 * M, 5 * M, "Devlin et al., 2019, arXiv:1810.04805, section 3"),
    "bert-large": Published(_bert(1024, 24, 16), 340 * M, 5 * M, "Devlin et al., 2019, arXiv:1810.04805, section 3"),
    "t5-small": Published(_t5(512, 6, 8, 2048), 60 * M, 5 * M, _T5),
    "t5-base": Published(_t5(768, 12, 12, 3072), 220 * M, 5 * M, _T5),
    "t5-large": Published(
        _t5(1024, 24, 16, 4096), 770 * M, 5 * M, _T5,
        off="the paper's figure fits only with the embedding counted twice: 770.6 M",
    ),
    "t5-3b": Published(_t5(1024, 24, 32, 16384, size=128), 3 * B, 0.5 * B, _T5),
    "t5-11b": Published(_t5(1024, 24, 128, 65536, size=128), 11 * B, 0.5 * B, _T5),
    "t5-v1.1-small": Published(_t5(512, 8, 6, 1024, v11=True), 80 * M, 5 * M, _FLAN),
    "t5-v1.1-base": Published(_t5(768, 12, 12, 2048, v11=True), 250 * M, 5 * M, _FLAN),
    "t5-v1.1-large": Published(_t5(1024, 24, 16, 2816, v11=True), 780 * M, 5 * M, _FLAN),
    "t5-v1.1-xl": Published(_t5(2048, 24, 32, 5120, v11=True), 3 * B, 0.5 * B, _FLAN),
    "t5-v1.1-xxl": Published(_t5(4096, 24, 64, 10240, v11=True), 11 * B, 0.5 * B, _FLAN),
    "llama-7b": Published(_llama(4096, 32, 32, 11008), 6.7 * B, 0.05 * B, _LLAMA1),
    "llama-13b": Published(_llama(5120, 40, 40, 13824), 13.0 * B, 0.05 * B, _LLAMA1),
    "llama-33b": Published(_llama(6656, 60, 52, 17920), 32.5 * B, 0.05 * B, _LLAMA1),
    "llama-65b": Published(_llama(8192, 80, 64, 22016), 65.2 * B, 0.05 * B, _LLAMA1),
    "llama2-7b": Published(_llama(4096, 32, 32, 11008), 7 * B, 0.5 * B, _LLAMA2),
    "llama2-13b": Published(_llama(5120, 40, 40, 13824), 13 * B, 0.5 * B, _LLAMA2),
    "llama2-70b": Published(_llama(8192, 80, 64, 28672, kv=8), 70 * B, 5 * B, _LLAMA2),
    "llama3-8b": Published(_llama(4096, 32, 32, 14336, kv=8, vocab=128256), 8 * B, 0.5 * B, _LLAMA3),
    "llama3-70b": Published(_llama(8192, 80, 64, 28672, kv=8, vocab=128256), 70 * B, 5 * B, _LLAMA3),
    "llama3-405b": Published(_llama(16384, 126, 128, 53248, kv=8, vocab=128256), 405 * B, 0.5 * B, _LLAMA3),
    "llama3.2-1b": Published(_llama(2048, 16, 32, 8192, kv=8, vocab=128256, tied=True), 1.23 * B, 0.005 * B, _LLAMA32),
    "llama3.2-3b": Published(_llama(3072, 28, 24, 8192, kv=8, vocab=128256, tied=True), 3.21 * B, 0.005 * B, _LLAMA32),
    "qwen2.5-0.5b": Published(
        _llama(896, 24, 14, 4864, kv=2, vocab=151936, tied=True, qkv_bias=True), 0.49 * B, 0.005 * B, _QWEN
    ),
    "qwen2.5-1.5b": Published(
        _llama(1536, 28, 12, 8960, kv=2, vocab=151936, tied=True, qkv_bias=True), 1.54 * B, 0.005 * B, _QWEN
    ),
    "qwen2.5-3b": Published(
        _llama(2048, 36, 16, 11008, kv=2, vocab=151936, tied=True, qkv_bias=True), 3.09 * B, 0.005 * B, _QWEN
    ),
    "qwen2.5-7b": Published(_llama(3584, 28, 28, 18944, kv=4, vocab=152064, qkv_bias=True), 7.61 * B, 0.005 * B, _QWEN),
    "qwen2.5-14b": Published(_llama(5120, 48, 40, 13824, kv=8, vocab=152064, qkv_bias=True), 14.7 * B, 0.05 * B, _QWEN),
    "qwen2.5-32b": Published(_llama(5120, 64, 40, 27648, kv=8, vocab=152064, qkv_bias=True), 32.5 * B, 0.05 * B, _QWEN),
    "qwen2.5-72b": Published(_llama(8192, 80, 64, 29568, kv=8, vocab=152064, qkv_bias=True), 72.7 * B, 0.05 * B, _QWEN),
    "mistral-7b": Published(
        _llama(4096, 32, 32, 14336, kv=8), 7.3 * B, 0.05 * B,
        "Jiang et al., 2023, arXiv:2310.06825, table 1; its announcement (count)",
    ),
    "mixtral-8x7b": Published(
        _mixtral(4096, 32, 32, 14336, 32000), 47 * B, 0.5 * B, "Jiang et al., 2024, arXiv:2401.04088, table 1",
        active=13 * B,
    ),
    "mixtral-8x22b": Published(
        _mixtral(6144, 56, 48, 16384, 32768), 141 * B, 0.5 * B, "announcement of Mixtral 8x22B, 2024", active=39 * B
    ),
    "deepseek-v2-lite": Published(
        _deepseek(2048, 27, 16, 10944, 102400, q_rank=None, experts=64, per_token=6, shared=2, expert_ff=1408, dense=1),
        15.7 * B, 0.05 * B, "DeepSeek-V2, 2024, arXiv:2405.04434, appendix B", active=2.4 * B,
    ),
    "deepseek-v2": Published(
        _deepseek(
            5120, 60, 128, 12288, 102400, q_rank=1536, experts=160, per_token=6, shared=2, expert_ff=1536, dense=1
        ),
        236 * B, 0.5 * B, "DeepSeek-V2, 2024, arXiv:2405.04434, section 3.1.2", active=21 * B,
    ),
    "deepseek-v3": Published(
        _deepseek(
            7168, 61, 128, 18432, 129280, q_rank=1536, experts=256, per_token=8, shared=1, expert_ff=2048, dense=3
        ),
        671 * B, 0.5 * B, "DeepSeek-V3, 2024, arXiv:2412.19437, section 4.2", active=37 * B,
    ),
    "gemma-2b": Published(
        _llama(2048, 18, 8, 16384, kv=1, size=256, vocab=256128, tied=True), 524_550_144 + 1_981_884_416, 0.5, _GEMMA
    ),
    "gemma-7b": Published(
        _llama(3072, 28, 16, 24576, size=256, vocab=256128, tied=True), 786_825_216 + 7_751_248_896, 0.5, _GEMMA
    ),
    "palm-8b": Published(_palm(4096, 32, 16), 8.63 * B, 0.005 * B, _PALM),
    "palm-62b": Published(_palm(8192, 64, 32), 62.50 * B, 0.005 * B, _PALM),
    "palm-540b": Published(_palm(18432, 118, 48), 540.35 * B, 0.005 * B, _PALM),
    "smollm2-135m": Published(_llama(576, 30, 9, 1536, kv=3, vocab=49152, tied=True), 135 * M, 0.5 * M, _SMOL),
    "smollm2-360m": Published(_llama(960, 32, 15, 2560, kv=5, vocab=49152, tied=True), 360 * M, 5 * M, _SMOL),
    "smollm2-1.7b": Published(_llama(2048, 24, 32, 8192, vocab=49152, tied=True), 1.7 * B, 0.05 * B, _SMOL),
}  # fmt: skip


def find(name: str) -> Published:
    """The published model of that name.

    Raises:
        ValueError: no such model; the sentence names those that begin alike.
    """
    if name not in PUBLISHED:
        alike = [known for known in PUBLISHED if known[:4] == name[:4].lower()] or list(PUBLISHED)
        raise ValueError(f"no model {name!r}: expected one of {', '.join(alike)}")
    return PUBLISHED[name]
