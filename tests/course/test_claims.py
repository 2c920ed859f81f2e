"""A claim must be able to fail, and must not be fooled."""

import numpy as np
import pytest
import torch

from llmlab.course import ClaimError, claim


@pytest.mark.parametrize("true", [True, np.bool_(True), torch.tensor(True), np.array([True]), torch.ones(1) > 0])
def test_a_true_claim_prints_its_sentence(true, capsys):
    claim("A01.variance", "the variance is 64", true)
    assert capsys.readouterr().out == "✓ A01.variance: the variance is 64\n"


@pytest.mark.parametrize("false", [False, np.bool_(False), torch.tensor(False)])
def test_a_false_claim_raises_and_prints_nothing(false, capsys):
    with pytest.raises(ClaimError, match=r"A01\.variance does not hold here: the variance is 64"):
        claim("A01.variance", "the variance is 64", false)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "no_truth", [1, 0.3, "yes", None, [True], torch.ones(2) > 0, np.ones(2) > 0, float("nan"), object]
)
def test_what_is_no_truth_value_is_refused(no_truth):
    with pytest.raises(TypeError, match="truth value"):
        claim("A01.variance", "text", no_truth)


@pytest.mark.parametrize("bad", ["A01", "variance", "A1.x", "F01.x", "A01.", "A01.Variance", "A01 .x", ""])
def test_malformed_ids_are_refused(bad):
    with pytest.raises(ValueError, match="claim id"):
        claim(bad, "text", True)


def test_a_claim_needs_a_sentence():
    with pytest.raises(ValueError, match="no text"):
        claim("A01.variance", "  ", True)
