"""From the files as published to the files as the course loads them. Runs once, when an asset is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.assets.archives import take

if TYPE_CHECKING:
    import torch

__all__ = ["conversations", "quiet_transformers", "smollm2", "vader"]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the progress bars of transformers, which would become part of a notebook's output."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def vader(taken: Path, ready: Path) -> None:
    """Unpack the inner archive: four domains and the authors' description of them."""
    inner = "hutto_ICWSM_2014/"
    domains = {"movies": "movieReviewSnippets", "amazon": "amazonReviewSnippets", "nyt": "nytEditorialSnippets"}
    domains["tweets"] = "tweets"
    wanted = {f"{inner}{source}_GroundTruth.txt": f"{domain}.txt" for domain, source in domains.items()}
    take(taken / "ratings.tar.gz", wanted | {inner + "_README_.txt": "DESCRIPTION.txt"}, ready)
    (taken / "PACKAGE_LICENSE.txt").rename(ready / "PACKAGE_LICENSE.txt")


def conversations(taken: Path, ready: Path) -> None:
    """One text file a language: each sentence once, in the order of the files, a line each."""
    import yaml

    found: dict[str, dict[str, None]] = {}
    for file in sorted(taken.glob("*-*.yml")):
        language = file.name.partition("-")[0]
        turns = yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]
        lines = (" ".join(str(turn).split()) for talk in turns for turn in talk if turn is not None)
        found.setdefault(language, {}).update(dict.fromkeys(line for line in lines if line))
    for language, lines_of in found.items():
        (ready / f"{language}.txt").write_text("\n".join(lines_of) + "\n", encoding="utf-8", newline="\n")
    (taken / "METADATA").rename(ready / "PACKAGE_METADATA.txt")


def smollm2(taken: Path, ready: Path) -> None:
    """GGUF (4-bit blocks) to float16 safetensors, configuration and tokenizer that transformers loads in a second.

    The weights come out as the 4-bit file holds them: what quantization took away does not come back. float16 adds a
    relative rounding of at most 2**-11, far below the 4-bit steps.
    """
    import gguf

    reader = gguf.GGUFReader(taken / "model.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items()}
    with quiet_transformers():
        _smollm2_weights(reader, fields).save_pretrained(ready)
        _smollm2_tokenizer(fields).save_pretrained(ready)
    (taken / "LICENSE").rename(ready / "LICENSE")


def _smollm2_weights(reader: Any, fields: dict[str, Any]) -> Any:
    """The GGUF tensors, dequantized and given the names that transformers uses, in a LlamaForCausalLM."""
    import torch
    from gguf.quants import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    heads, kv_heads = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    config = LlamaConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings=True,  # the file has no output matrix of its own
    )
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).astype("float16"))
        if "attn_q" in tensor.name or "attn_k" in tensor.name:
            value = _halves_together(value, heads if "attn_q" in tensor.name else kv_heads)
        weights[_transformers_name(tensor.name)] = value
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        model = LlamaForCausalLM(config)
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    return model


def _transformers_name(name: str) -> str:
    """``blk.3.attn_q.weight`` -> ``model.layers.3.self_attn.q_proj.weight``."""
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in whole:
        return whole[name]
    part = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    part |= {"attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    part |= {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{part[kind]}.{suffix}"


def _halves_together(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """GGUF interleaves the two halves of each head for its rotary embedding; transformers keeps each half together."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _smollm2_tokenizer(fields: dict[str, Any]) -> Any:
    """Byte-level BPE from the vocabulary and merges in the file.

    SmolLM2 splits every digit off before anything else ("smollm" in the file's tokenizer.ggml.pre).
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [(left, right) for left, right in (merge.split(" ") for merge in fields["tokenizer.ggml.merges"])]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"]) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[fields["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[fields["tokenizer.ggml.padding_token_id"]],
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
        chat_template=fields["tokenizer.chat_template"],
    )
