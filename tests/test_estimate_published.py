"""Every model of the table against its published count, and against transformers' own class with the same sizes."""

from dataclasses import replace

import pytest
import torch
import transformers as hf

from llmlab.estimate import (
    PUBLISHED,
    Architecture,
    active_parameters,
    find,
    non_embedding_parameters,
    parameters,
    total_parameters,
)
from llmlab.estimate.commands import main


def stranger(name, a):
    """transformers' model with these sizes, on the meta device, and None where it has no such class."""
    plain = {"vocab_size": a.vocab, "tie_word_embeddings": a.tied}
    if name.startswith("gpt"):
        config = hf.GPT2Config(
            n_embd=a.d, n_layer=a.layers, n_head=a.heads, n_positions=a.positions, n_inner=a.ff, **plain
        )
        return hf.GPT2LMHeadModel(config)
    if name.startswith("t5"):
        kind = "gated-gelu" if a.gated else "relu"
        sizes = {"d_model": a.d, "d_kv": a.size, "d_ff": a.ff, "num_layers": a.layers, "num_heads": a.heads}
        model = hf.T5ForConditionalGeneration(hf.T5Config(**sizes, feed_forward_proj=kind, **plain))
        if not a.tied:  # transformers 5 ties every T5 that it builds; the weights of v1.1 bring a head of their own
            model.lm_head.weight = torch.nn.Parameter(torch.empty(a.vocab, a.d))
        return model
    wide = plain | {
        "hidden_size": a.d,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "intermediate_size": a.ff,
    }
    if name.startswith("bert"):
        return hf.BertForPreTraining(
            hf.BertConfig(max_position_embeddings=a.positions, type_vocab_size=a.segments, **wide)
        )
    if a.rank:
        experts = {
            "n_routed_experts": a.experts, "n_shared_experts": a.shared_experts, "num_experts_per_tok": a.experts_per_token,
            "moe_intermediate_size": a.expert_ff, "first_k_dense_replace": a.dense_layers,
        }  # fmt: skip
        latent = {
            "kv_lora_rank": a.rank, "q_lora_rank": a.q_rank, "qk_nope_head_dim": a.plain_size, "qk_rope_head_dim": a.rope_size,
            "v_head_dim": a.value_size,
        }  # fmt: skip
        two = "v2" in name
        config = (hf.DeepseekV2Config if two else hf.DeepseekV3Config)(**wide, **experts, **latent)
        return (hf.DeepseekV2ForCausalLM if two else hf.DeepseekV3ForCausalLM)(config)
    wide |= {"num_key_value_heads": a.key_heads, "head_dim": a.size}
    if a.experts:
        return hf.MixtralForCausalLM(
            hf.MixtralConfig(num_local_experts=a.experts, num_experts_per_tok=a.experts_per_token, **wide)
        )
    if a.qkv_bias:
        return hf.Qwen2ForCausalLM(hf.Qwen2Config(**wide))
    if name.startswith("gemma"):
        return hf.GemmaForCausalLM(hf.GemmaConfig(**wide))
    if name.startswith("mistral"):
        return hf.MistralForCausalLM(hf.MistralConfig(**wide))
    return None if a.norms == 1 else hf.LlamaForCausalLM(hf.LlamaConfig(**wide))


def test_the_table_is_long_enough_and_names_its_sources():
    assert len(PUBLISHED) >= 24
    assert all(p.source for p in PUBLISHED.values())
    families = {
        "gpt2",
        "gpt3",
        "bert",
        "t5",
        "llama",
        "llama2",
        "llama3",
        "qwen2.5",
        "mistral",
        "mixtral",
        "deepseek",
        "smollm2",
    }
    assert families <= {name.split("-")[0] for name in PUBLISHED}
    assert find("gpt3-175b").architecture.layers == 96


@pytest.mark.parametrize("name", PUBLISHED)
def test_within_one_percent_or_the_published_rounding(name):
    p = find(name)
    gap = abs(total_parameters(p.architecture) - p.count)
    near = gap <= max(0.01 * p.count, p.rounding)
    steps = p.count / (2 * p.rounding)  # the figure is a whole number of its last digits
    assert steps < 1e10 and abs(steps - round(steps)) < 1e-6
    assert near != bool(p.off), f"{gap / p.count:.2%} from {p.count:g}"  # an excuse that is not needed fails too


def test_most_agree_without_the_help_of_rounding():
    close = [p for p in PUBLISHED.values() if abs(total_parameters(p.architecture) / p.count - 1) <= 0.01]
    assert len(close) >= 45


def test_totals_of_the_published_weights():
    """To the last digit: what the headers of the published weight files add up to. A wrong size cannot hide in 1 %."""
    exact = {
        "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
        "t5-small": 60_506_624, "t5-base": 222_903_552, "t5-large": 737_668_096,
        "llama2-7b": 6_738_415_616, "llama2-13b": 13_015_864_320, "llama2-70b": 68_976_648_192,
        "llama3-8b": 8_030_261_248, "llama3-70b": 70_553_706_496, "llama3-405b": 405_853_388_800,
        "qwen2.5-14b": 14_770_033_664, "qwen2.5-32b": 32_763_876_352, "qwen2.5-72b": 72_706_203_648,
        "mistral-7b": 7_241_732_096, "mixtral-8x7b": 46_702_792_704, "mixtral-8x22b": 140_630_071_296,
        "deepseek-v2-lite": 15_706_484_224, "deepseek-v2": 235_741_434_880,
        "smollm2-135m": 134_515_008,
    }  # fmt: skip
    assert {name: total_parameters(find(name).architecture) for name in exact} == exact


@pytest.mark.parametrize("name", [n for n in PUBLISHED if not n.startswith("palm")])
def test_transformers_own_class_has_exactly_as_many(name):
    with torch.device("meta"):
        model = stranger(name, find(name).architecture)
    assert total_parameters(find(name).architecture) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "part", "owns"),
    [
        ("gpt2", "attention", "attn."),
        ("gpt2", "feed-forward", "mlp."),
        ("gpt2", "norms", "ln_"),
        ("bert-base", "attention", ".attention.self|.attention.output.dense"),
        ("bert-base", "embedding", "_embeddings."),
        ("t5-v1.1-small", "head", "lm_head"),
        ("t5-small", "norms", "layer_norm"),
        ("qwen2.5-0.5b", "attention", "self_attn"),
        ("mixtral-8x7b", "experts", "mlp."),
        ("deepseek-v2-lite", "experts", "experts|gate.weight"),
        ("deepseek-v3", "attention", "self_attn"),
    ],
)
def test_each_part_is_the_part_of_transformers_model(name, part, owns):
    a = find(name).architecture
    with torch.device("meta"):
        model = stranger(name, a)
    real = sum(p.numel() for key, p in model.named_parameters() if any(word in key for word in owns.split("|")))
    assert parameters(a)[part] == real


@pytest.mark.parametrize("name", [n for n, p in PUBLISHED.items() if p.active])
def test_active_counts_to_their_last_digit(name):
    """Rounded (Mixtral, DeepSeek-V2 and V3), or cut: DeepSeek-V2-Lite's 2.45 B is published as 2.4 B."""
    p = find(name)
    digit = 0.1e9 if name == "deepseek-v2-lite" else 0.5e9
    assert abs(active_parameters(p.architecture) - p.active) < digit
    assert active_parameters(p.architecture) < total_parameters(p.architecture) / 3


def test_sizes_that_no_published_model_has():
    """Biases everywhere in a gated model; a decoder deeper than its encoder; heads wider than d; one dense layer of three."""
    small = {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 80,
        "vocab_size": 99,
    }
    a = Architecture(d=48, layers=3, heads=4, kv_heads=2, head_size=20, ff=80, vocab=99)
    with torch.device("meta"):
        biased = hf.LlamaForCausalLM(
            hf.LlamaConfig(**small, num_key_value_heads=2, head_dim=20, attention_bias=True, mlp_bias=True)
        )
        t5 = hf.T5Config(d_model=48, d_kv=20, d_ff=80, num_layers=2, num_decoder_layers=5, num_heads=4, vocab_size=99)
        deep = hf.T5ForConditionalGeneration(t5)
        mixed = hf.DeepseekV3ForCausalLM(
            hf.DeepseekV3Config(
                **small, num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=None, qk_nope_head_dim=12, qk_rope_head_dim=8,
                v_head_dim=10, n_routed_experts=6, n_group=1, topk_group=1, n_shared_experts=2, num_experts_per_tok=2,
                moe_intermediate_size=32, first_k_dense_replace=1,
            )
        )  # fmt: skip
    five = Architecture(
        kind="encoder-decoder", d=48, layers=2, decoder_layers=5, heads=4, head_size=20, ff=80, vocab=99, position_buckets=32,
        gated=False, tied=True,
    )  # fmt: skip
    experts = Architecture(
        d=48, layers=3, heads=4, ff=80, vocab=99, rank=16, plain_size=12, rope_size=8, value_size=10,
        experts=6, experts_per_token=2, expert_ff=32, shared_experts=2, dense_layers=1,
    )  # fmt: skip
    for architecture, model in [(replace(a, bias=True), biased), (five, deep), (experts, mixed)]:
        assert total_parameters(architecture) == sum(p.numel() for p in model.parameters())
    idle = (3 - 1) * (6 - 2) * 3 * 48 * 32  # experts that a token does not visit
    assert active_parameters(experts) == total_parameters(experts) - idle - 99 * 48


def test_digits_that_were_published_in_full():
    """Gemma's table 2 prints every digit; the README_WEIGHTS of DeepSeek-V3 says 36.6 B active with its head of 0.9 B."""
    small, large = (find(f"gemma-{size}").architecture for size in ("2b", "7b"))
    assert [parameters(a)["embedding"] for a in (small, large)] == [524_550_144, 786_825_216]
    assert [non_embedding_parameters(a) for a in (small, large)] == [1_981_884_416, 7_751_248_896]
    v3 = find("deepseek-v3").architecture
    assert round(active_parameters(v3) / 1e9, 1) == 36.6
    assert round(parameters(v3)["head"] / 1e9, 1) == 0.9


@pytest.mark.parametrize(
    ("name", "billions"),
    [("0.5b", 0.36), ("1.5b", 1.31), ("3b", 2.77), ("7b", 6.53), ("14b", 13.1), ("32b", 31.0), ("72b", 70.0)],
)
def test_qwens_counts_without_embedding(name, billions):
    """Model cards of Qwen2.5. Without embedding and head."""
    assert non_embedding_parameters(find(f"qwen2.5-{name}").architecture) / 1e9 == pytest.approx(billions, rel=0.01)


def test_where_the_papers_contradict_themselves():
    """GPT-3's table 2.1 gives widths that its table D.1 does not bear out; T5-Large's 770 M counts the embedding twice."""
    thirteen, xl = find("gpt3-13b"), find("gpt3-xl")
    printed = replace(thirteen.architecture, d=5140, ff=4 * 5140, head_size=128)
    assert total_parameters(printed) / thirteen.count > 1.004 > total_parameters(thirteen.architecture) / thirteen.count
    printed = replace(xl.architecture, heads=24, head_size=128)
    assert total_parameters(printed) / xl.count > 1.14
    assert total_parameters(xl.architecture) / xl.count < 1.01
    large = find("t5-large")
    assert total_parameters(large.architecture) + 32128 * 1024 == pytest.approx(large.count, rel=1e-3)


def test_command_line(capsys):
    assert main(["llama3-8b"]) == 0
    printed = capsys.readouterr().out
    assert "8,030,261,248" in printed and "arXiv:2407.21783" in printed
    assert (
        "7,504,924,672" in printed
        and "131,072 bytes a token" in printed
        and "16.06 GB" in printed
        and "4.50e+22" in printed
    )
    assert main(["bert-base"]) == 0
    assert "experts" not in (printed := capsys.readouterr().out) and "cache" not in printed
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PUBLISHED)
    assert "embedding counted twice" in printed and "rounded to 10,000,000" in printed and "+0.38%" in printed
    assert main(["llama9"]) == 2
    assert "llama3-8b" in capsys.readouterr().err


def test_unknown_names_get_a_sentence():
    with pytest.raises(ValueError, match="llama3-8b"):
        find("llama3")
    with pytest.raises(ValueError, match="gpt2, "):
        find("no such model")
