"""Our decoder against GPT-2 and Llama of transformers; its cache, its padding and its causality against itself."""

import math

import pytest
import strangers
import torch
from torch import nn

from llmlab.attention.cache import ContiguousCache
from llmlab.models.decoder import Decoder, DecoderConfig, Rotary
from llmlab.nn.rotary import apply_rope, rope_frequencies, rope_tables

torch.set_num_threads(1)
FAMILIES = pytest.mark.parametrize("family", list(strangers.DECODERS))
BOTH = pytest.mark.parametrize("family", ["GPT-2", "Llama, GQA"])
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def pairs():
    """(theirs, ours) for each family; nobody changes them."""
    made = {name: make() for name, make in strangers.DECODERS.items()}
    return {name: (theirs, strangers.ours(theirs)) for name, theirs in made.items()}


@FAMILIES
def test_logits_and_gradients_equal_transformers(pairs, family):
    theirs, _ = pairs[family]
    ours, ids = strangers.ours(theirs), strangers.ids()
    mine, other = ours(ids), theirs(ids, use_cache=False).logits
    assert other.abs().max() > 1, "logits so small that a fault would hide"
    torch.testing.assert_close(mine, other, **CLOSE)
    direction = torch.randn(mine.shape, generator=torch.Generator().manual_seed(2))
    (mine * direction).sum().backward()
    theirs.zero_grad()
    (other * direction).sum().backward()
    expected = strangers.gradients(theirs)
    theirs.zero_grad()
    for name, p in ours.named_parameters():
        assert expected[name].abs().max() > 0, f"{name} has no gradient there"
        assert strangers.relative(p.grad, expected[name]) < 1e-4, name


@FAMILIES
def test_bfloat16_equals_transformers(family):
    theirs = strangers.DECODERS[family]().to(torch.bfloat16)
    ours, ids = strangers.ours(theirs, torch.bfloat16), strangers.ids()
    mine, other = ours(ids), theirs(ids, use_cache=False).logits
    exact = strangers.ours(theirs, torch.float32)(ids)
    assert mine.dtype == torch.bfloat16
    assert strangers.relative(mine, exact) < 1.25 * strangers.relative(other, exact), "rounds more than theirs"
    assert strangers.relative(mine, other) < 0.02
    mine.float().square().sum().backward()
    other.float().square().sum().backward()
    expected = strangers.gradients(theirs)
    for name, p in ours.named_parameters():
        assert strangers.relative(p.grad, expected[name]) < 0.08, name


@BOTH
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_equals_transformers_and_each_text_alone(pairs, family, side):
    theirs, ours = pairs[family]
    ids, mask = strangers.ids(), strangers.real(side)
    places = (mask.long().cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        found = ours(ids, mask)
        expected = theirs(ids, attention_mask=mask.long(), position_ids=places, use_cache=False).logits
        torch.testing.assert_close(found[mask], expected[mask], **CLOSE)
        for text, row, logits in zip(ids, mask, found):
            torch.testing.assert_close(logits[row], ours(text[row][None])[0], **CLOSE)
    assert found.isfinite().all(), "a padded query sees no key: zeros, not NaN"


@BOTH
def test_padding_has_no_say_in_the_gradient(pairs, family):
    theirs, _ = pairs[family]
    mask = strangers.real("left")
    found = []
    for filler in (0, 7):
        ours = strangers.ours(theirs)
        (ours(strangers.ids().masked_fill(~mask, filler), mask)[mask] ** 2).sum().backward()
        found.append([p.grad for p in ours.parameters()])
    torch.testing.assert_close(found[0], found[1])


@BOTH
@pytest.mark.parametrize("side", [None, "left"])
@pytest.mark.parametrize("capacity", [0, 11])
def test_a_cache_filled_in_pieces_gives_the_whole(pairs, family, side, capacity):
    _, ours = pairs[family]
    ids, mask = strangers.ids(), None if side is None else strangers.real(side)
    cache, parts, done = ours.new_cache(capacity), [], 0
    with torch.no_grad():
        for part in ids.split([4, 1, 3, 1, 1, 1], dim=1):
            done += part.shape[1]
            parts.append(ours(part, None if mask is None else mask[:, :done], cache))
        whole = ours(ids, mask)
    chosen = torch.ones_like(ids).bool() if mask is None else mask
    torch.testing.assert_close(torch.cat(parts, 1)[chosen], whole[chosen], **CLOSE)
    assert [c.length for c in cache] == [11] * 3
    assert cache[0].view().k.shape[1] == (2 if "GQA" in family else 4), "key heads are kept, not query heads"


@pytest.mark.parametrize("make", [DecoderConfig, DecoderConfig.gpt2])
def test_a_model_of_one_layer_writes_with_a_cache(make):
    model = Decoder(make(61, 16, 1, 2, context=12)).eval()
    ids, cache = strangers.ids(time=9), model.new_cache()
    with torch.no_grad():
        parts = [model(part, None, cache) for part in ids.split([5, 1, 3], dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), model(ids), **CLOSE)


@BOTH
def test_new_tokens_after_prompts_padded_on_the_right(pairs, family):
    """The padding then stands between a text's tokens; counted as tokens, it would push the new ones away."""
    _, ours = pairs[family]
    prompts, mask, new = strangers.ids(time=8), strangers.real("right", time=8), strangers.ids(time=2, seed=9)
    cache = ours.new_cache()
    with torch.no_grad():
        ours(prompts, mask, cache)
        found = ours(new, torch.cat([mask, torch.ones(3, 2, dtype=torch.bool)], 1), cache)
        for prompt, row, following, logits in zip(prompts, mask, new, found):
            alone = ours(torch.cat([prompt[row], following])[None])
            torch.testing.assert_close(logits, alone[0, -2:], **CLOSE)


@FAMILIES
def test_the_future_is_not_read(pairs, family):
    _, ours = pairs[family]
    ids = strangers.ids(batch=1)
    with torch.no_grad():
        before = ours(ids)[0]
        for at in range(ids.shape[1]):
            changed = ids.clone()
            changed[:, at:] = (changed[:, at:] + 17) % strangers.VOCABULARY
            after = ours(changed)[0]
            torch.testing.assert_close(after[:at], before[:at], rtol=0, atol=1e-5)
            assert ((after[at:] - before[at:]).abs().amax(-1) > 1e-3).all(), "and the present is"


@BOTH
def test_the_stream_is_what_transformers_reports(pairs, family):
    theirs, ours = pairs[family]
    ids = strangers.ids()
    with torch.no_grad():
        stream = list(ours.stream(ids))
        reported = theirs(ids, output_hidden_states=True, use_cache=False).hidden_states
        assert len(stream) == len(reported) == 4
        for mine, other in zip(stream[:-1], reported):  # theirs ends after the last norm
            torch.testing.assert_close(mine, other, **CLOSE)
        torch.testing.assert_close(ours.logits(stream[-1]), ours(ids))
        torch.testing.assert_close(ours(ids, last=2), ours(ids)[:, -2:])
        torch.testing.assert_close(ours(ids, last=14), ours(ids))  # there are 11


@BOTH
def test_the_loss_is_transformers(pairs, family):
    theirs, ours = pairs[family]
    ids = strangers.ids()
    torch.testing.assert_close(ours.loss(ids), theirs(ids, labels=ids, use_cache=False).loss, rtol=1e-5, atol=1e-5)


def test_rotary_takes_one_row_of_positions_or_one_for_each_text():
    g = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, 4, 3, 8, generator=g), torch.randn(2, 2, 3, 8, generator=g)
    rotary, places = Rotary(rope_frequencies(8), 16), torch.tensor([[0, 1, 2], [5, 6, 9]])
    q2, k2 = rotary(q, k, places)
    for row in range(2):
        tables = rope_tables(places[row], rope_frequencies(8))
        torch.testing.assert_close(q2[row], apply_rope(q[row : row + 1], *tables)[0])
        torch.testing.assert_close(k2[row], apply_rope(k[row : row + 1], *tables)[0])
        torch.testing.assert_close(rotary(q[row : row + 1], k[row : row + 1], places[row])[1][0], k2[row])
    rotary.set_frequencies(torch.zeros(4))
    assert torch.equal(rotary(q, k, places)[0], q), "frequencies of zero turn nothing"
    assert not list(rotary.state_dict()), "tables are made, not stored"


@pytest.mark.parametrize("make", [DecoderConfig, DecoderConfig.gpt2])
def test_a_new_model_knows_nothing_and_learns(make):
    torch.manual_seed(4)
    model = Decoder(make(50, 32, 2, 4, context=16))
    ids = torch.randint(0, 50, (4, 17))
    assert abs(model.loss(ids).item() - math.log(50)) < 0.1
    weights = dict(model.named_parameters())
    for name, p in weights.items():
        if name.endswith("bias"):
            assert (p == 0).all(), name
        if p.ndim == 2:
            writes = name.endswith(("attend.out.weight", "feedforward.down.weight"))
            assert abs(p.std() / (0.02 / 2 if writes else 0.02) - 1) < 0.1, name  # 2 layers: sqrt(2 * 2) = 2
    assert "head.weight" not in weights
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(ids).backward()
        optimizer.step()
    assert model.loss(ids) < 1, "64 tokens can be learned by heart"


def test_dropout_works_in_training_alone():
    torch.manual_seed(5)
    model, ids = Decoder(DecoderConfig(50, 32, 1, 4, dropout=0.5)), strangers.ids() % 50
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))
    assert sum(m.p for m in model.modules() if isinstance(m, nn.Dropout)) == 1.0  # embedding and block
    assert model.blocks[0].attend.dropout == 0.5


def test_the_families_differ_where_they_should():
    llama, gpt2 = Decoder(DecoderConfig(50, 32, 1, 4)), Decoder(DecoderConfig.gpt2(50, 32, 1, 4, hidden=40))
    assert {name.split(".", 2)[-1] for name, _ in llama.named_parameters() if "blocks" in name} == {
        "norm1.weight",
        "attend.qkv.weight",
        "attend.out.weight",
        "norm2.weight",
        "feedforward.gate.weight",
        "feedforward.up.weight",
        "feedforward.down.weight",
    }
    assert gpt2.position is not None
    assert gpt2.blocks[0].feedforward.up.weight.shape == (40, 32)
    assert llama.blocks[0].feedforward.up.weight.shape == (128, 32)
    assert llama.position is None
    assert Decoder(DecoderConfig.gpt2(50, 32, 1, 4, positions="rotary")).rotary is not None, "a choice can be overruled"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m(torch.zeros(1, 33, dtype=torch.long)), r"33 new tokens, but config\.context=32"),
        (lambda m: m(torch.zeros(5, dtype=torch.long)), r"expected whole numbers \(batch, time\)"),
        (lambda m: m(torch.zeros(1, 5)), r"float32 of shape \(1, 5\)"),
        (lambda m: m(strangers.ids(), strangers.real("left").long()), "expected torch.bool"),
        (lambda m: m(strangers.ids(), strangers.real("left")[:, 1:]), r"shape \(3, 10\): expected .* \(3, 11\)"),
        (lambda m: m(strangers.ids(), None, [ContiguousCache()]), "1 caches for 3 layers"),
        (lambda m: DecoderConfig(50, 32, 0, 4), "layers=0"),
        (lambda m: DecoderConfig(50, 32, 1, 4, norm="batch"), "norm='batch': expected one of layer, rms"),
        (lambda m: DecoderConfig(50, 32, 1, 4, positions="none"), "positions='none'"),
        (lambda m: DecoderConfig(50, 30, 1, 4), "d=30 cannot be shared by 4 heads"),
        (lambda m: Decoder(DecoderConfig(50, 32, 1, 4, activation="swish")), "activation='swish'"),
    ],
)
def test_bad_input_gets_a_sentence(pairs, call, says):
    with pytest.raises(ValueError, match=says):
        call(pairs["GPT-2"][1])


@BOTH
def test_a_full_cache_refuses_the_next_token(pairs, family):
    _, ours = pairs[family]
    cache = ours.new_cache()
    with torch.no_grad():
        ours(torch.zeros(1, 32, dtype=torch.long), cache=cache)
        with pytest.raises(ValueError, match="32 cached and 1 new"):
            ours(torch.zeros(1, 1, dtype=torch.long), cache=cache)
