"""DPO: an example worked by hand, ln 2 at the start, the gradient's sign and size, transformers' log-probabilities."""

import math

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from transformers.loss.loss_utils import ForCausalLMLoss

from llmlab.train.dpo import dpo_loss, sequence_logprobs
from llmlab.train.sft import IGNORE, answer_only, collate

GIVEN = ([-10.0, -20.0], [-12.0, -19.0], [-11.0, -20.0], [-11.0, -20.0])


def tensors(*values):
    return [torch.tensor(value) for value in values]


def test_worked_by_hand():
    """Pair 1: (-10 + 11) - (-12 + 11) = 2, pair 2: (-20 + 20) - (-19 + 20) = -1; beta 0.5 makes them 1 and -0.5."""
    found = dpo_loss(*tensors(*GIVEN), beta=0.5)
    one, two = math.log(1 + math.exp(-1)), math.log(1 + math.exp(0.5))
    assert found.loss.item() == pytest.approx((one + two) / 2)
    assert found.chosen.tolist() == [0.5, 0.0] and found.rejected.tolist() == [-0.5, 0.5]
    assert found.accuracy.item() == 0.5


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_a_model_that_is_its_reference_loses_ln_2(beta):
    chosen, rejected = tensors([-5.0, -300.0], [-7.0, -1.0])
    found = dpo_loss(chosen, rejected, chosen, rejected, beta)
    assert found.loss.item() == pytest.approx(math.log(2)) and found.accuracy.item() == 0


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_gradient_raises_the_better_and_lowers_the_worse_by_the_papers_weight(beta):
    chosen, rejected, *reference = tensors(*GIVEN)
    reference = [r.requires_grad_() for r in reference]
    dpo_loss(chosen.requires_grad_(), rejected.requires_grad_(), *reference, beta).loss.backward()
    expected = [-beta / (1 + math.exp(beta * margin)) / 2 for margin in (2, -1)]  # -beta σ(-beta margin), a mean of two
    assert chosen.grad.tolist() == pytest.approx(expected)
    assert rejected.grad.tolist() == pytest.approx([-g for g in expected])
    assert all(r.grad is None for r in reference)


def test_the_loss_falls_with_the_margin_and_stays_finite_at_any():
    zero = torch.zeros(1)
    losses = [dpo_loss(zero, torch.tensor([-m]), zero, zero - 500.0, 1.0).loss.item() for m in (0.0, 499.0, 501.0, 1e4)]
    assert losses == pytest.approx([500.0, math.log1p(math.e), math.log1p(1 / math.e), 0.0])


def test_a_larger_beta_asks_for_less_of_a_margin():
    one = tensors([-1.0], [-3.0], [-2.0], [-2.0])
    weak, strong = (dpo_loss(*one, beta).loss.item() for beta in (0.1, 1.0))
    assert strong < weak < math.log(2)


def test_log_probabilities_are_transformers_losses_times_their_tokens():
    batch = collate([answer_only([1, 2], [3, 4, 5]), answer_only([6, 7, 8], [9])], pad=0)
    logits = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    found = sequence_logprobs(logits, batch.labels)
    for i, count in enumerate((3, 1)):
        expected = -count * ForCausalLMLoss(logits[i : i + 1], batch.labels[i : i + 1], 12)
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-6)
    by_hand = logits[0].log_softmax(-1)[[1, 2, 3], [3, 4, 5]].sum()
    assert found[0].item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_one_step_down_its_gradient_widens_the_margin():
    torch.manual_seed(0)
    table = torch.nn.Embedding(12, 12)  # a bigram model: the token before gives the logits
    chosen = collate([answer_only([1], [2, 3])], pad=0)
    rejected = collate([answer_only([1], [4, 5])], pad=0)

    def logps(batch):
        return sequence_logprobs(table(batch.ids), batch.labels)

    with torch.no_grad():
        reference = logps(chosen), logps(rejected)
    optimizer = torch.optim.SGD(table.parameters(), lr=1.0)
    losses = []
    for _ in range(20):
        found = dpo_loss(logps(chosen), logps(rejected), *reference, beta=0.5)
        losses.append(found.loss.item())
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(2)) and losses == sorted(losses, reverse=True)
    assert found.accuracy == 1 and found.chosen > 0 > found.rejected


def test_the_shapes_are_those_of_the_signatures():
    jaxtyped(dpo_loss, typechecker=beartype)(*tensors(*GIVEN))
    with pytest.raises(Exception, match="rejected"):
        jaxtyped(dpo_loss, typechecker=beartype)(torch.zeros(2), torch.zeros(2, 1), torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize(
    ("change", "beta", "message"),
    [
        ({}, 0.0, "beta=0.0"),
        ({}, float("nan"), "beta=nan"),
        ({1: torch.tensor([-1.0])}, 0.1, r"rejected has shape \(1,\)"),
        ({3: torch.tensor([1.0, -1.0])}, 0.1, "reference_rejected has a log-probability of 1"),
    ],
)
def test_nonsense_is_refused(change, beta, message):
    given = tensors(*GIVEN)
    for i, value in change.items():
        given[i] = value
    with pytest.raises(ValueError, match=message):
        dpo_loss(*given, beta)


def test_an_empty_answer_is_not_a_perfect_one():
    labels = torch.tensor([[IGNORE, 3], [5, IGNORE]])
    with pytest.raises(ValueError, match="text 1 has no label that counts"):
        sequence_logprobs(torch.zeros(2, 2, 12), labels)
