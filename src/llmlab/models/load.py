"""Weights that others trained, in our models: GPT-2, Llama and BERT, by tables of names.

A file of weights is a mapping from names to tensors; all that separates theirs from ours is what a tensor is called,
that we keep query, key and value in one matrix, and that GPT-2 keeps its matrices transposed. Nothing is left over and
nothing is made up: a tensor that is missing, unknown or of another shape is an error.

    model = smollm2()                       # from the asset's files; transformers is not imported
    model = decoder_from(theirs.config.to_dict(), theirs.state_dict())
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmlab.assets.store import path
from llmlab.models.decoder import Decoder, DecoderConfig, rotary_frequencies
from llmlab.models.encoder import Encoder, EncoderConfig
from llmlab.nn.rotary import llama3_frequencies

__all__ = [
    "WeightsError",
    "decoder_config",
    "decoder_from",
    "encoder_config",
    "encoder_from",
    "load_decoder",
    "load_encoder",
    "minilm",
    "smollm2",
]


class WeightsError(ValueError):
    """The weights or the configuration are not those of the model; the message says what does not fit."""


@dataclass(frozen=True)
class From:
    """Where one of our tensors comes from: theirs, one below the other, each transposed first if ``turned``."""

    names: tuple[str, ...]
    turned: bool = False


#: What config.json calls an activation, and what we call it.
ACTIVATION_NAMES = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def smollm2(dtype: torch.dtype = torch.float32) -> Decoder:
    """SmolLM2-135M-Instruct in our decoder, in evaluation mode. Raises AssetMissing where it was not fetched.

    The tokenizer is that of :func:`llmlab.assets.load_smollm2`.
    """
    return load_decoder(path("smollm2"), dtype)


def minilm(dtype: torch.dtype = torch.float32) -> Encoder:
    """all-MiniLM-L6-v2 in our encoder, in evaluation mode. Raises AssetMissing where it was not fetched.

    The tokenizer is that of :func:`llmlab.assets.load_minilm`.
    """
    return load_encoder(path("minilm"), dtype)


def load_decoder(folder: str | Path, dtype: torch.dtype = torch.float32) -> Decoder:
    """A GPT-2 or Llama from a folder with ``config.json`` and ``model.safetensors``."""
    return decoder_from(*_read(folder), dtype)


def load_encoder(folder: str | Path, dtype: torch.dtype = torch.float32) -> Encoder:
    """A BERT from a folder with ``config.json`` and ``model.safetensors``."""
    return encoder_from(*_read(folder), dtype)


def decoder_from(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Decoder:
    """Our decoder with these weights, in evaluation mode.

    Args:
        config: what config.json says; its ``model_type`` is "gpt2" or "llama".
        weights: the tensors under the names that transformers gives them. They are copied.
        dtype: of the model.

    Raises:
        WeightsError: an option that our model lacks, or tensors that are missing, unknown, or of another shape.
    """
    ours = decoder_config(config)
    names = {key.removeprefix("transformer."): value for key, value in weights.items()}
    names = {key: value for key, value in names.items() if not key.endswith((".attn.bias", ".attn.masked_bias"))}
    sources = _gpt2(ours) if ours.positions == "learned" else _llama(ours)
    table = sources["token.weight"].names[0]
    if ours.tied and "lm_head.weight" in names:
        if table in names and not torch.equal(names["lm_head.weight"], names[table]):
            raise WeightsError(
                f"the configuration says that the head is tied, but lm_head.weight differs from {table}: "
                "set tie_word_embeddings to false"
            )
        del names["lm_head.weight"]
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        model = Decoder(ours)
    _fill(model, names, sources, dtype)
    if model.rotary is not None:
        model.rotary.set_frequencies(_stretched(ours, config))
    return model.eval()


def encoder_from(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Encoder:
    """Our encoder with these weights, in evaluation mode; the heads are those that the weights have.

    Args and errors as :func:`decoder_from`; ``model_type`` is "bert". The head for the next sentence, which only the
    first BERT was trained with, is left out.
    """
    names = {key.removeprefix("bert."): value for key, value in weights.items()}
    for key in [k for k in names if k == "embeddings.position_ids" or k.startswith("cls.seq_relationship.")]:
        del names[key]
    for key, twin in (("weight", "embeddings.word_embeddings.weight"), ("bias", "cls.predictions.bias")):
        other = names.pop(f"cls.predictions.decoder.{key}", None)
        if other is not None and twin in names and not torch.equal(other, names[twin]):
            raise WeightsError(f"cls.predictions.decoder.{key} differs from {twin}: our head shares the two")
    ours = encoder_config(config)
    ours = replace(ours, masked_words="cls.predictions.bias" in names, pooler="pooler.dense.weight" in names)
    with torch.device("meta"):
        model = Encoder(ours)
    _fill(model, names, _bert(ours), dtype)
    return model.eval()


def decoder_config(config: Mapping[str, Any]) -> DecoderConfig:
    """Our configuration for a config.json of GPT-2 or Llama.

    Raises:
        WeightsError: another family, or an option that our decoder lacks.
    """
    kind = config.get("model_type")
    if kind == "gpt2":
        _require(config, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
        return DecoderConfig.gpt2(
            config["vocab_size"],
            config["n_embd"],
            config["n_layer"],
            config["n_head"],
            hidden=config.get("n_inner"),
            context=config["n_positions"],
            norm_eps=config["layer_norm_epsilon"],
            activation=_activation(config, "activation_function"),
            tied=config.get("tie_word_embeddings", True),
        )
    if kind == "llama":
        _require(config, hidden_act="silu", mlp_bias=config.get("attention_bias", False))
        return DecoderConfig(
            config["vocab_size"],
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads"),
            head_size=config.get("head_dim"),
            hidden=config["intermediate_size"],
            context=config["max_position_embeddings"],
            rope_base=float(_rope(config).get("rope_theta", 10_000.0)),
            norm_eps=config["rms_norm_eps"],
            bias=config.get("attention_bias", False),
            tied=config.get("tie_word_embeddings", False),
        )
    raise WeightsError(f"model_type={kind!r}: expected 'gpt2' or 'llama'")


def encoder_config(config: Mapping[str, Any]) -> EncoderConfig:
    """Our configuration for a config.json of BERT. Raises WeightsError as :func:`decoder_config`."""
    if config.get("model_type") != "bert":
        raise WeightsError(f"model_type={config.get('model_type')!r}: expected 'bert'")
    _require(config, position_embedding_type="absolute", is_decoder=False)
    return EncoderConfig(
        config["vocab_size"],
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        hidden=config["intermediate_size"],
        context=config["max_position_embeddings"],
        types=config["type_vocab_size"],
        activation=_activation(config, "hidden_act"),
        norm_eps=config["layer_norm_eps"],
    )


def _gpt2(config: DecoderConfig) -> dict[str, From]:
    sources = {"token.weight": From(("wte.weight",)), "position.table": From(("wpe.weight",))}
    if not config.tied:
        sources["head.weight"] = From(("lm_head.weight",))
    parts = {"attend.qkv": "attn.c_attn", "attend.out": "attn.c_proj"}
    parts |= {"feedforward.up": "mlp.c_fc", "feedforward.down": "mlp.c_proj"}
    for end in ("weight", "bias"):
        sources[f"norm.{end}"] = From((f"ln_f.{end}",))
        for layer in range(config.layers):
            for ours, theirs in parts.items():
                sources[f"blocks.{layer}.{ours}.{end}"] = From((f"h.{layer}.{theirs}.{end}",), turned=end == "weight")
            for number in (1, 2):
                sources[f"blocks.{layer}.norm{number}.{end}"] = From((f"h.{layer}.ln_{number}.{end}",))
    return sources


def _llama(config: DecoderConfig) -> dict[str, From]:
    sources = {"token.weight": From(("model.embed_tokens.weight",)), "norm.weight": From(("model.norm.weight",))}
    if not config.tied:
        sources["head.weight"] = From(("lm_head.weight",))
    parts = {"attend.qkv": tuple(f"self_attn.{name}_proj" for name in "qkv")}
    parts |= {"attend.out": ("self_attn.o_proj",)}
    parts |= {f"feedforward.{name}": (f"mlp.{name}_proj",) for name in ("gate", "up", "down")}
    for layer in range(config.layers):
        for ours, theirs in parts.items():
            for end in ("weight", "bias") if config.bias else ("weight",):
                names = tuple(f"model.layers.{layer}.{name}.{end}" for name in theirs)
                sources[f"blocks.{layer}.{ours}.{end}"] = From(names)
        for ours, name in (("norm1", "input_layernorm"), ("norm2", "post_attention_layernorm")):
            sources[f"blocks.{layer}.{ours}.weight"] = From((f"model.layers.{layer}.{name}.weight",))
    return sources


def _bert(config: EncoderConfig) -> dict[str, From]:
    sources = {
        "token.weight": From(("embeddings.word_embeddings.weight",)),
        "segment.weight": From(("embeddings.token_type_embeddings.weight",)),
        "position.table": From(("embeddings.position_embeddings.weight",)),
    }
    parts = {"attend.qkv": tuple(f"attention.self.{name}" for name in ("query", "key", "value"))}
    parts |= {"attend.out": ("attention.output.dense",), "norm1": ("attention.output.LayerNorm",)}
    parts |= {"feedforward.up": ("intermediate.dense",), "feedforward.down": ("output.dense",)}
    parts |= {"norm2": ("output.LayerNorm",)}
    whole = {"norm": "embeddings.LayerNorm"}
    if config.pooler:
        whole["pooler.dense"] = "pooler.dense"
    if config.masked_words:
        sources["words.bias"] = From(("cls.predictions.bias",))
        whole["words.dense"] = "cls.predictions.transform.dense"
        whole["words.norm"] = "cls.predictions.transform.LayerNorm"
    for end in ("weight", "bias"):
        sources |= {f"{ours}.{end}": From((f"{theirs}.{end}",)) for ours, theirs in whole.items()}
        for layer in range(config.layers):
            for ours, names in parts.items():
                found = tuple(f"encoder.layer.{layer}.{name}.{end}" for name in names)
                sources[f"blocks.{layer}.{ours}.{end}"] = From(found)
    return sources


def _fill(model: nn.Module, weights: Mapping[str, Tensor], sources: Mapping[str, From], dtype: torch.dtype) -> None:
    """Put ``weights`` into ``model`` by the table ``sources``, which names every one of its tensors."""
    wanted = {name for source in sources.values() for name in source.names}
    if missing := sorted(wanted - weights.keys()):
        raise WeightsError(
            f"{_some(missing)} missing: the configuration asks for {len(wanted)} tensors, the weights have "
            f"{len(weights)}. Are they those of this model, and complete?"
        )
    if unknown := sorted(weights.keys() - wanted):
        raise WeightsError(f"{_some(unknown)} not known to this model: does the configuration belong to these weights?")
    filled = {}
    for name, empty in model.state_dict().items():
        source = sources[name]
        parts = [weights[n].T if source.turned else weights[n] for n in source.names]
        rows = sum(len(part) for part in parts)
        if (rows, *empty.shape[1:]) != tuple(empty.shape) or any(p.shape[1:] != empty.shape[1:] for p in parts):
            given = ", ".join(f"{n} {tuple(weights[n].shape)}" for n in source.names)
            shape = tuple(reversed(empty.shape)) if source.turned else tuple(empty.shape)
            raise WeightsError(f"{given}: expected {shape} in all, by the configuration")
        filled[name] = torch.cat(parts).to(dtype).contiguous()  # cat copies, so that training spares the original
    model.load_state_dict(filled, assign=True)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more are" if len(names) > 3 else " are" if len(names) > 1 else " is"
    return ", ".join(names[:3]) + more


def _require(config: Mapping[str, Any], **needed: Any) -> None:
    for name, value in needed.items():
        if config.get(name, value) != value:
            raise WeightsError(f"{name}={config[name]!r} in the configuration: our model only has {value!r}")


def _activation(config: Mapping[str, Any], key: str) -> str:
    if config[key] not in ACTIVATION_NAMES:
        raise WeightsError(f"{key}={config[key]!r}: our model has {', '.join(ACTIVATION_NAMES)}")
    return ACTIVATION_NAMES[config[key]]


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Newer files have ``rope_parameters``; older ones ``rope_theta`` and ``rope_scaling``."""
    old = {"rope_theta": config.get("rope_theta", 10_000.0), **(config.get("rope_scaling") or {})}
    return config.get("rope_parameters") or old


def _stretched(ours: DecoderConfig, config: Mapping[str, Any]) -> Tensor:
    """The rotary frequencies as the file has them: as trained, or stretched as Llama 3.1's."""
    rope, plain = _rope(config), rotary_frequencies(ours)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return plain
    if kind == "llama3":
        return llama3_frequencies(
            2 * len(plain),
            ours.rope_base,
            rope["factor"],
            rope["original_max_position_embeddings"],
            low_turns=rope["low_freq_factor"],
            high_turns=rope["high_freq_factor"],
        )
    raise WeightsError(f"rope_type={kind!r}: our loader has 'default' and 'llama3'")


def _read(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: expected the folder of a model, in one safetensors file")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config, load_file(folder / "model.safetensors")
