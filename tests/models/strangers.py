"""Tiny models of transformers with random weights that matter, and ours with the same weights."""

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from llmlab.models.load import decoder_from, encoder_from

VOCABULARY = 61


def shaken(model, seed=0):
    """Every number random: as made, norms are ones, biases zeros, and logits so small that a fault hides."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        centre = 1.0 if p.ndim == 1 and name.endswith("weight") else 0.0
        nn.init.normal_(p, centre, 0.2, generator=g)
    return model.eval()


def gpt2(**more):
    sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 32, "vocab_size": VOCABULARY}
    sizes["layer_norm_epsilon"] = 1e-3  # not the default
    return shaken(GPT2LMHeadModel(GPT2Config(**sizes, attn_implementation="sdpa", **more)))


def llama(**more):
    sizes = {"hidden_size": 36, "intermediate_size": 52, "num_hidden_layers": 3, "vocab_size": VOCABULARY}
    sizes["rms_norm_eps"] = 1e-3  # not the default
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32}
    return shaken(LlamaForCausalLM(LlamaConfig(**(sizes | heads | more), attn_implementation="sdpa")))


def bert(**more):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes["layer_norm_eps"] = 1e-3  # not the default
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=24, attn_implementation="sdpa", **sizes, **more)
    return shaken(BertForPreTraining(config))


DECODERS = {
    "GPT-2": gpt2,
    "GPT-2, untied": lambda: gpt2(tie_word_embeddings=False),
    "Llama, GQA": llama,
    "Llama, tied": lambda: llama(tie_word_embeddings=True, num_key_value_heads=6),
    "Llama, biases": lambda: llama(attention_bias=True, mlp_bias=True, num_key_value_heads=1),
}


def ours(theirs, dtype=torch.float32):
    made = encoder_from if theirs.config.model_type == "bert" else decoder_from
    return made(theirs.config.to_dict(), theirs.state_dict(), dtype)


def gradients(theirs):
    """Their gradients in our order and shapes: the way from their tensors to ours is linear, so they take it too."""
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in theirs.named_parameters()}
    made = encoder_from if theirs.config.model_type == "bert" else decoder_from
    return dict(made(theirs.config.to_dict(), found, next(theirs.parameters()).dtype).named_parameters())


def ids(batch=3, time=11, seed=1):
    return torch.randint(0, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(seed))


def real(side, batch=3, time=11):
    """No padding, two of it, five of it."""
    lengths = torch.tensor([0, 2, 5])[:batch, None]
    mask = torch.arange(time) >= lengths
    return mask if side == "left" else mask.flip(-1)


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()
