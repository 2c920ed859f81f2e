"""Counts and objectives against what they are by hand, by loops and by sampling."""

import math

import pytest
import torch
import torch.nn.functional as F

from llmlab.models.word_vectors import cooccurrence, factorise, glove_loss, ppmi, sgns_loss, svd_vectors

TEXT = ["the", "cat", "sat", "on", "the", "mat", "the", "dog", "sat", "on", "the", "log"]


@pytest.fixture
def counts():
    return cooccurrence(TEXT * 3, 5, window=2)[1]


def test_pairs_are_counted_on_both_sides_and_over_the_places_of_rare_words():
    words, table = cooccurrence(["a", "b", "x", "a", "b", "a"], 2, window=2)
    assert words == ["a", "b"]
    # a-b at distance 1: (0,1), (3,4), (4,5); a-a at distance 2: (3,5); b-a at 2 over the x: (1,3)
    assert table.tolist() == [[2, 4], [4, 0]]
    naive = torch.zeros(4, 4)
    words, table = cooccurrence(TEXT, 4, window=3)
    for i, one in enumerate(TEXT):
        for other in TEXT[max(0, i - 3) : i] + TEXT[i + 1 : i + 4]:
            if one in words and other in words:
                naive[words.index(one), words.index(other)] += 1
    assert table.equal(naive)
    with pytest.raises(ValueError, match="size=99, window=2: the text has 7 words"):
        cooccurrence(TEXT, 99, 2)
    with pytest.raises(ValueError, match="window=0"):
        cooccurrence(TEXT, 2, 0)


def test_ppmi_by_hand():
    counts = torch.tensor([[0.0, 4.0], [4.0, 8.0]])
    # p(0,1) = 1/4, p(0) = 1/4, p(1) = 3/4: ln(4/3); p(1,1) = 1/2 against 9/16: below zero
    assert ppmi(counts).allclose(torch.tensor([[0.0, math.log(4 / 3)], [math.log(4 / 3), 0.0]]))
    assert ppmi(counts, shift=5).count_nonzero() == 0
    assert ppmi(torch.tensor([[0.0, 0.0], [0.0, 2.0]])).isfinite().all(), "a word that was never seen"


def test_svd_keeps_what_rank_allows(counts):
    vectors = svd_vectors(ppmi(counts), 2)
    u, s, _ = torch.linalg.svd(ppmi(counts))
    assert (vectors @ vectors.T).allclose(u[:, :2] * s[:2] @ u[:, :2].T, atol=1e-4)


def test_the_expected_loss_is_the_mean_of_sampled_ones(counts):
    generator = torch.Generator().manual_seed(0)
    w, c = torch.randn(2, 5, 3, generator=generator).unbind()
    draws = 40_000
    pairs = torch.multinomial(counts.flatten(), draws, replacement=True, generator=generator)
    i, j = pairs // 5, pairs % 5
    noise = torch.multinomial(counts.sum(1), draws * 5, replacement=True, generator=generator).view(draws, 5)
    sampled = -F.logsigmoid((w[i] * c[j]).sum(-1)) - F.logsigmoid(-(w[i, None] * c[noise]).sum(-1)).sum(-1)
    assert sgns_loss(w, c, counts, 5).item() == pytest.approx(
        sampled.mean().item(), abs=4 * sampled.std().item() / draws**0.5
    )


def test_negative_sampling_has_its_optimum_at_pmi_less_ln_k():
    counts = torch.rand(5, 5, generator=torch.Generator().manual_seed(1)) * 9 + 1
    counts = counts + counts.T
    row = counts.sum(1, keepdim=True)
    optimum = torch.log(counts * counts.sum() / (row * row.T)) - math.log(5)
    w, c = optimum.clone().requires_grad_(), torch.eye(5)
    sgns_loss(w, c, counts, 5).backward()
    assert w.grad.abs().max() < 1e-6


def test_glove_is_the_loop_of_its_paper(counts):
    w, c = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2)).unbind()
    terms = [
        min(1, (x / 4) ** 0.75) * ((w[i, :3] @ c[j, :3] + w[i, 3] + c[j, 3]).item() - math.log(x)) ** 2
        for i, row in enumerate(counts.tolist())
        for j, x in enumerate(row)
        if x > 0
    ]
    assert 0 < len(terms) < 25, "the example should have pairs that were never seen"
    assert glove_loss(w, c, counts, most=4).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_factorise_finds_what_it_is_asked_for(counts):
    w, c, losses = factorise(lambda a, b: glove_loss(a, b, counts), 5, 4, steps=300, lr=0.3)
    assert losses[-1] < 0.05 * losses[0] and w.shape == c.shape == (5, 4) and not w.requires_grad
    again = factorise(lambda a, b: glove_loss(a, b, counts), 5, 4, steps=3, lr=0.3)[2]
    assert again == losses[:3], "the same seed, the same losses"
