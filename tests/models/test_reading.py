"""The loss of every token of a long text: against one window a token, and against transformers' own loss."""

import pytest
import strangers
import torch
import torch.nn.functional as F

from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.models.reading import text_losses


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = Decoder(DecoderConfig(11, 16, 2, 2, context=64, dropout=0.5))
    for p in made.parameters():
        p.data *= 8  # predictions that differ
    return made.eval()


IDS = torch.randint(11, (50,), generator=torch.Generator().manual_seed(1))


def one(model, ids, start, at):
    """The loss of token ``at``, read from ``start``."""
    logits = model(ids[None, start:at])[0, -1]
    return F.cross_entropy(logits, ids[at]).item()


@pytest.mark.parametrize(("context", "stride"), [(8, 8), (8, 4), (8, 3), (8, 1), (49, 10), (60, None), (7, None)])
def test_every_token_once_with_the_text_before_it(model, context, stride):
    found = text_losses(model, IDS, context=context, stride=stride)
    assert len(found) == 49
    step = context // 2 if stride is None else stride
    for at in range(1, 50):
        window = 0 if at <= context else -(-(at - context) // step) * step  # the first window that reaches it
        start = min(window, max(0, 49 - context))  # the last one ends with the text
        assert found[at - 1].item() == pytest.approx(one(model, IDS, start, at), abs=1e-3), at


def test_equals_transformers_on_a_text_that_fits():
    theirs = strangers.DECODERS["GPT-2"]()
    ours, ids = strangers.ours(theirs), strangers.ids()[:1]
    mean = theirs(ids, labels=ids).loss.item()
    assert text_losses(ours, ids[0], context=64).mean().item() == pytest.approx(mean, rel=1e-5)


def test_dropout_is_off_and_the_mode_comes_back(model):
    still = text_losses(model, IDS, context=8)
    model.train()
    assert torch.equal(text_losses(model, IDS, context=8), still) and model.training
    model.eval()
    assert not text_losses(model, IDS.tolist(), context=8).requires_grad and not model.training


@pytest.mark.parametrize(
    ("ids", "context", "stride"), [(IDS[:1], 8, None), (IDS[None], 8, None), (IDS, 8, 9), (IDS, 8, 0), (IDS, 0, None)]
)
def test_bad_input_is_named(model, ids, context, stride):
    with pytest.raises(ValueError, match="expected"):
        text_losses(model, ids, context=context, stride=stride)
