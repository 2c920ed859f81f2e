"""The fast decoder against the readable one and against transformers; its three kinds of matrices against nn.Linear."""

import math

import pytest
import strangers
import torch
import torch.nn.functional as F

from llmlab.generate import Sampling, generate
from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.models.fast import FastCache, FastDecoder
from llmlab.models.load import smollm2
from llmlab.models.matrices import KINDS, Float16Matrix, Float32Matrix, Int8Matrix, Matrix
from llmlab.nn.onednn import product

torch.set_num_threads(1)
FAMILIES = pytest.mark.parametrize("family", ["Llama, GQA", "Llama, tied"])
WEIGHTS = pytest.mark.parametrize("weights", ["float32", "float16"])
CLOSE = {"float32": {"rtol": 1e-4, "atol": 1e-4}, "float16": {"rtol": 1e-4, "atol": 1e-4}}
PROMPTS = [[5, 9, 40, 3, 22], [17], [60, 2, 2, 31, 8, 4, 11]]


@pytest.fixture(scope="module")
def pairs():
    """(theirs, ours) with weights that float16 holds exactly; nobody changes them."""
    made = {}
    for family in ("Llama, GQA", "Llama, tied"):
        theirs = strangers.DECODERS[family]()
        with torch.no_grad():
            for p in theirs.parameters():
                p.copy_(p.half().float())
        made[family] = theirs, strangers.ours(theirs)
    return made


@FAMILIES
@WEIGHTS
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_equal_transformers_and_the_readable_decoder(pairs, family, weights, batch):
    theirs, ours = pairs[family]
    fast, ids = FastDecoder.from_decoder(ours, weights), strangers.ids(batch)
    with torch.no_grad():
        expected = theirs(ids, use_cache=False).logits
        torch.testing.assert_close(fast(ids), expected, **CLOSE[weights])
        torch.testing.assert_close(fast(ids), ours(ids), **CLOSE[weights])
        torch.testing.assert_close(fast(ids, last=2), ours(ids, last=2), **CLOSE[weights])
        torch.testing.assert_close(fast(ids, last=14), ours(ids), **CLOSE[weights])
        torch.testing.assert_close(fast(ids[:, :1]), ours(ids[:, :1]), **CLOSE[weights])
    assert fast(ids).dtype == torch.float32 and not fast(ids).requires_grad


@FAMILIES
@WEIGHTS
@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("capacity", [0, 4, 11])
def test_a_cache_filled_in_pieces_gives_the_whole(pairs, family, weights, side, capacity):
    _, ours = pairs[family]
    fast = FastDecoder.from_decoder(ours, weights)
    ids, mask = strangers.ids(), None if side is None else strangers.real(side)
    cache, parts, done = fast.new_cache(capacity), [], 0
    for part in ids.split([1, 4, 2, 2, 1, 1], dim=1):
        done += part.shape[1]
        parts.append(fast(part, None if mask is None else mask[:, :done], cache))
    with torch.no_grad():
        whole = ours(ids, mask)
    chosen = torch.ones_like(ids).bool() if mask is None else mask
    torch.testing.assert_close(torch.cat(parts, 1)[chosen], whole[chosen], **CLOSE[weights])
    assert cache.length == 11 and cache.kept.shape[:2] == (3, 2) and cache.kept.shape[3] == fast.kv_heads


@FAMILIES
@WEIGHTS
def test_it_writes_what_the_readable_one_writes(pairs, family, weights):
    _, ours = pairs[family]
    fast = FastDecoder.from_decoder(ours, weights)
    assert generate(fast, PROMPTS[:1], 20) == generate(ours, PROMPTS[:1], 20)
    assert generate(fast, PROMPTS, 12) == generate(ours, PROMPTS, 12)
    assert generate(fast, PROMPTS, 12, cache=False) == generate(ours, PROMPTS, 12)
    drawn = [
        generate(m, PROMPTS, 12, sampling=Sampling(top_k=9, generator=torch.Generator().manual_seed(3)))
        for m in (fast, ours)
    ]
    assert drawn[0] == drawn[1]


def test_the_model_stays_as_it_is_and_lends_its_table_alone(pairs):
    _, ours = pairs["Llama, GQA"]
    before = {name: p.clone() for name, p in ours.state_dict().items()}
    fast = FastDecoder.from_decoder(ours)
    fast(strangers.ids())
    assert all(torch.equal(before[name], p) for name, p in ours.state_dict().items())
    assert fast.token is ours.token and not fast.training
    kept = [m.weight for layer in fast.layers for m in layer if isinstance(m, Matrix)]
    own = {p.data_ptr() for p in ours.parameters()}
    assert len(kept) == 12 and all(m.data_ptr() not in own for m in kept)
    norms = [w for layer in fast.layers for w in (layer.norm1, layer.norm2)] + [fast.norm]
    assert all(w.data_ptr() not in own for w in norms)


def test_bytes_are_those_of_the_matrices(pairs):
    _, ours = pairs["Llama, GQA"]
    shapes = {name: p.shape for name, p in ours.named_parameters() if p.ndim == 2 and name != "token.weight"}
    head = math.prod(shapes.pop("head.weight"))
    plain, padded = (sum(out * (width + -width % step) for out, width in shapes.values()) for step in (1, 16))
    assert FastDecoder.from_decoder(ours, "float32").bytes() == 4 * (plain + head)
    assert FastDecoder.from_decoder(ours, "float16").bytes() == 2 * (plain + head)
    assert FastDecoder.from_decoder(ours, "int8").bytes() == padded + 2 * head, "the head stays in float16"


def test_int8_without_fbgemm_keeps_its_head_in_float32(pairs, monkeypatch):
    monkeypatch.setattr(torch._C, "_supported_qengines", list)
    assert type(FastDecoder.from_decoder(pairs["Llama, GQA"][1], "int8").head) is Float32Matrix


def test_the_size_of_a_head_follows_from_the_width():
    torch.manual_seed(0)
    ours = Decoder(DecoderConfig(20, 16, 2, 4)).eval()
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(torch.randn(p.shape) / 5)
        ids = torch.randint(0, 20, (2, 9))
        for kind in ("float32", "float16"):
            torch.testing.assert_close(FastDecoder.from_decoder(ours, kind)(ids), ours(ids), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("weights", list(KINDS))
def test_copies_are_not_saved(pairs, weights):
    assert set(FastDecoder.from_decoder(pairs["Llama, GQA"][1], weights).state_dict()) == {"token.weight"}
    assert not KINDS[weights](weight()).state_dict()


def test_int8_is_near(pairs):
    _, ours = pairs["Llama, tied"]
    fast, ids = FastDecoder.from_decoder(ours, "int8"), strangers.ids(3, 30)
    with torch.no_grad():
        assert 1e-4 < strangers.relative(fast(ids), ours(ids)) < 0.05


@pytest.mark.parametrize("weights", list(KINDS))
def test_a_model_in_bfloat16_comes_out_in_float32(weights):
    ours = strangers.ours(strangers.llama(), torch.bfloat16)
    fast = FastDecoder.from_decoder(ours, weights)
    with torch.no_grad():
        expected = strangers.ours(strangers.llama().to(torch.bfloat16))(strangers.ids())
    assert fast(strangers.ids()).dtype == torch.float32
    assert strangers.relative(fast(strangers.ids()), expected) < (0.05 if weights == "int8" else 1e-3)


@pytest.mark.parametrize("family", ["GPT-2", "Llama, biases"])
def test_another_family_is_refused(family):
    with pytest.raises(ValueError, match=r"FastDecoder has the Llama family alone .*generate with the Decoder itself"):
        FastDecoder.from_decoder(strangers.ours(strangers.DECODERS[family]()))


@pytest.mark.parametrize("what", [{"norm": "layer"}, {"activation": "gelu"}, {"positions": "learned"}, {"bias": True}])
def test_each_choice_that_is_not_llamas_is_refused(what):
    with pytest.raises(ValueError, match="has the Llama family alone"):
        FastDecoder.from_decoder(Decoder(DecoderConfig(20, 8, 1, 2, **what)))


def test_bad_arguments_are_named(pairs):
    _, ours = pairs["Llama, GQA"]
    with pytest.raises(ValueError, match="weights='int3': expected one of float32, float16, int8"):
        FastDecoder.from_decoder(ours, "int3")
    fast = FastDecoder.from_decoder(ours)
    cache = fast.new_cache()
    fast(strangers.ids(2, 5), None, cache)
    with pytest.raises(ValueError, match=r"holds 2 text\(s\) and is given 3"):
        fast(strangers.ids(3, 1), None, cache)
    with pytest.raises(ValueError, match=r"5 cached and 28 new tokens, but config.context=32"):
        fast(strangers.ids(2, 28), None, cache)
    with pytest.raises(ValueError, match="expected whole numbers"):
        fast(strangers.ids()[0])
    with pytest.raises(ValueError, match=r"expected torch.bool of shape \(2, 6\)"):
        fast(strangers.ids(2, 1), torch.ones(2, 5, dtype=torch.bool), cache)


def test_a_cache_doubles_and_keeps_what_it_has():
    cache = FastCache(3)
    shape, device = (2, 1, 2, 4), torch.device("cpu")
    sizes = []
    for step in range(8):
        new, kept = cache.grow(1, shape, device)
        assert [x.shape for x in new] == [(2, 1, 2, 1, 4)] * 2 and [x.shape for x in kept] == [
            (2, 1, 2, step + 1, 4)
        ] * 2
        for layer, x in enumerate(new):
            x.fill_(10 * layer + step)
        sizes.append(cache.capacity)
    assert sizes == [3, 3, 3, 6, 6, 6, 12, 12]
    assert kept[1][1, 0, 1, :, 0].tolist() == [10 + step for step in range(8)]
    assert FastCache().capacity == 0 == FastDecoder.new_cache(None).capacity
    assert FastCache().grow(1, shape, torch.device("meta"))[0][0].device.type == "meta"


def weight(out=24, width=16, seed=0):
    return torch.randn(out, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 5])
def test_matrices_multiply_as_linear_does(rows, monkeypatch):
    w, x = weight(), weight(rows, seed=1)
    expected = F.linear(x, w)
    torch.testing.assert_close(Float32Matrix(w)(x), expected)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        torch.testing.assert_close(Float32Matrix(w)(x), expected)
    half = Float16Matrix(w)
    torch.testing.assert_close(half(x), F.linear(x, w.half().float()), rtol=1e-5, atol=1e-5)
    assert 1e-5 < strangers.relative(half(x), expected) < 2**-11
    assert 1e-4 < strangers.relative(Int8Matrix(w)(x), expected) < 0.01
    assert [m(w).bytes() for m in KINDS.values()] == [4 * 24 * 16, 2 * 24 * 16, 24 * 16]


@pytest.mark.parametrize("out", [1, 2, 7, 8])
@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_one_row_is_multiplied_in_two_halves_where_there_are_two(out, rows, monkeypatch):
    matrix, x, ways = Float32Matrix(weight(out)), weight(rows, seed=1), []
    assert matrix.many is product, "oneDNN, where this torch has it"
    monkeypatch.setattr(torch, "bmm", lambda a, b, true=torch.bmm: ways.append(tuple(a.shape)) or true(a, b))
    torch.testing.assert_close(matrix(x), F.linear(x, matrix.weight))
    assert ways == ([(2, out // 2, 16)] if rows == 1 and out % 2 == 0 else [])


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 36])
def test_int8_of_any_width(rows, width):
    """torch's kernel reads beyond rows that are not a multiple of 16 long: infinite numbers, or a crash."""
    w, x = weight(7, width), weight(rows, width, seed=1)
    m = Int8Matrix(w)
    exact = F.linear(x.bfloat16().float(), m.weight[:, :width].float() * m.scale.float()[:, None])
    torch.testing.assert_close(m(x), exact, rtol=2**-7, atol=1e-3)


def test_a_matrix_of_no_kind_is_none():
    for call in (Matrix().bytes, lambda: Matrix()(torch.ones(1, 2))):
        with pytest.raises(NotImplementedError):
            call()


def test_int8_rounds_to_the_nearest_step_of_its_own_row():
    w = weight(64, 304) * torch.logspace(-4, 4, 64)[:, None]
    m = Int8Matrix(w)
    step, back = m.scale.float()[:, None], m.weight.float() * m.scale.float()[:, None]
    assert ((back - w).abs() <= step / 2 * 1.0001).all()
    assert (m.weight.int().abs().amax(1) >= 126).all() and m.weight.min() >= -127, "no step is wasted, none is beyond"
    wide = Int8Matrix(torch.linspace(1, 2, 999)[:, None] * torch.tensor([[1.0, -1.0]]))
    assert wide.weight.max() == 127 and wide.weight.min() == -127, "also where bfloat16 rounds the scale down"
    row = Int8Matrix(torch.tensor([[127.0, -63.0, 1.4] + [0.0] * 13]))
    assert row.scale.tolist() == [1] and row.weight[0, :3].tolist() == [127, -63, 1]
    assert Int8Matrix(torch.zeros(3, 16))(torch.ones(1, 16)).tolist() == [[0, 0, 0]]


def test_float16_refuses_what_it_cannot_hold(monkeypatch):
    Float16Matrix(torch.full((2, 2), 65504.0))
    for beyond in (65505.0, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="is not to be had in float16: use weights='float32'"):
            Float16Matrix(torch.full((2, 2), -beyond))
    monkeypatch.setattr(torch._C, "_supported_qengines", list)
    with pytest.raises(ValueError, match="needs FBGEMM, which this torch lacks: use weights='float32'"):
        Float16Matrix(weight())


def test_smollm2_writes_the_same_from_half_the_bytes():
    """The asset's weights were published in float16: nothing of them is lost, so nothing of the text is."""
    ours = smollm2()
    ids = torch.tensor([[504, 8179, 436, 3414, 1202, 28, 284, 260]])
    fast = FastDecoder.from_decoder(ours, "float16")
    with torch.no_grad():
        torch.testing.assert_close(fast(ids), ours(ids), rtol=0, atol=5e-4)
    assert generate(fast, ids.tolist(), 12) == generate(ours, ids.tolist(), 12)
    assert fast.bytes() == pytest.approx(134.5e6 * 2, rel=1e-2)
