"""Loss on the answer only: transformers' number, and nothing of the prompt or the padding in it."""

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.loss.loss_utils import ForCausalLMLoss

from llmlab.train import optim, train_model
from llmlab.train.sft import (
    IGNORE,
    Example,
    answer_loss,
    answer_only,
    chat_example,
    collate,
    counted,
    pack,
    token_losses,
)

V = 12
EXAMPLES = [
    answer_only([1, 2, 3], [4, 5]),
    answer_only([6], [7, 8, 9, 10, 11]),
    answer_only([2, 2], [3]),
]


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def test_labels_stand_under_the_answer_and_under_nothing_else():
    ids, mask, labels = collate(EXAMPLES, pad=4)  # 4 is a real token as well
    assert ids.tolist() == [[1, 2, 3, 4, 5, 4], [6, 7, 8, 9, 10, 11], [2, 2, 3, 4, 4, 4]]
    assert labels.tolist() == [[-100] * 3 + [4, 5, -100], [-100, 7, 8, 9, 10, 11], [-100, -100, 3] + [-100] * 3]
    assert mask.sum(1).tolist() == [5, 6, 3] and counted(labels) == 8
    assert collate(EXAMPLES, pad=0, limit=4).ids.shape == (3, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_transformers(dtype):
    labels = collate(EXAMPLES, pad=0).labels
    ours = (3 * torch.randn(3, 6, V, generator=torch.Generator().manual_seed(0))).to(dtype).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    mine, other = answer_loss(ours, labels), ForCausalLMLoss(theirs, labels, V)
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)
    mine.backward()
    other.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-8)


def test_loss_is_that_of_a_real_model_given_labels():
    model, (ids, mask, labels) = llama(), collate(EXAMPLES, pad=0)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask.long(), labels=labels)
    torch.testing.assert_close(answer_loss(out.logits, labels), out.loss, rtol=1e-6, atol=1e-6)


def test_loss_by_hand():
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = torch.tensor(3.0).log()  # p = 3 / 6 for token 2
    assert answer_loss(logits, torch.tensor([[IGNORE, IGNORE, 2]])).item() == pytest.approx(torch.tensor(2.0).log())
    assert token_losses(logits, torch.tensor([[0, 1, 2]])).tolist() == [pytest.approx([1.386294, 0.693147])]


def test_what_the_prompt_and_the_padding_predict_changes_nothing():
    _, mask, labels = collate(EXAMPLES, pad=0)
    logits = torch.randn(3, 6, V, generator=torch.Generator().manual_seed(0))
    before = answer_loss(logits, labels)
    spoiled = logits.clone()
    spoiled[0, :2] = 99.0 * torch.randn(2, V)  # the last token of the prompt predicts the answer's first: it counts
    spoiled[~mask] = float("nan")
    spoiled[:, -1] = float("nan")  # nothing comes after it
    assert torch.equal(answer_loss(spoiled, labels), before)
    spoiled[0, 2] += torch.randn(V)
    assert not torch.equal(answer_loss(spoiled, labels), before)


def test_padding_moves_no_loss_in_a_model():
    model = llama()
    ids, mask, labels = collate(EXAMPLES, pad=0)
    with torch.no_grad():
        whole = token_losses(model(ids, attention_mask=mask.long()).logits, labels).sum(1)
        alone = [collate([example], pad=0) for example in EXAMPLES]
        single = [token_losses(model(one.ids).logits, one.labels).sum() for one in alone]
    torch.testing.assert_close(whole, torch.stack(single), rtol=1e-5, atol=1e-5)


def test_packed_texts_have_the_losses_they_have_alone():
    model, packed = llama(), pack(EXAMPLES, size=8, pad=0)
    assert packed.ids.shape == (2, 8)  # 6 and 5 + 3
    assert sorted(packed.segments.flatten().tolist()) == [0, 0] + [1] * 11 + [2] * 3
    same = packed.segments[:, :, None] == packed.segments[:, None, :]
    allowed = same & torch.ones(8, 8, dtype=torch.bool).tril()
    table = torch.zeros(2, 1, 8, 8).masked_fill(~allowed[:, None], torch.finfo().min)
    batch = collate(EXAMPLES, pad=0)
    with torch.no_grad():
        rows = model(packed.ids, attention_mask=table, position_ids=packed.positions).logits
        alone = answer_loss(model(batch.ids, attention_mask=batch.mask.long()).logits, batch.labels)
        leaky = answer_loss(model(packed.ids).logits, packed.labels)
    torch.testing.assert_close(answer_loss(rows, packed.labels), alone, rtol=1e-5, atol=1e-5)
    assert (leaky - alone).abs() > 1e-3  # without the segments texts see one another
    assert counted(packed.labels) == counted(batch.labels)


def test_a_first_label_is_not_predicted_from_the_text_before():
    packed = pack([Example([1, 2], [1, 2]), Example([3, 4], [3, 4])], size=4, pad=0)
    assert packed.labels.tolist() == [[IGNORE, 2, IGNORE, 4]] and packed.positions.tolist() == [[0, 1, 0, 1]]


CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "red green"},
    {"role": "assistant", "content": "blue"},
    {"role": "user", "content": "red"},
    {"role": "assistant", "content": "green blue"},
]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {% if m.role == 'assistant' %}{% generation %}{{ m.content }} <end>"
    "{% endgeneration %} {% else %}{{ m.content }} <end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<system>", "<user>", "<assistant>", "<end>", "be", "kind", "red", "green", "blue"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=made)
    made.chat_template = TEMPLATE
    return made


def test_a_chats_labels_are_those_that_transformers_marks():
    tok = tokenizer()
    found = chat_example(
        lambda m, speak: tok.apply_chat_template(m, add_generation_prompt=speak, return_dict=False) if m else [], CHAT
    )
    marked = tok.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    assert found.ids == marked["input_ids"]
    assert [label != IGNORE for label in found.labels] == [bool(m) for m in marked["assistant_masks"]]
    assert tok.decode([label for label in found.labels if label != IGNORE]) == "blue <end> green blue <end>"
    assert all(label in (token, IGNORE) for token, label in zip(*found))


def test_a_template_that_rewrites_the_past_is_refused():
    def render(messages, speak):  # only the last turn keeps its end marker
        return [token for i, _ in enumerate(messages) for token in ([7, 8] if i == len(messages) - 1 else [7])]

    with pytest.raises(ValueError, match="renders message 2 differently"):
        chat_example(render, CHAT)
    with pytest.raises(ValueError, match="none of the 2 messages"):
        chat_example(render, CHAT[:2])


def test_accumulated_by_counted_tokens_it_is_the_large_batch():
    def trained(pieces):
        model = llama()

        def loss_of(batch):
            ids, mask, labels = collate([EXAMPLES[i] for i in batch], pad=0)
            return answer_loss(model(ids, attention_mask=mask.long()).logits, labels)

        def tokens(batch):
            return counted(collate([EXAMPLES[i] for i in batch], pad=0).labels)

        history = train_model(model, loss_of, [len(e.ids) for e in EXAMPLES], optim.SGD(model.parameters(), lr=0.1),
                              batch_size=3, epochs=2, accumulate=pieces, weight_of=tokens)  # fmt: skip
        return model, history

    (one, a), (three, b) = trained(1), trained(3)
    assert a.losses == pytest.approx(b.losses, rel=1e-5)
    for p, q in zip(one.parameters(), three.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=2e-6)


def test_the_shapes_are_those_of_the_signatures():
    batch = collate(EXAMPLES, pad=0)
    logits = torch.randn(3, 6, V)
    jaxtyped(answer_loss, typechecker=beartype)(logits, batch.labels)
    jaxtyped(token_losses, typechecker=beartype)(logits, batch.labels)
    with pytest.raises(Exception, match="labels"):
        jaxtyped(token_losses, typechecker=beartype)(logits, batch.labels[:, :-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: answer_only([], [1]), "a prompt of 0"),
        (lambda: answer_only([1], []), "an answer of 0"),
        (lambda: collate([], pad=0), "no examples"),
        (lambda: collate([Example([1, 2], [1])], pad=0), "2 ids and 1 labels"),
        (lambda: collate(EXAMPLES, pad=0, limit=3), "example 0 has no label that counts within limit=3"),
        (lambda: answer_loss(torch.zeros(1, 3, V), torch.full((1, 3), IGNORE)), "prompt and padding"),
        (lambda: answer_loss(torch.zeros(1, 3, V), torch.tensor([[0, 0, V]])), "expected 0 to 11"),
        (lambda: answer_loss(torch.zeros(1, 3, V), torch.tensor([[0, -1, 0]])), "labels from -1"),
        (lambda: token_losses(torch.zeros(1, 1, V), torch.zeros(1, 1).long()), "two tokens or more"),
        (lambda: pack(EXAMPLES, size=5, pad=0), "a text of 6 tokens"),
        (lambda: pack([], size=5, pad=0), "no example"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
