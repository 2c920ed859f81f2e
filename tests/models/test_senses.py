"""Rows of a word, states against the models' own, and a score that is chance where it must be."""

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmlab.models.senses import sense_scores, word_rows, word_states


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = {c: i for i, c in enumerate(["<pad>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"])}
    inner = Tokenizer(
        models.WordPiece(
            known | {f"##{c}": 28 + i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}, unk_token="<unk>"
        )
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")


SMALL = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXTS, SPANS = ["a bank of c", "the long bank", "bank"], [(2, 6), (9, 13), (0, 4)]


def test_the_word_is_where_its_characters_are():
    offsets = [(0, 0), (0, 2), (3, 5), (5, 9), (9, 10), (0, 0)]
    assert word_rows(offsets, 3, 9) == [2, 3], "two tokens, special ones left out"
    assert word_rows(offsets, 0, 2) == [1] and word_rows(offsets, 9, 10) == [4]
    with pytest.raises(ValueError, match="characters 12 to 15; the text reaches 10"):
        word_rows(offsets, 12, 15)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_states_are_the_models_own_text_by_text(tokenizer, kind):
    torch.manual_seed(0)
    if kind == "encoder":
        model = BertModel(BertConfig(**SMALL)).eval()
    else:
        model = LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2)).eval()
    got = word_states(model, tokenizer, TEXTS, SPANS)
    assert got.shape == (4, 3, 16)
    for i, (text, (start, end)) in enumerate(zip(TEXTS, SPANS)):
        batch = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        rows = [k for k, (a, b) in enumerate(batch.pop("offset_mapping")[0].tolist()) if start <= a < end]
        assert len(rows) == 4, "one token a letter"
        with torch.no_grad():
            own = model(**batch, output_hidden_states=True).hidden_states
        for point in range(3 if kind == "decoder" else 4):  # a decoder norms the last one
            assert got[point, i].allclose(own[point][0, rows].mean(0), atol=1e-5)
    if kind == "decoder":
        assert word_states(model, tokenizer, TEXTS, SPANS, layers=1).equal(got[:2])


def test_equal_vectors_score_chance_and_separate_ones_all():
    senses = torch.tensor([0, 1] * 5)
    same = torch.randn(7, generator=torch.Generator().manual_seed(0)).expand(10, 7)
    assert sense_scores(same, senses).tolist() == [0.5] * 10
    assert sense_scores(same * (1 + 1e-7 * torch.arange(10)[:, None]), senses).mean() == 0.5
    apart = torch.randn(10, 7, generator=torch.Generator().manual_seed(1)) + 20 * senses[:, None] + 100
    assert sense_scores(apart, senses).tolist() == [1.0] * 10
    assert sense_scores(apart[:, :3], 1 - senses).tolist() == [1.0] * 10, "which sense is called 1 does not matter"


def test_noise_scores_no_better_than_chance():
    """Leaving one out biases a centred score downwards, never up."""
    generator = torch.Generator().manual_seed(2)
    senses = torch.arange(20) % 2
    mean = torch.stack(
        [sense_scores(torch.randn(20, 30, generator=generator), senses).mean() for _ in range(40)]
    ).mean()
    assert 0.3 < mean < 0.55


@pytest.mark.parametrize("senses", [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2]])
def test_senses_that_cannot_be_scored(senses):
    with pytest.raises(ValueError, match="expected zeros and ones"):
        sense_scores(torch.randn(4, 3), torch.tensor(senses))
