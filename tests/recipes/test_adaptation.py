"""What the recipes of notebook 19 measure with, on models small enough to know the answer."""

from __future__ import annotations

import json
import math

import pytest
import torch

from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.recipes import alignment, four_ways, label_curves
from llmlab.recipes.alignment import Pair, divergence, first_sentence, preference
from llmlab.recipes.four_ways import changes, low_rank, moved
from llmlab.tasks.classify import Labelled
from llmlab.train.lora import add_lora, lora_layers, merge_lora


@pytest.fixture
def model() -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(32, 16, 2, 2, hidden=24, context=64)).eval()


def perturbed(model: Decoder) -> Decoder:
    add_lora(model, ["attend.qkv"], rank=2)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.b, std=0.3)
    return model


def test_moved_agrees_with_the_singular_values() -> None:
    torch.manual_seed(0)
    for shape in ((300, 400), (400, 300)):
        delta, weight = torch.randn(shape), torch.randn(shape)
        found, s = moved(delta, weight), torch.linalg.svdvals(delta.double())
        assert found["relative"] == pytest.approx((delta.norm() / weight.norm()).item())
        assert found["stable_rank"] == pytest.approx((s.square().sum() / s[0] ** 2).item(), rel=1e-6)
        assert found["energy"][3] == pytest.approx((s[:8].square().sum() / s.square().sum()).item(), abs=1e-4)
    one = moved(torch.outer(torch.randn(300), torch.randn(400)), torch.ones(300, 400))
    assert one["stable_rank"] == pytest.approx(1) and one["energy"][0] == pytest.approx(1)


def test_low_rank_is_the_best_there_is() -> None:
    torch.manual_seed(0)
    delta = torch.randn(60, 4) @ torch.randn(4, 90) + 0.01 * torch.randn(60, 90)
    b, a = low_rank(delta, 2)
    s = torch.linalg.svdvals(delta)
    assert b.shape == (60, 2) and a.shape == (2, 90)
    assert (delta - b @ a).norm().item() == pytest.approx(s[2:].norm().item(), rel=1e-3)


def test_changes_of_adapters_are_those_that_a_merge_makes(model: Decoder) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert all(not delta.any() for _, delta in changes(model, before))
    found = dict(changes(perturbed(model), before))
    found = {path: delta for path, delta in found.items() if delta.any()}
    merged = dict(changes(merge_lora(model), before))
    assert set(found) == {f"blocks.{i}.attend.qkv" for i in (0, 1)}
    for path, delta in found.items():
        torch.testing.assert_close(merged[path], delta, atol=1e-6, rtol=1e-4)


def test_divergence_is_the_mean_of_exact_ones(model: Decoder) -> None:
    prompts, written = [[1, 2, 3], [4, 5]], [[6, 7], [8, 9, 10]]
    add_lora(model, ["attend.qkv"], rank=2)
    assert divergence(model, prompts, written) == pytest.approx(0, abs=1e-6)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.b, std=8.0)
    model.token.weight.data *= 30  # far enough from the reference for KL(p ‖ q) and KL(q ‖ p) to differ
    found = divergence(model, prompts, written)
    total = back = 0.0
    for prompt, reply in zip(prompts, written):
        ids = torch.tensor([prompt + reply])
        logps = model(ids)[0].log_softmax(-1)
        for layer in lora_layers(model).values():
            layer.on = False
        reference = model(ids)[0].log_softmax(-1)
        for layer in lora_layers(model).values():
            layer.on = True
        kl = (logps.exp() * (logps - reference)).sum(-1)
        total += kl[len(prompt) - 1 : -1].sum().item()
        back += (reference.exp() * (reference - logps)).sum(-1)[len(prompt) - 1 : -1].sum().item()
    assert abs(back - total) > 0.4 * total, "the two directions must differ for this test to tell them apart"
    assert found > 0 and found == pytest.approx(total / 5, rel=0.1)  # the recipe's products are in bfloat16


def test_a_preference_begins_at_ln_2_and_gradients_reach_the_adapters(model: Decoder) -> None:
    add_lora(model, ["attend.qkv"], rank=2)
    found = preference(model, [Pair([1, 2], [3, 2], [4, 5, 6]), Pair([7], [8, 2], [9, 9])], beta=0.1)
    assert found.loss.item() == pytest.approx(math.log(2), abs=1e-4)
    found.loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert grads and all(name.endswith((".a", ".b")) for name in grads)


def test_the_preferred_answer_is_the_one_that_gains(model: Decoder) -> None:
    add_lora(model, ["attend.qkv"], rank=2)
    pair = [Pair([1, 2], [3, 2], [4, 5, 6])]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.03)
    for _ in range(20):
        optimizer.zero_grad()
        preference(model, pair, beta=1.0).loss.backward()
        optimizer.step()
    found = preference(model, pair, beta=1.0)
    alone = []
    for answer in (pair[0].chosen, pair[0].rejected):
        ids = torch.tensor([[1, 2, *answer]])
        alone.append(model(ids)[0, 1:-1].log_softmax(-1).gather(1, ids[0, 2:, None]).sum().item())
    with alignment.adapters_off(model):
        for i, answer in enumerate((pair[0].chosen, pair[0].rejected)):
            ids = torch.tensor([[1, 2, *answer]])
            alone[i] -= model(ids)[0, 1:-1].log_softmax(-1).gather(1, ids[0, 2:, None]).sum().item()
    assert alone[0] - alone[1] > 0.3
    assert found.chosen.item() == pytest.approx(alone[0], abs=0.05)
    assert found.rejected.item() == pytest.approx(alone[1], abs=0.05)


@pytest.mark.parametrize(
    "text, want",
    [
        ("The sea is salt. It is deep.", "The sea is salt."),
        ("The sea is salt.", None),
        ("The sea is deep\nand salt. It is.", None),
        ("No. The sea is salt. It is.", "No. The sea is salt."),
    ],
)
def test_first_sentence(text: str, want: str | None) -> None:
    assert first_sentence(text) == want


def test_the_records_are_those_of_the_recipes() -> None:
    for module, name in ((label_curves, "label_curves"), (four_ways, "four_ways")):
        record = json.loads((alignment.FOLDER / f"{name}.json").read_text())
        assert record["recipe"] == json.loads(json.dumps(module.Recipe().__dict__)), name
    for name in ("sft_mask", "dpo_short"):
        record = json.loads((alignment.FOLDER / f"{name}.json").read_text())
        assert record["recipe"] == json.loads(json.dumps(alignment.Recipe().__dict__)), name


def test_a_method_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        label_curves.train_encoder(Labelled(["a"], [1]), label_curves.Recipe(), 0, pretrained=True)
    with pytest.raises(ValueError, match="expected one of"):
        label_curves.run("zero-shot", None, None, label_curves.Recipe(), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no rate of their own"):
        label_curves.train_encoder(Labelled(["a"] * 50, [1] * 50), label_curves.Recipe(), 0, pretrained=False)


def test_the_memory_of_a_step_counts_gradients_although_some_are_left_over(model: Decoder) -> None:
    class Judge(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def loss(self, texts: list[str], labels: list[int]) -> torch.Tensor:
            return self.model(torch.tensor([[len(t) for t in texts]])).square().mean()

    judge, part = Judge(), Labelled(["a", "bb", "ccc", "dd"], [0, 1, 0, 1])
    judge.loss(part.texts, part.labels).backward()
    before = model.token.weight.detach().clone()
    found = four_ways.step_memory(judge, part)  # type: ignore[arg-type]
    size = 4 * sum(p.numel() for p in model.parameters())
    assert found["gradients"] == size and found["optimizer"] == 2 * size
    assert found["peak"] >= 3 * size
    assert torch.equal(model.token.weight, before)
