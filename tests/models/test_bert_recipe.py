"""The small BERT: it comes out of its recipe again, its twin is causal, and its blanks are where they should be."""

from __future__ import annotations

import pytest
import torch

from llmlab.recipes import bert
from llmlab.recipes.bert import Recipe, load_news, load_twin, make_blanks, make_causal, train, word_numbers
from llmlab.tasks.classify import read_record
from llmlab.text.characters import CLS, MASK, SEP, SPECIAL


@pytest.fixture(scope="module")
def news():
    return load_news()


@pytest.mark.parametrize(("name", "objective"), [("bert_mlm", "masked"), ("bert_causal", "causal")])
def test_the_first_losses_come_out_again(news, name, objective):
    record = read_record(name)
    assert Recipe(**{**record["recipe"], "shares": tuple(record["recipe"]["shares"])}) == Recipe()
    _, losses = train(news, objective, Recipe(), steps=3)
    assert losses == pytest.approx(record["first_losses"][:3], abs=2e-3)


def test_held_out_lines_are_whole_blocks_and_share_no_line_with_training(news):
    train_lines, held = (set(news.lines[part]) for part in ("train", "held"))
    assert not train_lines & held
    assert len(train_lines | held) == len(news.texts)
    assert {i // bert.BLOCK % 10 for i in held} == {9}


def test_the_twins_know_the_directions_they_were_trained_in(news):
    ids = news.windows(64)[:2].clone()
    other = ids.clone()
    other[:, 40] = 77
    with torch.no_grad():
        for objective in ("masked", "causal"):
            model = load_twin(objective)
            moved = (model(ids) - model(other)).abs().amax(-1)
            assert (moved[:, 40] > 1).all()
            # a causal model is equal to the last bit; the other's states move from 1e-5 far away to 1 next door
            assert (moved[:, :40].max() > 0.01) == (objective == "masked")
            assert (moved[:, :40].max() == 0) == (objective == "causal")
        moved = (make_causal(model, False)(ids) - model(other)).abs().amax(-1)
        assert moved[:, :40].max() > 0.01


def test_heads_start_at_the_places_they_should_look_at():
    model = bert.build(200, Recipe())
    x = model.position.table[None, :60] * 10  # codes alone, as large as after the norm
    attend = model.blocks[0].attend
    q, k, _ = attend.qkv(x).split(attend.widths, dim=-1)
    q, k = (t.unflatten(-1, (4, -1)).transpose(1, 2)[0] for t in (q, k))
    peak = (q @ k.mT).argmax(-1)
    for head, offset in enumerate(bert.OFFSETS):
        assert torch.equal(peak[head, 5:50], torch.arange(5, 50) + offset)


def test_a_word_of_two_is_blanked_whole(news):
    blanks = make_blanks(news, 2, count=200)
    assert ((blanks.ids == MASK).sum(1) == 2).all()
    for k in range(2):
        assert (blanks.ids.gather(1, blanks.at[:, None] + k) == MASK).all()
    words = {word for i in news.lines["held"] for word, _ in news.news.sentences[i]}
    for pair in blanks.labels.tolist():
        characters = news.vocabulary.decode(pair)
        assert "[UNK]" in characters or "".join(characters) in words
    one = make_blanks(news, count=50)
    assert ((one.ids == MASK).sum(1) == 1).all()
    assert (one.labels >= len(SPECIAL)).all()


def test_word_numbers_follow_the_text(news):
    numbers, text = word_numbers(news), news.text["held"]
    assert len(numbers) == len(text)
    assert (numbers[1:] - numbers[:-1]).unique().tolist() == [0, 1]
    ends = (text == SEP).nonzero()[:, 0][:50]
    assert (numbers[ends] != numbers[ends - 1]).all()
    assert (news.windows(64)[:, 0] == CLS).all()


def test_states_do_not_depend_on_the_lines_beside_them(news):
    model = load_twin("masked")
    lines = news.lines["held"][:8]
    together = bert.features(model, news, lines)
    alone = torch.cat([bert.features(model, news, [i]) for i in lines])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert together.shape == (sum(len(news.texts[i]) for i in lines), 3 * 128)


def test_pairs_are_neighbours_and_strangers_are_far(news):
    first, following, elsewhere = bert.line_pairs(news, "held", 200)
    assert all(b == a + 1 for a, b in zip(first, following))
    assert all(abs(a - x) >= 400 for a, x in zip(first, elsewhere))
    assert {*first, *following, *elsewhere} <= set(news.lines["held"])


def test_guesses_of_a_causal_model_are_those_of_the_place_before(news):
    model, ids = load_twin("causal"), news.windows(64)[:3]
    at = torch.tensor([10, 20, 30])
    with torch.no_grad():
        wanted = model.word_logits(model(ids))[torch.arange(3), at - 1].log_softmax(-1)
    torch.testing.assert_close(bert.guesses(model, ids, at), wanted)
