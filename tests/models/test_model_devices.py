"""The models on another device: torch's "meta", which computes shapes alone and refuses to mix with the CPU."""

import pytest
import torch

from llmlab.attention.cache import ContiguousCache
from llmlab.models.decoder import Decoder, DecoderConfig, Rotary
from llmlab.models.encoder import Encoder, EncoderConfig
from llmlab.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from llmlab.nn.rotary import rope_frequencies

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def ids():
    return torch.empty(2, 5, dtype=torch.long, device="meta")


def real():
    return torch.empty(2, 5, dtype=torch.bool, device="meta")


@DTYPES
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("make", [DecoderConfig, DecoderConfig.gpt2])
def test_a_decoder(make, cached, masked, dtype):
    seen = []
    model = Decoder(make(9, 8, 2, 2)).to("meta", dtype)
    for block in model.blocks:
        block.attend.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs["positions"].device.type), with_kwargs=True
        )
    with torch.no_grad():
        found = model(ids(), real() if masked else None, [ContiguousCache(), ContiguousCache()] if cached else None)
    assert (found.device.type, found.dtype, found.shape) == ("meta", dtype, (2, 5, 9))
    assert seen == ["meta", "meta"]


def test_rotary_tables_stand_where_the_frequencies_do():
    assert Rotary(rope_frequencies(4).to("meta"), 8).cos.device.type == "meta"


@DTYPES
@pytest.mark.parametrize("masked", [False, True])
def test_an_encoder(masked, dtype):
    model = Encoder(EncoderConfig(9, 8, 2, 2, masked_words=True, pooler=True)).to("meta", dtype)
    states = model(ids(), real() if masked else None)
    for found in (states, model.word_logits(states), model.pooler(states)):
        assert (found.device.type, found.dtype) == ("meta", dtype)


@DTYPES
@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_an_encoder_decoder(masked, pre_norm, dtype):
    model = EncoderDecoder(EncoderDecoderConfig(9, 8, 2, 2, pre_norm=pre_norm)).to("meta", dtype)
    found = model(ids(), ids(), real() if masked else None)
    assert (found.device.type, found.dtype, found.shape) == ("meta", dtype, (2, 5, 9))
