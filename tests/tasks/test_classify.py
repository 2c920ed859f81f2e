"""Classifiers: padding and batches change nothing, splits do not leak, bad input is answered with a sentence."""

import json
import math
import random

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from llmlab.nn import masked_mean
from llmlab.tasks.classify import (
    Characters,
    CharClassifier,
    CharConfig,
    CheckpointError,
    EncoderClassifier,
    Labelled,
    LinearClassifier,
    LookupClassifier,
    PromptClassifier,
    fingerprint,
    from_ratings,
    next_word_logprobs,
    pad,
    part_of,
    sentence_features,
    split,
    write_checkpoint,
)
from llmlab.tasks.classify.checkpoints import read_weights

TEXTS = [
    "房间很好",
    "房间不好，很差",
    "书不错",
    "太差了",
    "很好很好很好很好",
    "不错",
    "差",
    "位置好，价格不贵，早餐也不错。",
]
LABELS = [1, 0, 1, 0, 1, 1, 0, 1]


@pytest.fixture(scope="module")
def char():
    torch.manual_seed(0)
    model = CharClassifier(Characters.learn(TEXTS, at_least=1), CharConfig(d=16, heads=2, layers=2, hidden=16))
    return model.eval()


# --- data


def test_copies_that_differ_in_width_case_or_punctuation_stay_on_one_side():
    for a, b in [("Ｔｈｉｎｋ很好！", "think很好"), ("1. 做工差", "1。做工差；"), (" a b ", "A,b")]:
        assert fingerprint(a) == fingerprint(b)
        assert part_of(a) == part_of(b)


def test_split_is_complete_disjoint_and_blind_to_order():
    texts = [f"text {i}" for i in range(2000)]
    labels = [i % 2 for i in range(2000)]
    parts = split(texts, labels)
    assert sum(map(len, parts.values())) == 2000
    assert 0.65 < len(parts["train"]) / 2000 < 0.75
    assert 0.17 < len(parts["test"]) / 2000 < 0.23
    order = list(range(2000))
    random.Random(0).shuffle(order)
    other = split([texts[i] for i in order], [labels[i] for i in order])
    for name, part in parts.items():
        assert set(zip(part.texts, part.labels)) == set(zip(other[name].texts, other[name].labels))


def test_labels_and_texts_must_match():
    with pytest.raises(ValueError, match="2 texts but 1 labels"):
        Labelled(["a", "b"], [1])


def test_ratings_become_labels_outside_the_margin():
    found = from_ratings(["a", "b", "c", "a", "d"], [2.0, 0.4, -0.6, -3.0, -0.5])
    assert (found.texts, found.labels) == (["a", "c"], [1, 0])


def test_sample_repeats_and_draws_without_replacement():
    part = Labelled([str(i) for i in range(50)], [0] * 50)
    assert part.sample(20).texts == part.sample(20).texts != part.sample(20, seed=1).texts
    assert len(set(part.sample(20).texts)) == 20
    assert sorted(part.sample(99).texts) == sorted(part.texts)


# --- linear


def test_the_baseline_is_scikit_learns_pipeline():
    ours = LinearClassifier().fit(TEXTS, LABELS)
    theirs = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=5, max_iter=300),
    ).fit(TEXTS, LABELS)
    assert ours.predict_proba(TEXTS) == pytest.approx(theirs.predict_proba(TEXTS), abs=1e-6)


def test_influence_adds_up_to_the_log_odds():
    model = LinearClassifier().fit(TEXTS, LABELS)
    for text in [*TEXTS, "从未见过"]:
        negative, positive = model.predict_proba([text])[0]
        total = sum(added for _, added in model.influence(text, count=999)) + model.head.intercept_[0]
        assert total == pytest.approx(math.log(positive / negative), abs=1e-6)


def test_words_of_ones_own_are_counted():
    model = LinearClassifier(lambda text: text.split(","), (1, 1)).fit(["a，b", "b，c", "a", "c"] * 2, [1, 0, 1, 0] * 2)
    assert set(model.features.get_feature_names_out()) == {"a", "b", "c"}


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        LinearClassifier().fit(["a", "b"], [1, 1])


def test_the_lookup_table_knows_what_it_saw_and_nothing_else():
    model = LookupClassifier().fit(["a", "a", "b"], [1, 0, 1])
    assert model.predict_proba(["a", "b", "c"])[:, 1] == pytest.approx([0.5, 1, 2 / 3])


# --- characters


def test_padding_never_changes_a_logit(char):
    row = char.characters.encode(["房间不好"])
    ids, mask = pad(row)
    with torch.inference_mode():
        alone = char(ids, mask)
        for extra in (1, 7, 60):
            assert torch.allclose(char(*pad(row, to=ids.shape[1] + extra)), alone, atol=1e-5)


def test_company_in_the_batch_never_changes_an_answer(char):
    together = char.predict_proba(TEXTS)
    assert together == pytest.approx(np.concatenate([char.predict_proba([t]) for t in TEXTS]), abs=1e-5)
    assert together == pytest.approx(char.predict_proba(TEXTS[::-1])[::-1], abs=1e-5)
    assert together == pytest.approx(char.predict_proba(TEXTS, batch_size=3), abs=1e-5)
    assert together.sum(1) == pytest.approx(np.ones(len(TEXTS)))


def test_order_of_the_characters_matters(char):
    a, b = char.predict_proba(["不好", "好不"])
    assert abs(a - b).max() > 1e-4


def test_strange_texts_get_an_answer(char):
    found = char.predict_proba(["", " ", "🤖🤖", "x" * 5000])
    assert np.isfinite(found).all()
    assert char.predict_proba([]).shape == (0, 2)


def test_a_row_longer_than_the_padding_is_refused():
    with pytest.raises(ValueError, match="choose 3 or more"):
        pad([[1, 2, 3]], to=2)


def test_rare_characters_are_not_learnt_and_frequent_come_first():
    known = Characters.learn(["aab", "abc"], at_least=2).known
    assert known == "ab"
    assert Characters("ab").encode(["bＡ?"]) == [[3, 2, 1]]


def test_hiding_happens_in_training_alone(char):
    rows = char.characters.encode(TEXTS)
    assert char.loss(rows, LABELS, hide=0.9).item() == pytest.approx(char.loss(rows, LABELS).item())


# --- checkpoints


def test_a_checkpoint_comes_back_and_a_flipped_byte_is_noticed(char, tmp_path):
    file = write_checkpoint(char.state_dict(), "small", {"model": char.describe()}, tmp_path)
    again = read_weights("small", tmp_path)
    assert again.keys() == char.state_dict().keys()
    assert all(torch.allclose(v, char.state_dict()[k], atol=1e-2) for k, v in again.items())
    described = json.loads((tmp_path / "small.json").read_text(encoding="utf-8"))
    assert described["parameters"] == sum(p.numel() for p in char.parameters())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="expected SHA-256"):
        read_weights("small", tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint 'other'"):
        read_weights("other", tmp_path)


# --- pre-trained models, here tiny and random


class Letters:
    """A tokenizer of letters with the interface of transformers."""

    def encode(self, text, add_special_tokens=False):
        return [ord(c) % 50 + 1 for c in text]

    def __call__(self, texts, padding, truncation, max_length, return_tensors):
        rows = [self.encode(t)[:max_length] for t in texts]
        ids, mask = pad(rows)
        return {"input_ids": ids, "attention_mask": mask.long()}


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return BertModel(BertConfig(vocab_size=60, **size)).eval()


def test_sentence_features_are_the_mean_over_each_text_alone(bert):
    texts = ["abc", "a", "hello world", "xy"]
    found = sentence_features(bert, Letters(), texts, batch_size=2)
    for text, vector in zip(texts, found):
        ids = torch.tensor([Letters().encode(text)])
        assert torch.allclose(vector, bert(ids).last_hidden_state[0].mean(0), atol=1e-5)


def test_the_head_alone_or_the_biases_learn(bert):
    head = EncoderClassifier(bert, Letters(), "head")
    assert {n for n, p in head.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    biases = EncoderClassifier(bert, Letters(), "biases")
    learning = {n for n, p in biases.named_parameters() if p.requires_grad}
    assert all(n.endswith("bias") or "LayerNorm" in n or n == "head.weight" for n in learning)
    assert not any("pooler" in n for n in learning)
    again = EncoderClassifier(bert, Letters(), "biases").load_trained(biases.trained_state())
    assert again.predict_proba(["abc", "b"]) == pytest.approx(biases.predict_proba(["abc", "b"]), abs=1e-6)
    with pytest.raises(ValueError, match="same train="):
        again.load_trained(head.trained_state())
    with pytest.raises(ValueError, match="expected 'head', 'biases' or 'all'"):
        EncoderClassifier(bert, Letters(), "everything")


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return LlamaForCausalLM(LlamaConfig(vocab_size=60, **size)).eval()


def test_next_word_is_read_at_each_prompts_own_end(llama):
    prompts = ["abc", "a", "hello world"]
    found = next_word_logprobs(llama, Letters(), prompts, ["x", "y"], batch_size=2)
    for prompt, row in zip(prompts, found):
        logits = llama(torch.tensor([Letters().encode(prompt)])).logits[0, -1].log_softmax(-1)
        assert torch.allclose(row, logits[[Letters().encode(w)[0] for w in "xy"]], atol=1e-5)


def test_calibration_centres_the_texts_it_was_given(llama):
    model = PromptClassifier(llama, Letters(), "Review: {} Sentiment:", ("n", "p"))
    texts = ["abc", "good", "bad film"]
    model.calibrate(texts)
    odds = model.log_odds(texts) - model.bias
    assert odds.mean() == pytest.approx(0, abs=1e-6)
    assert model.predict_proba(texts)[:, 1] == pytest.approx(1 / (1 + np.exp(-odds)))


def test_prompts_that_cannot_work_are_refused(llama):
    with pytest.raises(ValueError, match="no place for the text"):
        PromptClassifier(llama, Letters(), "Review:", ("n", "p"))
    with pytest.raises(ValueError, match="is 3 tokens"):
        next_word_logprobs(llama, Letters(), ["a"], ["bad"])
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        next_word_logprobs(llama, Letters(), ["a", ""], ["b"])


def test_masked_mean_is_what_the_encoder_uses(bert):
    ids, mask = pad([Letters().encode("abc"), Letters().encode("a")])
    states = bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    found = sentence_features(bert, Letters(), ["abc", "a"])
    assert torch.allclose(found, masked_mean(states, mask), atol=1e-5)
