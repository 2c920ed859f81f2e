"""The encoder block against torch's own with copied weights, and what padding may do: nothing."""

import pytest
import torch
from torch import nn

from llmlab.nn import EncoderBlock, MultiHeadSelfAttention, masked_mean


def strangers(d=16, heads=4, hidden=24):
    """Our block and torch's layer with the same weights."""
    torch.manual_seed(0)
    ours = EncoderBlock(d, heads, hidden).eval()
    theirs = nn.TransformerEncoderLayer(d, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = (
        ours.attend.qkv.weight,
        ours.attend.qkv.bias,
    )
    theirs.self_attn.out_proj.load_state_dict(ours.attend.out.state_dict())
    theirs.linear1.load_state_dict(ours.up.state_dict())
    theirs.linear2.load_state_dict(ours.down.state_dict())
    theirs.norm1.load_state_dict(ours.norm1.state_dict())
    theirs.norm2.load_state_dict(ours.norm2.state_dict())
    return ours, theirs


def test_block_equals_torchs_layer_with_the_same_weights():
    ours, theirs = strangers()
    x = torch.randn(3, 7, 16)
    mask = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    expected = theirs(x, src_key_padding_mask=~mask)
    found = ours(x, mask)
    assert torch.allclose(found[mask], expected[mask], atol=1e-5)


def test_gradients_equal_torchs():
    ours, theirs = strangers()
    x = torch.randn(2, 5, 16)
    for block in (ours, theirs):
        block.zero_grad()
    ours(x, torch.ones(2, 5, dtype=torch.bool)).square().sum().backward()
    theirs(x).square().sum().backward()
    assert torch.allclose(ours.attend.qkv.weight.grad, theirs.self_attn.in_proj_weight.grad, rtol=1e-3, atol=1e-4)


def test_dropout_falls_on_the_weights_and_on_both_parts_and_only_while_training():
    torch.manual_seed(0)
    x, mask = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    attend = MultiHeadSelfAttention(16, 4, dropout=0.5)
    assert not torch.equal(attend(x, mask), attend(x, mask))
    attend.eval()
    assert torch.equal(attend(x, mask), attend(x, mask))
    assert torch.equal(EncoderBlock(16, 4, 24, dropout=1.0)(x, mask), x), "neither part adds anything"
    whole = EncoderBlock(16, 4, 24)
    assert torch.equal(whole(x, mask), whole.eval()(x, mask)), "none unless asked for"


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of heads"):
        MultiHeadSelfAttention(10, 4)


def test_masked_mean_is_the_mean_of_the_real_rows():
    x = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, True], [False, True, False, False]])
    found = masked_mean(x, mask)
    assert torch.allclose(found[0], x[0][mask[0]].mean(0))
    assert torch.allclose(found[1], x[1, 1])


def test_masked_mean_ignores_whatever_stands_in_the_padding():
    x = torch.randn(1, 3, 2)
    x[0, 2] = float("nan")
    mask = torch.tensor([[True, True, False]])
    assert torch.equal(masked_mean(x, mask), x[:, :2].mean(1))
    assert torch.equal(masked_mean(x, torch.zeros(1, 3, dtype=torch.bool)), torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("mask", "says"),
    [(torch.ones(1, 3), "torch.bool"), (torch.ones(1, 2, dtype=torch.bool), "expected \\(1, 3\\)")],
)
def test_masked_mean_refuses_other_masks(mask, says):
    with pytest.raises(ValueError, match=says):
        masked_mean(torch.zeros(1, 3, 2), mask)
