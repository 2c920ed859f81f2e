"""Adapters: the closed form and its gradients, an exact way in and out of W, and files of the thin matrices alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from llmlab.train.lora import (
    LoRALinear,
    adapters_off,
    add_lora,
    load_lora,
    lora_layers,
    merge_lora,
    save_lora,
    trained_parameters,
)

IDS = torch.tensor([[1, 5, 9, 2, 7], [3, 3, 8, 1, 0]])


def llama(tied=False, dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def changed(dtype=torch.float32, alpha=6.0):
    """A small Llama with adapters that say something."""
    model = llama(dtype=dtype)
    add_lora(model, ["q_proj", "v_proj", "down_proj"], rank=3, alpha=alpha)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.b.copy_(0.3 * torch.randn(layer.b.shape, generator=generator))
    return model


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_output_and_gradients_are_those_of_the_closed_form():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(5, 4), rank=2, alpha=3.0)
    nn.init.normal_(layer.b)
    x = torch.randn(3, 2, 5, requires_grad=True)
    w, a, b = (t.detach().clone().requires_grad_() for t in (layer.base.weight, layer.a, layer.b))
    y = x.detach().clone().requires_grad_()
    expected = F.linear(y, w + 3.0 / 2 * b @ a, layer.base.bias)
    weights = torch.randn(3, 2, 4)
    (layer(x) * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.delta(), 1.5 * (b @ a).detach(), rtol=1e-5, atol=1e-6)
    for mine, other in ((layer.a.grad, a.grad), (layer.b.grad, b.grad), (x.grad, y.grad)):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    assert layer.base.weight.grad is None and layer.base.bias.grad is None


def test_gradients_by_finite_differences():
    layer = LoRALinear(nn.Linear(4, 3).double(), rank=2, alpha=5.0)
    nn.init.normal_(layer.b)
    x = torch.randn(2, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, a, b: layer(x), (x, layer.a, layer.b))


def test_at_first_nothing_changes_and_the_first_gradient_reaches_b_alone():
    model, before = llama(), logits(llama())
    add_lora(model, ["q_proj"], rank=4)
    assert torch.equal(logits(model), before)
    model(IDS).logits.square().mean().backward()
    for layer in lora_layers(model).values():
        assert layer.a.grad.abs().max() == 0 < layer.b.grad.abs().max()
        assert 0.1 < layer.a.std() * layer.base.in_features**0.5 * 3**0.5 < 2  # uniform in ±1/√in, as torch's layers


def test_names_are_whole_parts_of_paths_and_all_else_is_frozen():
    model = llama()
    assert add_lora(model, ["layers.1.self_attn.q_proj", "up_proj"], rank=2) == [
        "model.layers.0.mlp.up_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
    ]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith((".a", ".b")) for name in trained) and len(trained) == 6
    assert trained_parameters(model)[0] == 2 * (16 + 16) + 2 * 2 * (16 + 24)
    assert trained_parameters(model)[1] == trained_parameters(llama())[1] + trained_parameters(model)[0]


def test_merging_changes_the_output_by_rounding_and_unmerging_nothing_at_all():
    model = changed()
    weights = {path: layer.base.weight.clone() for path, layer in lora_layers(model).items()}
    before = logits(model)
    assert (before - logits(llama())).abs().max() > 0.1
    for layer in lora_layers(model).values():
        layer.merge()
    assert (logits(model) - before).abs().max() < 2e-6 * before.abs().max()
    for path, layer in lora_layers(model).items():
        torch.testing.assert_close(layer.base.weight, weights[path] + layer.delta())
        layer.unmerge()
        assert torch.equal(layer.base.weight, weights[path])
    assert torch.equal(logits(model), before)


def test_a_merged_model_is_the_plain_one_with_other_weights():
    model = changed()
    before, names = logits(model), set(llama().state_dict())
    merge_lora(model)
    assert not lora_layers(model) and set(model.state_dict()) == names
    assert (logits(model) - before).abs().max() < 2e-6 * before.abs().max()


def test_bfloat16_rounds_the_sum_once_and_loses_what_is_too_small():
    layer = changed(torch.bfloat16).model.layers[0].mlp.down_proj
    weight, exact = layer.base.weight.clone(), layer.base.weight.float() + layer.delta()
    assert layer.delta().dtype == torch.float32
    layer.merge()
    assert torch.equal(layer.base.weight, exact.bfloat16())
    error = ((layer.base.weight.float() - exact).abs() / exact.abs()).max().item()
    assert 2**-11 < error <= 2**-8  # 8 bits
    layer.unmerge()
    assert torch.equal(layer.base.weight, weight)
    small = LoRALinear(nn.Linear(4, 4, dtype=torch.bfloat16), rank=1, alpha=1.0)
    nn.init.constant_(small.base.weight, 1.0)
    nn.init.constant_(small.a, 1.0)
    nn.init.constant_(small.b, 2**-10)
    small.merge()
    assert torch.equal(small.base.weight, torch.ones(4, 4, dtype=torch.bfloat16))  # 1 + 1/1024 is 1


def test_with_adapters_off_it_is_the_model_it_was():
    model, before = changed(), logits(llama())
    after = logits(model)
    with adapters_off(model):
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), after)
    with pytest.raises(KeyError), adapters_off(model):
        raise KeyError
    assert torch.equal(logits(model), after)


def test_a_file_holds_the_thin_matrices_alone(tmp_path):
    model = changed()
    file = save_lora(model, tmp_path / "adapter.safetensors")
    state = load_file(file)
    assert sum(t.numel() for t in state.values()) == trained_parameters(model)[0]
    assert not list(tmp_path.glob("*.part"))
    fresh = llama()
    paths = load_lora(fresh, file)
    assert paths == list(lora_layers(model)) and torch.equal(logits(fresh), logits(model))
    assert trained_parameters(fresh) == trained_parameters(model)
    for layer in lora_layers(fresh).values():
        nn.init.zeros_(layer.b)
    load_lora(fresh, file)  # into adapters that are there
    assert torch.equal(logits(fresh), logits(model))


def test_files_that_do_not_fit_are_refused(tmp_path):
    file = save_lora(changed(), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="an adapter for 'model.layers.0.mlp.down_proj', which this model lacks"):
        load_lora(nn.Sequential(nn.Linear(2, 2)), file)
    with pytest.raises(ValueError, match=r"is \(3, 6.0\) in a.safetensors and \(3, 7.0\) in the model"):
        load_lora(changed(alpha=7.0), file)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no adapters of save_lora"):
        load_lora(llama(), tmp_path / "other.safetensors")


def test_dropout_acts_on_the_change_alone_and_only_while_training():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(64, 8), rank=2, dropout=0.5)
    x = torch.randn(1, 64)
    assert torch.equal(layer.train()(x), layer.base(x))
    nn.init.normal_(layer.b)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_training_moves_the_adapters_and_nothing_else():
    model = changed()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(IDS, labels=IDS).loss.backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"{path}.{name}" for path in lora_layers(model) for name in "ab"}


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: LoRALinear(nn.Embedding(3, 3)), TypeError, "not a Embedding"),
        (lambda: LoRALinear(nn.Linear(4, 3), rank=4), ValueError, "smaller side of the 3 x 4 matrix"),
        (lambda: LoRALinear(nn.Linear(4, 3), rank=0), ValueError, "rank=0"),
        (lambda: LoRALinear(nn.Linear(4, 3), rank=1, alpha=0), ValueError, "alpha=0"),
        (lambda: add_lora(llama(), "q_proj"), TypeError, "expected a list of names"),
        (lambda: add_lora(llama(), ["query"]), ValueError, "'query': expected some of down_proj, gate_proj, k_proj"),
        (lambda: add_lora(llama(), ["proj"]), ValueError, "no linear layer is called 'proj'"),
        (lambda: add_lora(changed(), ["q_proj.base"]), ValueError, "q_proj has an adapter already"),
        (lambda: add_lora(changed(), ["q_proj"]), ValueError, "no linear layer is called 'q_proj'"),
        (lambda: add_lora(llama(tied=True), ["lm_head"]), ValueError, "lm_head shares its weight"),
        (lambda: merge_lora(llama()), ValueError, "no adapters"),
        (lambda: save_lora(llama(), "x"), ValueError, "no adapters"),
        (lambda: adapters_off(merged()).__enter__(), ValueError, "is merged into its weight"),
        (lambda: next(iter(lora_layers(merged()).values())).merge(), RuntimeError, "merged already"),
        (lambda: LoRALinear(nn.Linear(3, 3), rank=1).unmerge(), RuntimeError, "not merged"),
    ],
)
def test_nonsense_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def merged():
    model = changed()
    for layer in lora_layers(model).values():
        layer.merge()
    return model
