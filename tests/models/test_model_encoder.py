"""Our encoder against BERT of transformers, and against MiniLM's real weights."""

from dataclasses import replace

import pytest
import strangers
import torch
from transformers import BertConfig, BertModel

from llmlab.assets import load_minilm
from llmlab.models.encoder import Encoder, EncoderConfig
from llmlab.models.load import encoder_config, encoder_from, minilm
from llmlab.nn import masked_mean

torch.set_num_threads(1)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def pair():
    theirs = strangers.bert()
    return theirs, strangers.ours(theirs)


def batch():
    types = torch.arange(11).expand(3, -1) // 4 % 2
    ids = strangers.ids().clamp(min=1)  # theirs gives no gradient to token 0, which is padding to it
    return ids, strangers.real("right"), types


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_states_word_logits_pooler_and_gradients_equal_transformers(dtype):
    theirs = strangers.bert().to(dtype)
    ours = strangers.ours(theirs, dtype)
    ids, mask, types = batch()
    states = ours(ids, mask, types)
    words, pooled = ours.word_logits(states), ours.pooler(states)
    seen = theirs.bert(ids, attention_mask=mask.long(), token_type_ids=types)
    other = theirs.cls.predictions(seen.last_hidden_state)
    close = CLOSE if dtype == torch.float32 else {"rtol": 3e-2, "atol": 0.06}
    assert other.abs().max() > 1
    torch.testing.assert_close(states[mask], seen.last_hidden_state[mask], **close)
    torch.testing.assert_close(words[mask], other[mask], **close)
    torch.testing.assert_close(pooled, seen.pooler_output, **close)
    g = torch.Generator().manual_seed(2)
    direction = torch.randn(words.shape, generator=g).to(dtype) * mask[..., None]
    ((words * direction).sum() + pooled.sum()).backward()
    ((other * direction).sum() + seen.pooler_output.sum()).backward()
    expected = strangers.gradients(theirs)
    for name, p in ours.named_parameters():
        assert expected[name].abs().max() > 0, f"{name} has no gradient there"
        assert strangers.relative(p.grad, expected[name]) < (1e-4 if dtype == torch.float32 else 0.06), name


def test_a_padded_text_is_the_text_alone(pair):
    _, ours = pair
    ids, mask, types = batch()
    with torch.no_grad():
        found = ours(ids, mask, types)
        for text, row, kind, states in zip(ids, mask, types, found):
            torch.testing.assert_close(states[row], ours(text[row][None], None, kind[row][None])[0], **CLOSE)


def test_every_token_sees_every_other(pair):
    _, ours = pair
    ids = strangers.ids(batch=1)
    with torch.no_grad():
        before = ours(ids)
        for at in (0, 5, 10):
            changed = ids.clone()
            changed[:, at] = (changed[:, at] + 17) % strangers.VOCABULARY
            assert ((ours(changed) - before).abs().amax(-1) > 1e-4).all()


def test_no_types_is_the_first_segment_throughout(pair):
    _, ours = pair
    ids = strangers.ids()
    with torch.no_grad():
        assert torch.equal(ours(ids), ours(ids, None, torch.zeros_like(ids)))
        assert not torch.equal(ours(ids), ours(ids, None, torch.ones_like(ids)))


def test_heads_are_those_that_the_weights_have():
    config = strangers.bert().config
    bare = encoder_from(config.to_dict(), BertModel(config, add_pooling_layer=False).state_dict())
    assert bare.words is None
    assert bare.pooler is None
    with pytest.raises(ValueError, match="masked_words=True"):
        bare.word_logits(torch.zeros(1, 32))


def test_minilms_real_weights_give_transformers_states_and_sentence_vectors():
    theirs, tokenizer = load_minilm()
    ours = minilm()
    texts = ["A man plays the guitar.", "Somebody is making music on a guitar, in the rain.", "Stocks fell."]
    x = tokenizer(texts, padding=True, return_tensors="pt")
    mask = x["attention_mask"].bool()
    with torch.no_grad():
        states, other = ours(x["input_ids"], mask, x["token_type_ids"]), theirs(**x)
    torch.testing.assert_close(states[mask], other.last_hidden_state[mask], **CLOSE)
    torch.testing.assert_close(ours.pooler(states), other.pooler_output, **CLOSE)
    vectors = torch.nn.functional.normalize(masked_mean(states, mask))
    same, different = (vectors[0] @ vectors[1]).item(), (vectors[0] @ vectors[2]).item()
    assert same > 0.5
    assert different < 0.1


def test_a_new_encoder_starts_as_berts():
    torch.manual_seed(0)
    model = Encoder(EncoderConfig(80, 64, 2, 4, dropout=0.3, masked_words=True, pooler=True))
    for name, p in model.named_parameters():
        if p.ndim == 2 and p.numel() > 1000:
            assert abs(p.std() / 0.02 - 1) < 0.1, name
        if name.endswith("bias"):
            assert (p == 0).all(), name
    ids = strangers.ids()
    assert not torch.equal(model(ids), model(ids)), "dropout in training"
    assert torch.equal(model.eval()(ids), model(ids))
    assert model.blocks[0].feedforward.up.out_features == 256
    assert model.blocks[0].attend.dropout == model.blocks[0].dropout.p == model.dropout.p == 0.3


def test_the_defaults_are_berts():
    published = BertConfig()
    found = EncoderConfig(published.vocab_size, 768, 12, 12)
    assert encoder_config(published.to_dict()) == replace(found, hidden=3072)
    assert (found.dropout, found.masked_words, found.pooler) == (0.0, False, False)
    assert found.norm_eps == published.layer_norm_eps


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m(torch.zeros(1, 25, dtype=torch.long)), "positions 0 to 24, but the table has 0 to 23"),
        (lambda m: m(strangers.ids(), strangers.real("right").long()), "expected torch.bool"),
        (lambda m: m(strangers.ids(), strangers.real("right")[:2]), r"shape \(2, 11\): expected .*\(3, 11\)"),
        (lambda m: m(strangers.ids(), None, torch.zeros(3, 4, dtype=torch.long)), "one a token"),
        (lambda m: EncoderConfig(0, 32, 1, 4), "vocabulary=0"),
        (lambda m: Encoder(EncoderConfig(50, 30, 1, 4)), "multiple of heads"),
    ],
)
def test_bad_input_gets_a_sentence(pair, call, says):
    with pytest.raises(ValueError, match=says):
        call(pair[1])
