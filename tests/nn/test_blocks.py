"""The blocks against torch's layer and whole blocks of GPT-2, Llama and OLMo 2, with copied weights; and their Jacobians."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, LlamaConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from llmlab.nn import EncoderBlock
from llmlab.nn.blocks import (
    PlainBlock,
    PostNormBlock,
    PreNormBlock,
    ReluAfterSumBlock,
    ReZeroBlock,
    deepnorm_constants,
)
from llmlab.nn.feedforward import FeedForward, SwiGLU

DTYPES = [torch.float32, torch.bfloat16]
D, HEADS, HIDDEN = 16, 4, 24


class Called(nn.Module):
    """Any attention as a module of one tensor."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x, **options):
        return self.call(self.module, x, **options)


def torch_attention(layer):
    return Called(layer.self_attn, lambda m, x, **options: m(x, x, x, need_weights=False, **options)[0])


def agree(ours, theirs, dtype, parameters=(), d=D):
    x = torch.randn(2, 6, d, generator=torch.Generator().manual_seed(1)).to(dtype)
    weight = torch.randn(2, 6, d, generator=torch.Generator().manual_seed(2))
    mine, other = (x.clone().requires_grad_() for _ in range(2))
    a, b = ours(mine), theirs(other)
    close = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.bfloat16: {"rtol": 0.05, "atol": 0.05}}[dtype]
    torch.testing.assert_close(a, b, **close)
    shared = [p for p in parameters if p.requires_grad]
    first = torch.autograd.grad((a.float() * weight).sum(), [mine, *shared])
    second = torch.autograd.grad((b.float() * weight).sum(), [other, *shared])
    for g, h in zip(first, second):
        torch.testing.assert_close(g, h, **close)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("first", [True, False], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_both_orders_are_torchs(first, activation, dtype):
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(D, HEADS, HIDDEN, 0.0, activation, batch_first=True, norm_first=first).to(dtype)
    for norm in (theirs.norm1, theirs.norm2):  # two norms that differ, so that they cannot be confused
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    feedforward = FeedForward(D, HIDDEN, activation).to(dtype)
    feedforward.up, feedforward.down = theirs.linear1, theirs.linear2
    kind = PreNormBlock if first else PostNormBlock
    agree(kind(torch_attention(theirs), feedforward, theirs.norm1, theirs.norm2), theirs, dtype, theirs.parameters())


@pytest.mark.parametrize("dtype", DTYPES)
def test_pre_norm_is_gpt2s_block(dtype):
    torch.manual_seed(0)
    config = GPT2Config(n_embd=D, n_head=HEADS, attn_pdrop=0.0, resid_pdrop=0.0, attn_implementation="eager")
    theirs = GPT2Block(config, layer_idx=0).to(dtype)
    feedforward = FeedForward(D, 4 * D, "gelu_tanh").to(dtype)
    for ours, other in ((feedforward.up, theirs.mlp.c_fc), (feedforward.down, theirs.mlp.c_proj)):
        ours.weight.data, ours.bias.data = other.weight.data.T, other.bias.data
    attend = Called(theirs.attn, lambda m, x: m(x)[0])
    block = PreNormBlock(attend, feedforward, theirs.ln_1, theirs.ln_2)
    call = lambda x: out[0] if isinstance(out := theirs(x), tuple) else out  # noqa: E731
    agree(block, call, dtype, [*theirs.ln_1.parameters(), *theirs.ln_2.parameters(), *theirs.attn.parameters()])


@pytest.mark.parametrize("dtype", DTYPES)
def test_pre_norm_is_llamas_block(dtype):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=D,
        intermediate_size=HIDDEN,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    theirs = LlamaDecoderLayer(config, layer_idx=0).to(dtype)
    nn.init.normal_(theirs.input_layernorm.weight)
    nn.init.normal_(theirs.post_attention_layernorm.weight)
    turn = LlamaRotaryEmbedding(config)(torch.zeros(1, 1, 1, dtype=dtype), torch.arange(6)[None])
    options = {"position_embeddings": turn, "attention_mask": torch.full((6, 6), -1e4).triu(1).to(dtype)[None, None]}
    feedforward = SwiGLU(D, HIDDEN)
    feedforward.gate, feedforward.up, feedforward.down = theirs.mlp.gate_proj, theirs.mlp.up_proj, theirs.mlp.down_proj
    attend = Called(theirs.self_attn, lambda m, x, **o: m(x, **o)[0])
    block = PreNormBlock(attend, feedforward, theirs.input_layernorm, theirs.post_attention_layernorm)
    agree(lambda x: block(x, **options), lambda x: theirs(x, **options), dtype, theirs.parameters())


def test_pre_norm_is_the_encoder_block_of_the_shipped_checkpoints():
    torch.manual_seed(0)
    theirs = EncoderBlock(D, HEADS, HIDDEN).eval()
    feedforward = FeedForward(D, HIDDEN)
    feedforward.up, feedforward.down = theirs.up, theirs.down
    ours = PreNormBlock(theirs.attend, feedforward, theirs.norm1, theirs.norm2)
    mask = torch.tensor([[True] * 6, [True, True, True, False, False, False]])
    agree(lambda x: ours(x, mask), lambda x: theirs(x, mask), torch.float32, theirs.parameters())


def parts(scale=1.0):
    """Two linear maps as attention and feed-forward: Jacobians that can be written down."""
    torch.manual_seed(0)
    attend, feedforward = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    for m in (attend, feedforward):
        m.weight.data.mul_(scale)
    return attend, feedforward, nn.Identity(), nn.Identity()


def jacobian(block):
    x = torch.randn(1, 1, 3, generator=torch.Generator().manual_seed(3))
    return torch.autograd.functional.jacobian(block, x).reshape(3, 3)


def test_jacobians_are_products_with_and_without_the_identity():
    a, f, *_ = parts()
    one = torch.eye(3)
    torch.testing.assert_close(jacobian(PreNormBlock(*parts())), (one + f.weight) @ (one + a.weight))
    torch.testing.assert_close(jacobian(PlainBlock(*parts())), f.weight @ a.weight)
    torch.testing.assert_close(
        jacobian(PostNormBlock(*parts(), alpha=2.0)), (2 * one + f.weight) @ (2 * one + a.weight)
    )
    torch.testing.assert_close(jacobian(ReZeroBlock(*parts())), one)


def test_rezero_lets_the_parts_in_by_its_gain_and_learns_it():
    block = ReZeroBlock(*parts())
    x = torch.randn(2, 4, 3)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.gain.grad.abs() > 0
    block.gain.data.fill_(1.0)
    torch.testing.assert_close(block(x), PreNormBlock(*parts())(x))


def test_relu_after_the_sum_is_the_pre_norm_sum_cut_at_zero_twice():
    a, f, *_ = parts()
    x = torch.randn(2, 4, 3)
    half = torch.relu(x + a(x))
    torch.testing.assert_close(ReluAfterSumBlock(*parts())(x), torch.relu(half + f(half)))


def test_one_pre_norm_block_can_do_nothing_and_a_plain_one_cannot():
    x = torch.randn(2, 4, 3)
    assert torch.equal(PreNormBlock(*parts(0.0))(x), x)
    assert torch.equal(PlainBlock(*parts(0.0))(x), torch.zeros_like(x))


@pytest.mark.parametrize("kind", [PreNormBlock, PostNormBlock, PlainBlock, ReluAfterSumBlock, ReZeroBlock])
def test_dropout_falls_on_the_parts_and_only_while_training(kind):
    block = kind(*parts(), dropout=1.0)
    if kind is ReZeroBlock:
        block.gain.data.fill_(1.0)  # at 0 nothing would be let in anyway
    x = torch.randn(2, 4, 3)
    gone = {PlainBlock: torch.zeros_like(x), ReluAfterSumBlock: x.relu()}.get(kind, x)
    assert torch.equal(block(x), gone)
    free = kind(*parts())
    free.load_state_dict(block.state_dict())
    assert torch.equal(block.eval()(x), free(x))


def test_deepnorm_constants_are_the_papers():
    assert deepnorm_constants(1) == pytest.approx((2**0.25, 8**-0.25))
    alpha, beta = deepnorm_constants(200)
    assert (alpha, beta) == pytest.approx((4.4721, 0.15811), rel=1e-4)


def test_a_block_that_does_not_say_how_it_joins_is_refused():
    class Undecided(PreNormBlock.__base__):
        pass

    with pytest.raises(NotImplementedError):
        Undecided(*parts())(torch.zeros(1, 2, 3))


def test_bad_parts_are_refused():
    with pytest.raises(TypeError, match="norm2 is NoneType"):
        PreNormBlock(nn.Identity(), nn.Identity(), nn.Identity(), None)
    with pytest.raises(ValueError, match="alpha=0"):
        PostNormBlock(*parts(), alpha=0)
    with pytest.raises(ValueError, match="layers=0"):
        deepnorm_constants(0)
