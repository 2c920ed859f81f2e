"""What the recipes of notebook 10 read: documents with ten facts, contexts cut in four ways, and their records."""

import contextlib

import pytest
import torch

from llmlab import assets
from llmlab.assets import Sense
from llmlab.recipes import needles, recall, senses
from llmlab.tasks.classify.checkpoints import read_record


def real(name: str) -> None:
    with contextlib.suppress(assets.AssetMissing):
        assets.path(name)
        return
    pytest.skip(f"{name} is not in the cache; fetch it with: python3 course.py assets fetch {name}")


class Words:
    """A tokenizer that counts words."""

    def __call__(self, text, **options):
        return type("Batch", (), {"input_ids": text.split()})()


def test_each_name_stands_at_each_depth_once_in_ten_turns():
    text = "Some words of no great weight stand here. " * 400
    documents = [needles.document(Words(), text, 600, turn) for turn in range(10)]
    for depth in range(needles.DEPTHS):
        assert sorted(doc.order[depth] for doc in documents) == list(range(10))
    for doc in documents:
        assert sorted(doc.numbers) == list(range(10))
        places = [doc.text.index(needles.fact(name, doc.numbers[name])) for name in doc.order]
        assert places == sorted(places), "the facts stand in their order"
        shares = [place / len(doc.text) for place in places]
        assert all(abs(share - (d + 0.5) / 10) < 0.05 for d, share in enumerate(shares))
        assert 570 <= len(doc.text.split()) <= 600
        assert doc.at_depth == tuple(doc.numbers[needles.NAMES.index(name)] for name in doc.names)


def test_no_name_stands_in_the_novels_and_every_hay_is_another():
    novels = assets.load_novels()
    assert not any(name in novel for name in needles.NAMES for novel in novels.values())
    assert len({needles.hay(novels, place)[:500] for place in range(72)}) == 72


def test_retrieval_takes_the_nearest_in_the_order_of_the_text():
    vectors = {"q": [1.0, 0.0], "a": [0.9, 0.1], "b": [0.0, 1.0], "c": [1.0, 0.0]}
    encode = lambda texts: torch.tensor([vectors[t] for t in texts])  # noqa: E731
    assert needles.nearest_chunks(encode, ["a", "b", "c"], "q", 2) == [0, 2]
    assert needles.nearest_chunks(encode, ["b"], "q", 2) == [0]


def test_the_cache_answers_as_the_whole_prompt_does():
    real("smollm2")
    torch.set_num_threads(1)
    model, tokenizer = assets.load_smollm2()
    reader = needles.Reader(model, tokenizer)
    ids = reader.ids(f"It rained. {needles.fact(0, 7)} It rained. {needles.fact(3, 2)}")
    got = reader.ask(ids, ["Griffin", "Sullivan"])
    assert got.argmax(-1).tolist() == [7, 2]
    whole = model(torch.tensor([ids + reader.ids(needles.question("Sullivan"))])).logits[0, -1].log_softmax(-1)
    assert got[1].allclose(whole[reader.digits], atol=1e-4)


def test_contexts_hold_the_word_where_they_say():
    entry = Sense("bank", "river", "on the bank of it", 7)
    for context in senses.CONTEXTS:
        text, (start, end) = senses.in_context(entry, context)
        assert text[start:end] == "bank"
    assert senses.in_context(entry, "before")[0] == "on the bank"
    assert senses.in_context(entry, "after")[0] == "bank of it"
    assert senses.in_context(entry, "twice") == ("on the bank of it. on the bank of it", (26, 30))
    with pytest.raises(ValueError, match="'around': expected one of whole, before, after, twice"):
        senses.in_context(entry, "around")


def test_scores_are_summed_word_by_word():
    entries = [Sense(word, sense, "", 0) for word in ("x", "y") for sense in ("one", "two") for _ in range(3)]
    states = torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(0))
    states[0, 3:6] += 50
    states[0, 6:] = 1.0
    assert senses.by_word(states, entries) == [[6.0, 3.0]]


def test_training_repeats_and_an_untrained_model_guesses():
    recipe = recall.Recipe(steps=5)
    one, other = (recall.train("LSTM", 4, 0, recipe)[1] for _ in range(2))
    assert one == other and len(one) == 5
    model, _ = recall.train("RNN", 4, 0, recall.Recipe(steps=1))
    assert abs(recall.accuracy(model, 4) - 1 / 8) < 0.1


@pytest.mark.parametrize("name", ["senses", "needles", "long_text", "context_loss", "recall"])
def test_records_are_whole(name):
    record = read_record(name)
    if name == "needles":
        lengths = [run["length"] for run in record["runs"]]
        assert {n: lengths.count(n) for n in needles.LENGTHS} == needles.LENGTHS
        assert all(len(run["given"]) == 10 and set(run["given"]) <= set(range(10)) for run in record["runs"])
    if name == "long_text":
        assert len({run["turn"] for run in record["runs"]}) == needles.LONG_DOCUMENTS
        assert len(record["runs"]) == 7 * needles.LONG_DOCUMENTS
    if name == "senses":
        points = {"minilm": 7, "smollm2": 31}
        for model, curves in record["right_by_point_and_word"].items():
            assert all(len(curves[c]) == points[model] and len(curves[c][0]) == 8 for c in senses.CONTEXTS)
    if name == "recall":
        seeds = recall.Recipe().seeds
        assert len(record["runs"]) == 4 * (len(recall.DISTANCES) * len(seeds) + 1)  # the mixed ones have one seed
    if name == "context_loss":
        assert all(len(one) == 511 for one in record["loss_by_tokens_before"])
