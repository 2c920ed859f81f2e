"""The decoding kernels in triton's interpreter and under the sanitizer; run by ``test_triton_decode.py`` in a process of
its own, since ``TRITON_INTERPRET=1`` has to be set before triton is imported."""

from __future__ import annotations

import decode_cases
import pytest
import torch

from llmlab.attention.cache import ContiguousCache
from llmlab.attention.split import merge, split_attention
from llmlab.attention.triton import decode

torch.set_num_threads(1)
assert decode.INTERPRETED, "run with TRITON_INTERPRET=1"


def draw(*, queries=1, keys=50, heads=4, kv_heads=2, batch=2, d=16):
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, heads, queries, d, generator=g),
        *(torch.randn(batch, kv_heads, keys, d, generator=g) for _ in range(2)),
        torch.full((batch,), keys, dtype=torch.int32),
    )


@pytest.mark.parametrize("case", decode_cases.CASES, ids=lambda case: case.__name__)
def test_against_float64(case, seen):
    case()
    assert seen.launches["decode_kernel"] == seen.launches["merge_kernel"] >= 1


@pytest.mark.parametrize("d, d_value", [(16, 16), (32, 32), (64, 64), (96, 96), (128, 128), (8, 1), (100, 16)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_head_sizes(d, d_value, dtype):
    decode_cases.check(lengths=(37, 70), d=d, d_value=d_value, dtype=dtype, splits=2)


@pytest.mark.parametrize("splits", [1, 2, 3, 7, 50, 1000])
def test_any_number_of_parts(splits):
    """The torch version beside it, and the kernel, for more parts than keys too."""
    q, k, v, lengths = draw(queries=2)
    output, lse = decode.decode_attention(q, k, v, lengths, splits=splits)
    torch.testing.assert_close((output, lse), split_attention(q, k, v, min(splits, 50)), rtol=1e-5, atol=1e-5)


def test_merge_kernel_is_merge():
    """The last part is without keys, the last row in every part."""
    g = torch.Generator().manual_seed(0)
    outputs, lses = torch.randn(2, 3, 4, 5, 24, generator=g), torch.randn(2, 3, 4, 5, generator=g) * 300
    lses[..., 4], lses[1, 2, 3] = -torch.inf, -torch.inf
    output, lse = torch.empty(2, 4, 3, 24).transpose(1, 2), torch.empty(2, 3, 4)
    decode.merge_kernel[4, 3, 2](outputs, lses, output, lse, output.stride(), 5, D_VALUE=24, TILE_DV=32, TILE_S=8)
    torch.testing.assert_close((output, lse), merge(outputs.movedim(-2, 0), lses.movedim(-1, 0)))


def test_a_group_of_heads_reads_its_keys_once(seen):
    loads = []
    for heads in (2, 6):
        before = seen.loads["decode_kernel"]
        decode.decode_attention(*draw(heads=heads), splits=2)
        loads.append(seen.loads["decode_kernel"] - before)
    assert loads[0] == loads[1], f"{loads} loads for 2 and 6 query heads over 2 key heads"


def test_torch_library_accepts_the_operator():
    q, k, v, lengths = draw()
    torch.library.opcheck(decode.decode_op, (q, k, v, lengths, None, 0.3, 50, 16))
    table = torch.tensor([[0], [1]], dtype=torch.int32)
    torch.library.opcheck(decode.decode_op, (q, k, v, lengths, table, 0.3, 50, 64))
    compiled = torch.compile(
        lambda *x: decode.decode_op(*x, None, 0.3, 50, 16)[0] * 2, backend="aot_eager", fullgraph=True
    )
    torch.testing.assert_close(compiled(q, k, v, lengths), decode.decode_op(q, k, v, lengths, None, 0.3, 50, 16)[0] * 2)


def test_nothing_to_do():
    q, k, v, lengths = draw(batch=0)
    assert decode.decode_attention(q, k, v, lengths)[0].shape == (0, 4, 1, 16)
    q, k, v, lengths = draw(keys=0)
    output, lse = decode.decode_attention(q, k, v, lengths)
    assert (output == 0).all() and (lse == -torch.inf).all()


def test_it_says_what_is_wrong():
    q, k, v, lengths = draw()
    for change, message in (
        ({"q": q.double(), "k": k.double(), "v": v.double()}, "float64"),
        ({"q": q.bfloat16(), "k": k.bfloat16(), "v": v.bfloat16()}, "interpreter computes bfloat16 wrongly"),
        ({"k": k.half()}, "k has shape .*float16.*: expected 4 dim"),
        ({"q": draw(queries=17)[0]}, "32 rows, and a group of heads has 34"),
        ({"q": draw(d=200)[0], "k": draw(d=200)[1]}, "at most 128"),
        ({"q": q[:1]}, "batch sizes differ; a pool of blocks needs its table"),
        ({"v": v[:, :, :4]}, "one value per key"),
        ({"lengths": lengths + 1}, "lengths=.51, 51.: k has room for 50 keys"),
        ({"lengths": lengths.float()}, "lengths has shape .* expected int32"),
        ({"table": torch.zeros(3, 1, dtype=torch.int32)}, "table has shape"),
        ({"q": q.clone().requires_grad_()}, "no backward"),
    ):
        with pytest.raises(ValueError, match=message):
            decode.decode_attention(**{"q": q, "k": k, "v": v, "lengths": lengths} | change)


def test_a_prompt_goes_through_the_forward_kernel(seen):
    """More rows than the decoding kernel holds; ``attend`` takes the other one, and both say the same."""
    q, k, v, _ = draw(queries=50)
    cache = ContiguousCache()
    cache.append(k, v)
    output = cache.attend(q, backend="triton")
    assert seen.launches["forward_kernel"] == 1 and seen.launches["decode_kernel"] == 0
    torch.testing.assert_close(cache.attend(q[:, :, -1:], backend="triton"), output[:, :, -1:])
    assert seen.launches["decode_kernel"] == 1
