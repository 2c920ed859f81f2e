"""The loop of decoding against ``generate`` of transformers, with SmolLM2 and with small models."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmlab.assets import load_smollm2
from llmlab.generate import Sampling, generate, left_pad, stream
from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.models.load import decoder_from, smollm2

torch.set_num_threads(1)
PROMPTS = ["The capital of France is", "Water boils at a temperature of one hundred degrees, and ice", "Hello"]


@pytest.fixture(scope="module")
def real():
    return *load_smollm2(), smollm2()


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **sizes)).eval()
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return theirs, decoder_from(theirs.config.to_dict(), theirs.state_dict())


def texts(batch, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 50, (n,), generator=g).tolist() for n in ([5, 2, 9, 1] * batch)[:batch]]


def test_smollm2s_logits_equal_transformers_with_padding_on_either_side(real):
    theirs, tokenizer, ours = real
    rows = [tokenizer.encode(text) for text in PROMPTS]
    with torch.no_grad():
        alone = [theirs(torch.tensor([row]), use_cache=False).logits[0] for row in rows]
        for side in ("left", "right"):
            tokenizer.padding_side = side
            x = tokenizer(PROMPTS, padding=True, return_tensors="pt")
            mask = x["attention_mask"].bool()
            found = ours(x["input_ids"], mask)
            for logits, row, expected in zip(found, mask, alone):
                torch.testing.assert_close(logits[row], expected, rtol=0, atol=2e-4)
        for row, expected in zip(rows, alone):
            torch.testing.assert_close(ours(torch.tensor([row]))[0], expected, rtol=0, atol=1e-4)


def test_smollm2_says_what_it_says_in_transformers(real):
    """A prompt alone, then all of them left-padded: the same tokens as transformers' generate, token by token."""
    theirs, tokenizer, ours = real
    rows = [tokenizer.encode(text) for text in PROMPTS]
    ids = torch.tensor(rows[:1])
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    found = generate(ours, rows[:1], 24, stop=[tokenizer.eos_token_id])
    assert found[0] == expected[0, ids.shape[1] :].tolist()
    assert "Paris" in tokenizer.decode(found[0])
    tokenizer.padding_side = "left"
    x = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    expected = theirs.generate(**x, max_new_tokens=10, do_sample=False)[:, x["input_ids"].shape[1] :]
    together = generate(ours, rows, 10, stop=[tokenizer.eos_token_id])
    for mine, other in zip(together, expected.tolist()):
        assert mine == other[: len(mine)]
        assert len(mine) == 10 or mine[-1] == tokenizer.eos_token_id
    assert together[0] == found[0][:10], "what else is in the batch has no say"


@pytest.mark.parametrize("seed", range(3))
def test_sampling_with_one_seed_equals_transformers(small, seed):
    theirs, ours = small
    rows = texts(3, seed)
    ids, mask = left_pad(rows)
    torch.manual_seed(seed)
    chosen = {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.02}
    expected = theirs.generate(
        ids, attention_mask=mask.long(), max_new_tokens=12, do_sample=True, pad_token_id=0, eos_token_id=None, **chosen
    )
    sampling = Sampling(**chosen, generator=torch.Generator().manual_seed(seed))
    assert generate(ours, rows, 12, sampling=sampling) == expected[:, ids.shape[1] :].tolist()
    greedy = generate(ours, rows, 12)
    assert generate(ours, rows, 12, sampling=Sampling(top_k=1)) == greedy
    assert generate(ours, rows, 12, sampling=Sampling(generator=torch.Generator().manual_seed(seed))) != greedy


@pytest.mark.parametrize("make", [DecoderConfig, DecoderConfig.gpt2])
def test_with_and_without_a_cache_alone_and_together(make):
    torch.manual_seed(1)
    model = Decoder(make(50, 32, 2, 4, context=40)).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    rows = texts(4)
    together = generate(model, rows, 16)
    assert together == generate(model, rows, 16, cache=False)
    assert together == [generate(model, [row], 16)[0] for row in rows]
    assert len({tuple(text) for text in together}) == 4, "all say the same: nothing was shown"
    seeded = [
        generate(model, rows, 16, sampling=Sampling(generator=torch.Generator().manual_seed(2)), cache=cache)
        for cache in (True, False)
    ]
    assert seeded[0] == seeded[1] != together


def test_a_step_reads_one_token_with_a_cache_and_all_without(small):
    _, ours = small
    read = []
    handle = ours.token.register_forward_hook(lambda module, args, out: read.append(tuple(args[0].shape)))
    try:
        generate(ours, texts(2), 4)
        assert read == [(2, 5), (2, 1), (2, 1), (2, 1)]
        read.clear()
        generate(ours, texts(2), 3, cache=False)
        assert read == [(2, 5), (2, 6), (2, 7)]
    finally:
        handle.remove()


def test_a_text_stops_and_the_others_go_on(small):
    _, ours = small
    rows = texts(3)
    whole = generate(ours, rows, 10)
    stop = whole[1][2]
    steps = list(stream(ours, rows, 10, stop=[stop]))
    cut = [text[: text.index(stop) + 1] if stop in text else text for text in whole]
    assert generate(ours, rows, 10, stop=[stop]) == cut
    assert len({len(text) for text in cut}) > 1
    assert [step[1] for step in steps[:4]] == [*cut[1][:4], None, None, None, None][:4]
    assert len(steps) == max(len(text) for text in cut)
    alone = list(stream(ours, rows[1:2], 10, stop=[stop]))
    assert alone == [[token] for token in cut[1]], "the end comes when all have stopped"


def test_tokens_come_as_they_are_made(small):
    _, ours = small
    passes = []
    handle = ours.norm.register_forward_hook(lambda *_: passes.append(1))
    try:
        steps = stream(ours, texts(1), 8)
        assert not passes
        first = next(steps)
        assert len(passes) == 1
        assert first[0] == generate(ours, texts(1), 1)[0][0]
    finally:
        handle.remove()
    assert torch.is_grad_enabled(), "between two steps gradients are on again"


def test_padding_stands_in_front():
    ids, mask = left_pad([[5, 6], [7, 8, 9]], pad=3)
    assert ids.tolist() == [[3, 5, 6], [7, 8, 9]]
    assert left_pad([[5], [7, 8]])[0].tolist() == [[0, 5], [7, 8]]
    assert mask.tolist() == [[False, True, True], [True, True, True]]


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(20_000, -1)
    drawn = Sampling(0.5, generator=torch.Generator().manual_seed(0)).draw(logits)
    share = drawn.bincount(minlength=4) / len(drawn)
    expected = (torch.tensor([0.0, 1.0, 2.0, -1.0]) / 0.5).softmax(-1)
    error = (expected * (1 - expected) / len(drawn)).sqrt()
    assert ((share - expected).abs() < 4 * error).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: generate(m, [], 3), "a prompt is empty, or there is none"),
        (lambda m: generate(m, [[1], []], 3), "a prompt is empty"),
        (lambda m: generate(m, [[1]], -1), "new_tokens=-1"),
        (lambda m: generate(m, [[1] * 5], 13), "need 17 positions, the model has 16"),
        (lambda m: generate(m.train(), [[1]], 1), r"call model\.eval\(\)"),
    ],
)
def test_bad_input_gets_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call(Decoder(DecoderConfig(50, 32, 1, 4, context=16)).eval())


def test_the_last_position_can_be_filled():
    model = Decoder(DecoderConfig.gpt2(50, 32, 1, 4, context=16)).eval()
    assert len(generate(model, [[1] * 5], 12)[0]) == 12
    assert generate(model, [[1]], 0) == [[]]
