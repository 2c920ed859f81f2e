"""Masking: counted, held against transformers' collator, and tried at its edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from llmlab.models.encoder import Encoder, EncoderConfig
from llmlab.train.mlm import IGNORED, Masked, chosen_words, mask_tokens, masked_word_loss

MASK, FIRST, SIZE = 4, 5, 105


def text(rows: int = 400, time: int = 100) -> tuple[Tensor, Tensor]:
    """Rows of ordinary tokens between two special ones, the last tenth padding."""
    ids = torch.randint(FIRST, SIZE, (rows, time), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, time * 9 // 10 - 1], ids[:, time * 9 // 10 :] = 2, 3, 0
    return ids, ids < FIRST


def drawn(ids: Tensor, keep: Tensor, seed: int = 0, **options: object) -> Masked:
    generator = torch.Generator().manual_seed(seed)
    return mask_tokens(ids, keep, mask_id=MASK, draw_from=(FIRST, SIZE), generator=generator, **options)  # type: ignore[arg-type]


def shares(ids: Tensor, keep: Tensor, batch: Masked) -> list[float]:
    """Chosen of all ordinary ones; of the chosen: [MASK], another token, the same."""
    chosen = batch.labels != IGNORED
    now, before = batch.inputs[chosen], ids[chosen]
    found = [chosen.sum() / (~keep).sum(), (now == MASK).float().mean()]
    found += [((now != MASK) & (now != before)).float().mean(), (now == before).float().mean()]
    return [float(x) for x in found]


def within(found: list[float], wanted: list[float], counts: list[int]) -> bool:
    """Each share within four standard errors."""
    return all(abs(a - b) <= 4 * (b * (1 - b) / n) ** 0.5 for a, b, n in zip(found, wanted, counts, strict=True))


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.40])
def test_of_the_chosen_eighty_ten_ten(rate: float) -> None:
    ids, keep = text()
    before = ids.clone()
    batch = drawn(ids, keep, rate=rate)
    n = int((~keep).sum())
    k = int(n * rate)
    same = 0.1 + 0.1 / (SIZE - FIRST)  # a random token is the old one once in a hundred
    assert within(shares(ids, keep, batch), [rate, 0.8, 1 - 0.8 - same, same], [n, k, k, k])
    assert torch.equal(ids, before)


def test_special_tokens_and_padding_are_never_touched_nor_predicted() -> None:
    ids, keep = text()
    batch = drawn(ids, keep, rate=1.0)
    assert torch.equal(batch.inputs[keep], ids[keep])
    assert (batch.labels[keep] == IGNORED).all()
    assert torch.equal(batch.labels[~keep], ids[~keep])


def test_what_is_not_chosen_is_read_as_it_stands() -> None:
    ids, keep = text()
    batch = drawn(ids, keep)
    rest = batch.labels == IGNORED
    assert torch.equal(batch.inputs[rest], ids[rest])


def test_random_tokens_come_from_the_range_evenly() -> None:
    ids, keep = text(rows=2000)
    batch = drawn(ids, keep, rate=1.0, shares=(0.0, 1.0))
    counts = torch.bincount(batch.inputs[~keep], minlength=SIZE)
    assert counts[:FIRST].sum() == 0
    expected = counts.sum() / (SIZE - FIRST)
    assert ((counts[FIRST:] - expected).abs() < 5 * expected**0.5).all()


@pytest.mark.parametrize("shares_", [(1.0, 0.0), (0.0, 0.0), (0.3, 0.7)])
def test_other_shares(shares_: tuple[float, float]) -> None:
    ids, keep = text()
    found = shares(ids, keep, drawn(ids, keep, rate=0.5, shares=shares_))
    assert abs(found[1] - shares_[0]) < 0.03
    assert abs(found[2] - shares_[1] * 0.99) < 0.03


def test_the_seed_decides_and_every_call_draws_anew() -> None:
    ids, keep = text(rows=20)
    generator = torch.Generator().manual_seed(7)
    options = {"mask_id": MASK, "draw_from": (FIRST, SIZE), "generator": generator}
    first, second = mask_tokens(ids, keep, **options), mask_tokens(ids, keep, **options)
    assert not torch.equal(first.labels, second.labels)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(ids, keep, seed=7)))


def test_words_are_chosen_whole() -> None:
    ids, keep = text(rows=2000)
    words = torch.arange(ids.shape[1]).expand_as(ids) // 3
    batch = drawn(ids, keep, words=words, shares=(0.5, 0.3))
    chosen = batch.labels != IGNORED
    for word in range(1, 29):  # those without a special token
        of_word = chosen[:, 3 * word : 3 * word + 3]
        assert (of_word.all(1) == of_word.any(1)).all()
    n = 2000 * 28
    assert within([chosen[:, 3:87:3].float().mean().item()], [0.15], [n])
    fates = batch.inputs == MASK
    inside = fates[:, 3:87].view(2000, 28, 3)[chosen[:, 3:87:3]]
    assert (inside.any(1) & ~inside.all(1)).any()  # each token of a chosen word has a fate of its own
    rows = chosen[:, 3:87:3].float()
    assert torch.corrcoef(rows.T).fill_diagonal_(0).abs().max() < 0.12  # words do not know of each other


def test_words_are_drawn_by_the_seed_and_none_may_be_there() -> None:
    ids, keep = text(rows=20)
    words = torch.arange(ids.shape[1]).expand_as(ids) // 3
    first, second, third = (drawn(ids, keep, seed=seed, words=words) for seed in (1, 1, 2))
    assert torch.equal(first.labels, second.labels) and not torch.equal(first.labels, third.labels)
    for rows, time in ((0, 5), (3, 0)):
        nothing = torch.zeros(rows, time, dtype=torch.long)
        assert drawn(nothing, nothing == 0, words=nothing).labels.shape == (rows, time)


def test_random_tokens_may_come_from_the_whole_vocabulary() -> None:
    ids, keep = text()
    options = {"mask_id": MASK, "rate": 1.0, "shares": (0.0, 1.0), "generator": torch.Generator().manual_seed(0)}
    batch = mask_tokens(ids, keep, draw_from=(0, SIZE), **options)
    assert set(batch.inputs[~keep].tolist()) == set(range(SIZE))
    with pytest.raises(ValueError, match=r"draw_from=\(-1, 105\)"):
        mask_tokens(ids, keep, draw_from=(-1, SIZE), **options)


def collator_shares(rate: float) -> list[float]:
    from tokenizers import Tokenizer, models
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(SIZE - FIRST))]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate, seed=3)
    ids, keep = text()
    batch = collate([{"input_ids": row} for row in ids.tolist()])
    assert ((batch["labels"] != IGNORED) & keep).sum() == 0
    return shares(ids, keep, Masked(batch["input_ids"], batch["labels"]))


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_same_shares_as_transformers(rate: float) -> None:
    ids, keep = text()
    ours, theirs = shares(ids, keep, drawn(ids, keep, rate=rate)), collator_shares(rate)
    assert all(abs(a - b) < 0.03 for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


def test_the_loss_and_its_gradient_are_torchs_with_ignore_index() -> None:
    ids, keep = text(rows=3, time=30)
    batch = drawn(ids, keep, rate=0.3)
    torch.manual_seed(0)
    model = Encoder(EncoderConfig(SIZE, 16, 1, 2, masked_words=True))
    loss = masked_word_loss(model, batch, ids != 0)
    logits = model.word_logits(model(batch.inputs, ids != 0))  # all tokens, and torch leaves out -100
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()))
    (of_table,) = torch.autograd.grad(loss, model.token.weight)
    (wanted,) = torch.autograd.grad(F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()), model.token.weight)
    torch.testing.assert_close(of_table, wanted)


def test_one_chosen_token_is_its_own_mean() -> None:
    ids, _ = text(rows=1, time=20)
    model = Encoder(EncoderConfig(SIZE, 8, 1, 2, masked_words=True)).eval()
    labels = torch.full_like(ids, IGNORED)
    labels[0, 3] = ids[0, 3]
    wanted = F.cross_entropy(model.word_logits(model(ids)[0, 3]), ids[0, 3])
    torch.testing.assert_close(masked_word_loss(model, Masked(ids, labels)), wanted)


def test_a_batch_without_a_chosen_token_has_loss_zero_and_no_nan() -> None:
    ids, keep = text(rows=2, time=20)
    model = Encoder(EncoderConfig(SIZE, 8, 1, 2, masked_words=True))
    loss = masked_word_loss(model, drawn(ids, keep, rate=0.0))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_bad_input_is_refused() -> None:
    ids, keep = text(rows=2, time=20)
    for options in ({"rate": 1.5}, {"rate": -0.1}, {"shares": (0.8, 0.3)}, {"shares": (-0.1, 0.5)}):
        with pytest.raises(ValueError, match="expected a rate"):
            drawn(ids, keep, **options)
    with pytest.raises(ValueError, match="True where a token must not"):
        drawn(ids, keep.long())
    with pytest.raises(ValueError, match="True where a token must not"):
        drawn(ids, keep[:1])
    generator = torch.Generator()
    with pytest.raises(ValueError, match="at least one token"):
        mask_tokens(ids, keep, mask_id=MASK, draw_from=(5, 5), generator=generator)
    with pytest.raises(ValueError, match="number of each token's word"):
        chosen_words(ids, 0.1, generator, words=keep[:1].long())
    with pytest.raises(ValueError, match="number of each token's word"):
        chosen_words(ids, 0.1, generator, words=-torch.ones_like(ids))
