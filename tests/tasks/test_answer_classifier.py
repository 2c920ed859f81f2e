"""The trainable answer word: equal to the untrained one of transformers, and trained by what may move alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmlab.models.load import decoder_from
from llmlab.tasks.classify import AnswerClassifier, PromptClassifier
from llmlab.train import fit
from llmlab.train.lora import add_lora, trained_parameters


class Letters:
    """A tokenizer of 32 letters; " no" and " yes" are one token each."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        words = {" no": [30], " yes": [31]}
        return words.get(text) or [ord(c) % 30 for c in text]


@pytest.fixture
def theirs() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


TEXTS = ["a fine film", "no", "three long hours of rain and nothing"]
ASK = "R: {}\nS:"


def ours(theirs: LlamaForCausalLM, **more: int) -> AnswerClassifier:
    model = decoder_from(theirs.config.to_dict(), theirs.state_dict())
    return AnswerClassifier(model, Letters(), ASK, (" no", " yes"), **more)


def test_untrained_it_is_the_prompt_of_transformers(theirs: LlamaForCausalLM) -> None:
    prompted = PromptClassifier(theirs, Letters(), ASK, (" no", " yes"))
    found = ours(theirs).predict_proba(TEXTS, batch_size=2)
    np.testing.assert_allclose(np.log(found[:, 1] / found[:, 0]), prompted.log_odds(TEXTS), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1)


def test_a_long_text_loses_its_end_and_the_question_stays(theirs: LlamaForCausalLM) -> None:
    short = ours(theirs, max_tokens=10)
    same_start = [TEXTS[2], TEXTS[2][:4] + "XYZ"]
    a, b = short.predict_proba(same_start)
    np.testing.assert_allclose(a, b)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(*ours(theirs).predict_proba(same_start))
    row = short.features([TEXTS[2]])
    alone = ours(theirs).features([TEXTS[2][: 10 - 3 - len("\nS:")]])
    torch.testing.assert_close(row, alone)


def test_adapters_learn_and_the_rest_stays(theirs: LlamaForCausalLM) -> None:
    model = ours(theirs)
    add_lora(model.model, ["attend.qkv"], rank=2)
    before = model.model.token.weight.detach().clone()
    texts, labels = TEXTS[:2] * 4, [1, 0] * 4
    start = model.loss(texts, labels).item()
    fit(model, lambda b: model.loss([texts[i] for i in b], [labels[i] for i in b]), [1] * 8, epochs=20, lr=0.05)
    assert model.loss(texts, labels).item() < 0.9 * start
    assert torch.equal(model.model.token.weight, before)
    trained, total = trained_parameters(model)
    assert trained == 2 * 2 * (16 + 32) and total > trained


def test_what_cannot_be_asked_is_refused(theirs: LlamaForCausalLM) -> None:
    model = ours(theirs).model
    with pytest.raises(ValueError, match="an end that asks"):
        AnswerClassifier(model, Letters(), "R: {}", (" no", " yes"))
    with pytest.raises(ValueError, match="where the text goes"):
        AnswerClassifier(model, Letters(), "R:", (" no", " yes"))
    with pytest.raises(ValueError, match="not one token"):
        AnswerClassifier(model, Letters(), ASK, (" no", " perhaps"))
