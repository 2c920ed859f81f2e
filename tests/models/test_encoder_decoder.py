"""Our encoder-decoder against Marian of transformers (post-norm) and torch's own layers (pre-norm)."""

import pytest
import strangers
import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

from llmlab.generate import generate
from llmlab.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Writer
from llmlab.nn.cross import CrossAttention

torch.set_num_threads(1)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
SIZES = {"vocabulary": strangers.VOCABULARY, "d": 32, "layers": 2, "heads": 4, "hidden": 48, "context": 24}


def marian():
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in SIDES.items()}
    config = MarianConfig(
        vocab_size=strangers.VOCABULARY,
        d_model=32,
        max_position_embeddings=24,
        activation_function="relu",
        scale_embedding=True,
        pad_token_id=60,
        attn_implementation="sdpa",
        **sides,
    )
    torch.manual_seed(0)
    made = MarianMTModel(config)
    for name, p in made.named_parameters():
        if "embed_positions" not in name:  # sinusoids
            nn.init.normal_(p, 1.0 if "norm.weight" in name else 0.0, 0.2)
    return made.eval()


SIDES = {"layers": 2, "ffn_dim": 48, "attention_heads": 4}


def marians(tensors, which):
    """Our names and shapes for Marian's weights, or gradients."""

    def joined(layer, names, end):
        return torch.cat([tensors[f"{layer}.{name}.{end}"] for name in names])

    found = {"token.weight": tensors["model.shared.weight"]}
    for end in ("weight", "bias"):
        for i in range(2):
            for ours, theirs in (("encoder", "model.encoder"), ("decoder", "model.decoder")):
                a, b = f"{ours}.{i}", f"{theirs}.layers.{i}"
                found[f"{a}.attend.qkv.{end}"] = joined(f"{b}.self_attn", ("q_proj", "k_proj", "v_proj"), end)
                found[f"{a}.attend.out.{end}"] = tensors[f"{b}.self_attn.out_proj.{end}"]
                found[f"{a}.norm1.{end}"] = tensors[f"{b}.self_attn_layer_norm.{end}"]
                last = "norm2" if ours == "encoder" else "norm3"
                found[f"{a}.{last}.{end}"] = tensors[f"{b}.final_layer_norm.{end}"]
                found[f"{a}.feedforward.up.{end}"] = tensors[f"{b}.fc1.{end}"]
                found[f"{a}.feedforward.down.{end}"] = tensors[f"{b}.fc2.{end}"]
            found[f"decoder.{i}.cross.q.{end}"] = tensors[f"{b}.encoder_attn.q_proj.{end}"]
            found[f"decoder.{i}.cross.kv.{end}"] = joined(f"{b}.encoder_attn", ("k_proj", "v_proj"), end)
            found[f"decoder.{i}.cross.out.{end}"] = tensors[f"{b}.encoder_attn.out_proj.{end}"]
            found[f"decoder.{i}.norm2.{end}"] = tensors[f"{b}.encoder_attn_layer_norm.{end}"]
    assert len(found) == which
    return found


def ours_of(theirs):
    made = EncoderDecoder(EncoderDecoderConfig(**SIZES))
    made.load_state_dict(marians(theirs.state_dict(), len(made.state_dict())))
    table = theirs.model.encoder.embed_positions.weight
    half = table.unflatten(1, (2, 16)).mT.flatten(1)  # theirs: all sines, then all cosines; ours in turn
    torch.testing.assert_close(made.positions, half, rtol=0, atol=1e-6)
    made.positions = table.clone()
    return made.eval()


@pytest.fixture(scope="module")
def pair():
    theirs = marian()
    return theirs, ours_of(theirs)


def batch():
    return strangers.ids(time=9, seed=3) % 60, strangers.ids(time=7, seed=4) % 60, strangers.real("right", time=9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_logits_and_gradients_equal_marian(dtype):
    theirs = marian()
    ours = ours_of(theirs).to(dtype)
    theirs = theirs.to(dtype)
    source, target, mask = batch()
    mine = ours(source, target, mask)
    other = theirs(source, attention_mask=mask.long(), decoder_input_ids=target, use_cache=False).logits
    assert other.abs().max() > 1
    torch.testing.assert_close(mine, other, **(CLOSE if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.15}))
    assert strangers.relative(mine, other) < (1e-5 if dtype == torch.float32 else 0.02)
    direction = torch.randn(mine.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    (mine * direction).sum().backward()
    (other * direction).sum().backward()
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in theirs.named_parameters()}
    expected = marians(found, len(ours.state_dict()))
    for name, p in ours.named_parameters():
        assert expected[name].abs().max() > 0, name
        assert strangers.relative(p.grad, expected[name]) < (1e-4 if dtype == torch.float32 else 0.08), name


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_pre_norm_equals_torchs_own_layers():
    torch.manual_seed(1)
    theirs = nn.Transformer(32, 4, 2, 2, 48, 0.0, batch_first=True, norm_first=True).eval()
    for name, p in theirs.named_parameters():
        nn.init.normal_(p, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    ours = EncoderDecoder(EncoderDecoderConfig(pre_norm=True, **SIZES)).eval()
    for name, p in ours.named_parameters():
        if name != "token.weight":
            p.data = theirs_for(theirs, name).clone()
    source, target, mask = batch()
    with torch.no_grad():
        x, y = (ours.token(ids) * 32**0.5 + ours.positions[: ids.shape[1]] for ids in (source, target))
        hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
        states = theirs(x, y, tgt_mask=hidden, src_key_padding_mask=~mask, memory_key_padding_mask=~mask)
        torch.testing.assert_close(ours(source, target, mask), states @ ours.token.weight.T, **CLOSE)


def theirs_for(theirs, name):
    """The parameter of torch's Transformer that stands for ours."""
    side, rest = name.split(".", 1) if "_norm." not in name else (name.split("_")[0], name.split("_", 1)[1])
    stack = getattr(theirs, side)
    if rest.startswith("norm"):
        return getattr(stack.norm, rest.split(".")[1])
    layer, part, *more = rest.split(".")
    module, end = stack.layers[int(layer)], more[-1]
    if part == "attend":
        return (
            getattr(module.self_attn, f"in_proj_{end}") if more[0] == "qkv" else getattr(module.self_attn.out_proj, end)
        )
    if part == "cross":
        whole = getattr(module.multihead_attn, f"in_proj_{end}")
        return {"q": whole[:32], "kv": whole[32:], "out": getattr(module.multihead_attn.out_proj, end)}[more[0]]
    if part == "feedforward":
        return getattr(module.linear1 if more[0] == "up" else module.linear2, end)
    return getattr(getattr(module, part), end)


def test_one_token_at_a_time_gives_the_whole(pair):
    _, ours = pair
    source, target, mask = batch()
    left = strangers.real("left", time=7)
    with torch.no_grad():
        memory, cache = ours.encode(source, mask), ours.new_cache()
        whole = ours.decode(target, memory, left)
        parts = [
            ours.decode(target[:, a:b], memory, left[:, :b], cache) for a, b in ((0, 3), (3, 4), (4, 5), (5, 6), (6, 7))
        ]
        torch.testing.assert_close(torch.cat(parts, 1)[left], whole[left], **CLOSE)
        torch.testing.assert_close(ours.decode(target, memory, left, last=1), whole[:, -1:])


@pytest.mark.parametrize("cache", [True, False])
def test_greedy_writing_equals_marians(pair, cache):
    theirs, ours = pair
    source, _, mask = batch()
    chosen = {"decoder_start_token_id": 5, "do_sample": False, "num_beams": 1, "eos_token_id": None, "pad_token_id": 60}
    expected = theirs.generate(
        source, attention_mask=mask.long(), max_new_tokens=12, bad_words_ids=None, forced_eos_token_id=None, **chosen
    )
    found = generate(Writer(ours, source, mask), [[5]] * 3, 12, cache=cache)
    assert found == expected[:, 1:].tolist()
    assert len({tuple(text) for text in found}) > 1, "the source has no say"
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        generate(Writer(EncoderDecoder(ours.config), source), [[5]] * 3, 2)


def test_padding_of_either_side_changes_nothing(pair):
    _, ours = pair
    source, target, mask = batch()
    left = strangers.real("left", time=7)
    with torch.no_grad():
        found = ours.decode(target, ours.encode(source, mask), left)
        for i in range(3):
            alone = ours(source[i][mask[i]][None], target[i][left[i]][None])
            torch.testing.assert_close(found[i][left[i]], alone[0], **CLOSE)


def test_the_future_of_the_target_is_not_read_and_all_of_the_source_is(pair):
    _, ours = pair
    source, target, _ = batch()
    with torch.no_grad():
        before = ours(source, target)
        for at in range(7):
            changed = target.clone()
            changed[:, at:] = (changed[:, at:] + 17) % 60
            after = ours(source, changed)
            torch.testing.assert_close(after[:, :at], before[:, :at], rtol=0, atol=1e-5)
            assert ((after - before)[:, at:].abs().amax(-1) > 1e-4).all()
        for at in range(9):
            changed = source.clone()
            changed[:, at] = (changed[:, at] + 17) % 60
            assert ((ours(changed, target) - before).abs().amax(-1) > 1e-5).all()


def test_it_learns_to_copy_backwards():
    """Needs all parts: position by position, each target token stands elsewhere in the source."""
    torch.manual_seed(3)
    model = EncoderDecoder(EncoderDecoderConfig(12, 32, 1, 4, hidden=64, context=8, pre_norm=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(250):
        source = torch.randint(1, 12, (64, 5))
        target = source.flip(1)
        logits = model(source, nn.functional.pad(target[:, :-1], (1, 0)))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2


def test_a_new_model_starts_as_published():
    torch.manual_seed(4)
    model = EncoderDecoder(EncoderDecoderConfig(80, 64, 2, 4))
    assert model.config.context == len(model.positions) == 512
    assert abs(model.token.weight.std() * 64**0.5 - 1) < 0.05, "of size 1 once scaled"
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert (p == 0).all(), name
        elif p.ndim == 2 and name != "token.weight":
            bound = (6 / sum(p.shape)) ** 0.5
            assert 0.98 * bound < p.abs().max() <= bound, name
    for block in (*model.encoder, *model.decoder):
        assert block.feedforward.up.out_features == 256


def test_dropout_works_in_training_alone():
    torch.manual_seed(5)
    model = EncoderDecoder(EncoderDecoderConfig(dropout=0.5, **SIZES))
    source, target, _ = batch()
    assert not torch.equal(model(source, target), model(source, target))
    model.eval()
    assert torch.equal(model(source, target), model(source, target))
    for block in (model.encoder[0], model.decoder[0]):
        assert block.attend.dropout == block.dropout.p == 0.5
    assert model.decoder[0].cross.dropout == model.dropout.p == 0.5


def test_the_last_position_can_be_filled(pair):
    _, ours = pair
    full = torch.zeros(1, 24, dtype=torch.long)
    assert ours(full, full).shape == (1, 24, strangers.VOCABULARY)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m(torch.zeros(1, 25, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)), "25 tokens"),
        (lambda m: m(torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, 25, dtype=torch.long)), "25 tokens"),
        (lambda m: m.encode(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 4).bool()), r"\(1, 4\): expected"),
        (lambda m: m.encode(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5)), "expected torch.bool"),
        (lambda m: EncoderDecoderConfig(50, 32, 1, 0), "heads=0"),
        (lambda m: CrossAttention(32, 5), "multiple of heads"),
    ],
)
def test_bad_input_gets_a_sentence(pair, call, says):
    with pytest.raises(ValueError, match=says):
        call(pair[1])
