"""The small model of the norm recipes: its block against torch's, before and after the sum; what its records hold."""

import math

import pytest
import torch
from torch import nn

from llmlab.recipes import norms as recipes
from llmlab.recipes.norms import Block, Design, Shaken, Small
from llmlab.tasks.classify.checkpoints import read_record

MASK = torch.arange(6) < torch.tensor([6, 4])[:, None]


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("causal", [True, False])
def test_block_equals_torchs_layer_with_the_same_weights(place, causal):
    torch.manual_seed(0)
    ours = Block(Design(place=place, d=16, heads=4), causal)
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=place == "pre")
    theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = ours.qkv.weight, ours.qkv.bias
    theirs.self_attn.out_proj.load_state_dict(ours.out.state_dict())
    for mine, yours in ((ours.up, theirs.linear1), (ours.down, theirs.linear2)):
        yours.load_state_dict(mine.state_dict())
    for mine, yours in ((ours.norm1, theirs.norm1), (ours.norm2, theirs.norm2)):
        mine.weight.data.normal_()
        mine.bias.data.normal_()
        yours.load_state_dict(mine.state_dict())
    x = torch.randn(2, 6, 16)
    if causal:
        right = theirs(x, src_mask=torch.triu(torch.full((6, 6), -math.inf), 1), is_causal=True)
        assert torch.allclose(ours(x, torch.ones_like(MASK)), right, atol=1e-5)
    else:
        right = theirs(x, src_key_padding_mask=~MASK)
        assert torch.allclose(ours(x, MASK)[MASK], right[MASK], atol=1e-5)


@pytest.mark.parametrize("norm", ["layer", "rms", "batch", "batch over padding", "tanh", "none", "shaken"])
def test_padding_reaches_a_trained_batch_norm_without_a_mask_and_nothing_else(norm):
    torch.manual_seed(0)
    model = Small(Design(norm=norm, layers=2, length=12), 9, 2, causal=False)
    ids = torch.randint(1, 9, (2, 6)).masked_fill(~MASK, 0)
    wide, more = torch.nn.functional.pad(ids, (0, 6)), torch.nn.functional.pad(MASK, (0, 6))
    torch.manual_seed(1)
    short = model(ids, MASK)
    torch.manual_seed(1)
    assert torch.allclose(model(wide, more), short, atol=1e-5) == (norm != "batch over padding")
    model.eval()
    assert torch.allclose(model(wide, more), model(ids, MASK), atol=1e-5)


def test_shaken_is_a_layer_norm_in_use_and_moves_every_step_in_training():
    torch.manual_seed(0)
    norm, x = Shaken(8), torch.randn(3, 8)
    assert not torch.allclose(norm(x), norm(x))
    assert torch.allclose(norm.eval()(x), nn.functional.layer_norm(x, (8,)), atol=1e-5)


def test_records_hold_every_run_of_their_grids():
    padding, place, swap = (read_record(f"norm_{name}")["runs"] for name in ("padding", "place", "swap"))
    assert (
        len({(r["norm"], r["batch_size"], r["seed"]) for r in padding}) == len(padding) == 3 * 2 * len(recipes.BATCHES)
    )
    assert len({(r["place"], r["lr"], r["seed"]) for r in place}) == len(place) == 4 * 2 * len(recipes.PLACE_LRS)
    assert len({(r["norm"], r["batch_size"], r["seed"]) for r in swap}) == len(swap) == 6 * 2 * 2
    assert all(abs(r["as_trained"]["loss"] - r["in_use"]["loss"]) < 1e-4 for r in padding if r["norm"] == "layer")
