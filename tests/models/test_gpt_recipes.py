"""The small GPTs and the two ladders: no leak between the parts, and records that their recipes make."""

from dataclasses import fields

import pytest
import torch

from llmlab.estimate import Architecture, total_parameters
from llmlab.models.decoder import Decoder
from llmlab.models.reading import text_losses
from llmlab.recipes import gpt_ladder, small_gpt
from llmlab.tasks.classify.checkpoints import read_record
from llmlab.text.contamination import NgramIndex

torch.set_num_threads(1)


def test_no_poem_stands_in_two_parts_and_none_is_lost():
    documents = small_gpt.tang().documents
    assert [len(documents[part]) for part in ("train", "valid", "test")] == [251, 31, 31]
    assert len({poem for part in documents.values() for poem in part}) == 313
    index = NgramIndex(documents["train"], n=5, unit="characters")
    shares = [index.overlap(poem).share for part in ("valid", "test") for poem in documents[part]]
    assert max(share for share in shares if share is not None) < 0.2


def test_poems_are_read_back_and_rare_characters_are_one_token():
    text = small_gpt.tang()
    for part, ids in text.ids.items():
        whole = small_gpt.BETWEEN + small_gpt.BETWEEN.join(text.documents[part]) + small_gpt.BETWEEN
        assert text.decode(ids.tolist()) == whole
        assert int(ids.max()) < text.vocabulary
    assert text.encode("龘")[0] == 0 and text.decode([0]) == small_gpt.RARE
    counts = torch.bincount(text.ids["train"], minlength=text.vocabulary)
    assert counts[1:].min() >= 2, "a token that the training poems have once is not learnt from them"


def test_books_are_apart_and_the_tokenizer_saw_four():
    text = small_gpt.austen()
    novels = {part: "".join(documents) for part, documents in text.documents.items()}
    assert "Anne Elliot" in novels["test"] and "Anne Elliot" not in novels["train"] + novels["valid"]
    assert "Tilney" in novels["valid"] and "Tilney" not in novels["train"] + novels["test"]
    assert text.vocabulary == small_gpt.AUSTEN_TOKENS
    assert text.decode(text.ids["test"].tolist()).strip() == novels["test"].strip()


@pytest.mark.parametrize(("name", "which"), [("austen_gpt", ""), ("tang_gpt", "early"), ("tang_gpt", "late")])
def test_shipped_weights_give_the_recorded_score(name, which):
    record, model = read_record(name), small_gpt.load(name, which)
    text = small_gpt.austen() if name == "austen_gpt" else small_gpt.tang()
    if which:
        point = min(record["curve"], key=lambda p: p["valid"]) if which == "early" else record["curve"][-1]
        assert small_gpt.bits_per_character(model, text, "test", small_gpt.TANG.length) == pytest.approx(
            point["test"], abs=0.02
        )
    else:
        losses = text_losses(model, text.ids["test"][:2001], context=small_gpt.AUSTEN.length)
        assert 3.5 < losses.mean().item() < 4.3  # nats a token; a blind guess costs 7.6


def test_the_beginning_of_a_training_gives_the_record():
    _, history = small_gpt.train(small_gpt.tang(), small_gpt.TANG, max_steps=3)
    assert history.losses == pytest.approx(read_record("tang_gpt")["first_losses"][:3], abs=1e-3)


def test_each_rung_makes_the_change_that_it_names_and_no_other():
    rungs = list(gpt_ladder.steps_to_llama(64).values())
    assert len(rungs) == len(gpt_ladder.CHANGES) + 1
    for before, after, change in zip(rungs, rungs[1:], gpt_ladder.CHANGES.values()):
        differ = {
            f.name: getattr(after, f.name) for f in fields(after) if getattr(before, f.name) != getattr(after, f.name)
        }
        assert differ == change
    first, last = rungs[0], rungs[-1]
    assert (first.positions, first.norm, first.activation, first.bias) == ("learned", "layer", "gelu_tanh", True)
    assert (last.positions, last.norm, last.activation, last.bias) == ("rotary", "rms", "swiglu", False)


def test_parameters_of_both_ends_are_those_of_the_estimate():
    rungs = gpt_ladder.steps_to_llama(64)
    gpt = Architecture(
        d=96, layers=2, heads=6, ff=384, vocab=64, positions=128, gated=False, bias=True, norm_bias=True, tied=True
    )
    llama = Architecture(d=96, layers=2, heads=6, kv_heads=2, ff=256, vocab=64, tied=True)
    for config, architecture in ((rungs["GPT-2"], gpt), (rungs["2 key heads for 6"], llama)):
        assert sum(p.numel() for p in Decoder(config).parameters()) == total_parameters(architecture)
    assert gpt_ladder.cache_bytes_a_token(rungs["GPT-2"]) == 3 * gpt_ladder.cache_bytes_a_token(
        rungs["2 key heads for 6"]
    )


def test_runs_of_one_seed_read_the_same_windows():
    _, ids, _, _ = gpt_ladder.characters()
    size = gpt_ladder.SIZES[0].config(96)
    run = gpt_ladder.Run(length=8, batch_size=4, steps=3)
    first = [gpt_ladder.train(size, ids, run, seed)[1] for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]
    assert gpt_ladder.train(size, ids, run, 0, max_steps=2)[1] == first[0][:2]


def test_each_size_has_the_best_of_the_rates_that_were_tried():
    tried = read_record("gpt_rates")["tried"]
    for size, rung in zip(gpt_ladder.SIZES, read_record("gpt_sizes")["rungs"]):
        own = {t["lr"]: sum(t["valid"]) for t in tried if t["d"] == size.d}
        assert tuple(own) == gpt_ladder.RATES[size.d]
        best = min(own, key=lambda lr: own[lr])
        assert best == size.lr == rung["lr"]
        assert min(own) < best < max(own), "the best rate stands at the edge of those tried"
