"""Faults of part V, the tasks of language: notebooks 13, 14, 15, 16, 18."""

from __future__ import annotations

from typing import Any

from llmlab.course.checking import Wrong, call, expect, expect_number, expect_type
from llmlab.course.faults.model import Fault, Mending

__all__ = ["FAULTS"]


def check_forcing(answer: Any) -> str:
    bos, eos = 1, 2
    for target in ([5, 6, 7], [9], [2, 5, 5, 8], [4, 3]):
        got = call(answer, list(target), bos, eos)
        expect(
            isinstance(got, tuple | list) and len(got) == 2, "return two lists: what the decoder reads, and its labels"
        )
        for part in got:
            expect_type(part, (list, tuple), "what the decoder reads, or its labels,")
        reads, labels = list(got[0]), list(got[1])
        if len(reads) != len(labels):
            raise Wrong(f"the decoder reads {len(reads)} tokens and is to predict {len(labels)}: one label for each")
        if reads == labels:
            raise Wrong("at each place the decoder reads the very token that it is to predict there")
        if labels[:1] == [bos]:
            raise Wrong("the start token is a label: nobody asks the model to predict it")
        if reads[:1] != [bos]:
            raise Wrong("for its first word the decoder must read the start token and nothing of the translation")
        if labels[-1:] != [eos]:
            raise Wrong("the last label must be the end token, or the model never learns to stop")
        if labels != [*target, eos] or reads != [bos, *target]:
            raise Wrong(f"for a translation of {len(target)} tokens the labels and what is read for them do not match")
    return "each place reads the tokens before its label, from the start token to the end token"


FORCING = """
def teacher_forcing(target, bos, eos):
    labels = target + [eos]
    reads = target + [eos]
    return reads, labels
"""


def check_spans(answer: Any) -> str:
    cases = [
        (["O", "B-PER", "I-PER", "O"], [("PER", 1, 3)], "a name in the middle"),
        (["B-LOC", "O", "O"], [("LOC", 0, 1)], "a name at the start"),
        (["B-PER", "O", "B-LOC", "O"], [("PER", 0, 1), ("LOC", 2, 3)], "two names apart"),
        (["O", "B-LOC"], [("LOC", 1, 2)], "a name that the sentence ends with"),
        (["B-PER", "I-PER"], [("PER", 0, 2)], "a sentence that is one name"),
        (["B-PER", "B-PER", "I-PER", "O"], [("PER", 0, 1), ("PER", 1, 3)], "two names side by side"),
        (["B-PER", "I-PER", "B-LOC"], [("PER", 0, 2), ("LOC", 2, 3)], "two names side by side at the end"),
        (["O", "O"], [], "a sentence without names"),
        ([], [], "an empty sentence"),
    ]
    for tags, want, what in cases:
        got = call(answer, list(tags))
        expect_type(got, list, "the spans")
        for span in got:
            expect_type(span, (tuple, list), "a span")
        found = [tuple(span) for span in got]
        if found == want:
            continue
        if len(found) == len(want) - 1 and found == want[:-1] and tags[-1] != "O":
            raise Wrong(f"{what}: the last one is lost, since no tag behind it closes it")
        if len(found) < len(want):
            raise Wrong(f"{what}: {len(want)} should be found, and {len(found)} are: every B begins a name of its own")
        raise Wrong(f"{what}: for the tags {' '.join(tags) or '(none)'} the spans are not right: {str(found)[:60]}")
    return "every B begins a name, and the end of the sentence ends one"


SPANS = """
def spans(tags):
    found, start, kind = [], None, None
    for i, tag in enumerate(tags):
        if not tag.startswith("I-") and start is not None:
            found.append((kind, start, i))
            start = None
        if tag.startswith("B-"):
            start, kind = i, tag[2:]
    return found
"""


def check_text_of(answer: Any) -> str:
    cases = [
        ("The tower is 330 metres "
            "high.", [(0, 3), (4, 9), (10, 12), (13, 16), (17, 23), (24, 28), (28, 29)], 3, 4, "330 metres"),
        ("Paris", [(0, 3), (3, 5)], 0, 1, "Paris"),
        ("in  May   1889", [(0, 2), (4, 7), (10, 14)], 1, 2, "May   1889"),
        ("北京 和 上海", [(0, 1), (1, 2), (3, 4), (5, 6), (6, 7)], 3, 4, "上海"),
        ("a b", [(0, 1), (2, 3)], 1, 1, "b"),
        ("It is Rome.", [(0, 2), (3, 5), (6, 10), (10, 11)], 2, 2, "Rome"),
    ]  # fmt: skip
    for context, offsets, start, end, want in cases:
        got = call(answer, context, list(offsets), start, end)
        expect_type(got, str, "the answer")
        if got == want:
            continue
        if got == context[start : end + 1] and got != want:
            raise Wrong(f"tokens {start} to {end} are cut as characters {start} to {end}: a token has its own offsets")
        if start != end and got == context[offsets[start][0] : offsets[end - 1][1]]:
            raise Wrong("the last token of the answer is missing: `end` is the last one that belongs to it")
        if len(got) == len(want) + 1 and got.startswith(want):
            raise Wrong("one character too many: an offset already points behind its token")
        if got.split() == want.split() or got.replace(" ", "") == want.replace(" ", ""):
            raise Wrong("the spaces are not those of the text: cut it once, from the first token to the last")
        raise Wrong(f"of {context!r} the answer is {want!r}, and you returned {got[:40]!r}")
    return "cut from the first character of the first token to the last of the last"


TEXT_OF = """
def answer_text(context, offsets, start, end):
    # offsets[i] holds where token i begins in the context and where it ends
    return context[start : end + 1]
"""


def check_summary_loss(answer: Any) -> str:
    import torch
    from torch.nn.functional import cross_entropy

    table = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5], [1.5, 0.0, 0.3, -0.4, 2.0], [0.2, 2.2, 0.0, 1.0, -2.0],
                          [1.0, 0.1, 3.0, 0.0, 0.7], [-1.0, 0.4, 0.9, 1.1, 0.0]])  # fmt: skip

    class Model(torch.nn.Module):
        """Reads a text and the summary so far; scores the next token at each place."""

        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(table.clone())

        def forward(self, text: Any, summary: Any) -> Any:
            return self.table[summary] + 0.1 * text.float().mean(-1)[:, None, None] * self.table[0]

    text = torch.tensor([[3, 4, 1], [2, 2, 4]])
    for summary in (torch.tensor([[1, 3, 2, 4], [1, 4, 0, 0]]), torch.tensor([[1, 2, 3, 3], [1, 4, 4, 2]])):
        model = Model()
        logits = model(text, summary[:, :-1]).detach()
        labels, size = summary[:, 1:], table.shape[0]
        flat = logits.reshape(-1, size)
        want = float(cross_entropy(flat, labels.reshape(-1), ignore_index=0))
        full = model(text, summary).detach().reshape(-1, size)
        own = logits.argmax(-1)
        near = [
            (float(cross_entropy(flat, own.reshape(-1))), "the labels are the model's own output: whatever it "
                "writes is right"),
            (float(cross_entropy(full, full.argmax(-1))), "the labels are the model's own output: whatever it "
                "writes is right"),
            (float(cross_entropy(full, summary.reshape(-1), ignore_index=0)), "each place is asked for the token it "
                "reads: shift by one"),
            (float(cross_entropy(flat, summary[:, :-1].reshape(-1), ignore_index=0)), "each place is asked for the "
                "token it reads: shift by one"),
        ]  # fmt: skip
        if (summary == 0).any():
            near.append((float(cross_entropy(flat, labels.reshape(-1))), "the padding counts as a label"))
        loss = call(answer, model, text, summary)
        expect_number(loss, want, what="the loss", near_misses=near)
        expect(
            isinstance(loss, torch.Tensor) and loss.requires_grad,
            "the loss has lost its gradient: nothing would be learned",
        )
        loss.backward()
        grad = model.table.grad
        expect(
            grad is not None and bool(grad.abs().sum() > 0), "no gradient reaches the model: nothing would be learned"
        )
    return "against the reference, one place on, without the padding"


SUMMARY_LOSS = """
from torch.nn.functional import cross_entropy

def summary_loss(model, text, summary):
    # model(text, tokens) scores the token that comes after each of the tokens; 0 is padding
    logits = model(text, summary[:, :-1])
    labels = logits.argmax(-1)
    return cross_entropy(logits.flatten(0, 1), labels.flatten())
"""


def check_rank(answer: Any) -> str:
    import torch

    scores = torch.tensor([0.9, 0.2, 0.8, 0.5, 0.7, 0.1])
    cases = [
        (0, [0, 4], 1), (4, [0, 2, 4], 1), (3, [0, 3], 3), (1, [1], 5),
        (5, [0, 1, 2, 3, 4, 5], 1), (3, [3, 5], 4), (2, [4, 2], 2),
    ]  # fmt: skip
    for values in (scores, scores - 3):
        for target, known, want in cases:
            got = call(answer, values.clone(), target, list(known))
            raw = 1 + int((values > values[target]).sum())
            last = len(values) - len(known) + 1
            zeroed = values.clone()
            zeroed[[i for i in known if i != target]] = 0.0
            misses: list[tuple[float, str]] = []
            if raw != want:
                misses.append(
                    (raw, "another true answer counts as a mistake when it stands before this one: filter it")
                )
            for value in (last, len(values)):
                if value not in (want, raw):
                    misses.append((value, "the target itself is filtered too, and comes last wherever it stood"))
            misses.append((want - 1, "the best rank is 1, not 0"))
            zero = 1 + int((zeroed > zeroed[target]).sum())
            if zero not in {want, *(value for value, _ in misses)}:
                misses.append((zero, "a score of 0 is no removal: it may still be the highest"))
            expect_number(got, want, what=f"the filtered rank of {target} among the known {known}", near_misses=misses)
    return "the other true answers are out of the way, the target is not"


RANK = """
import torch

def filtered_rank(scores, target, known):
    # known: every entity that is a true answer, the target among them
    scores = scores.clone()
    scores[known] = float("-inf")
    order = scores.argsort(descending=True, stable=True)
    return int((order == target).nonzero()) + 1
"""


FAULTS = (
    Fault(
        id="13.reads_what_it_must_say", title="Teacher forcing", difficulty=1,
        story="The loss of a translator falls to almost zero in a few steps. Asked to translate, it writes the same "
            "token again and again.",
        program=FORCING, name="teacher_forcing",
        diagnosis="The decoder reads its labels unshifted, so copying is all that it learns.",
        lures={
            "The end token must not be a label.": "It must: a model that never saw it as a label cannot stop.",
            "Teacher forcing should be replaced by the model's own output.": "Such models are trained with it; "
                "only what is read must be one token behind what is predicted.",
        },
        check=check_forcing,
        mended=FORCING.replace("reads = target + [eos]", "reads = [bos] + target"),
        also_right="""
        def teacher_forcing(target, bos, eos):
            whole = [bos, *target, eos]
            return whole[:-1], whole[1:]
        """,
        wrong=(
            Mending("the start on both sides",
                FORCING.replace("target + [eos]", "[bos] + target + [eos]"), "the very token"),
            Mending("never stops", FORCING.replace("labels = target + [eos]", "labels = target").replace(
                "reads = target + [eos]", "reads = [bos] + target[:-1]"), "never learns to stop"),
            Mending("shifted the wrong way", """
                def teacher_forcing(target, bos, eos):
                    return target + [eos], [bos] + target
            """, "nobody asks"),
            Mending("one too long",
                FORCING.replace("reads = target + [eos]", "reads = [bos] + target + [eos]"), "one label for each"),
        ),
    ),
    Fault(
        id="14.name_at_the_end", title="From BIO tags to names", difficulty=1,
        story="The tags are right, and yet recall is low on headlines such as 'Storm hits New York'.",
        program=SPANS, name="spans",
        diagnosis="A name is stored when a tag closes it, and nothing closes one with which the sentence ends.",
        lures={
            "Two names of one kind side by side are merged.": "The second B closes the first name.",
            "The end of a span should be its last token.": "Either convention works; here the end is the place "
                "behind it.",
        },
        check=check_spans,
        mended=SPANS.replace("enumerate(tags)", 'enumerate([*tags, "O"])'),
        also_right="""
        def spans(tags):
            found = []
            for i, tag in enumerate(tags):
                if tag[0] == "B":
                    end = i + 1
                    while end < len(tags) and tags[end][0] == "I":
                        end += 1
                    found.append((tag[2:], i, end))
            return found
        """,
        wrong=(
            Mending("closed one early",
                SPANS.replace("    return found", "    if start is not None:\n        found.append((kind, start, "
                    "i))\n    return found"), "the spans are not right"),
            Mending("merged", """
                def spans(tags):
                    found, start = [], None
                    for i, tag in enumerate([*tags, "O"]):
                        if tag == "O" and start is not None:
                            found.append((tags[start][2:], start, i))
                            start = None
                        elif tag != "O" and start is None:
                            start = i
                    return found
            """, "every B begins"),
            Mending("always closed",
                SPANS.replace("    return found", "    found.append((kind, start, len(tags)))\n    return "
                    "found"), "the spans are not right"),
        ),
    ),
    Fault(
        id="15.tokens_cut_as_characters", title="The text of an answer", difficulty=1,
        story="The reader marks the right tokens, 3 to 4 of 'The tower is 330 metres high.' What is printed is ' t'.",
        program=TEXT_OF, name="answer_text",
        diagnosis="Numbers of tokens are used to cut a string, which is counted in characters.",
        lures={
            "The question's length must be taken off.": "The numbers count the tokens of the passage alone.",
            "The end should not be included.": "It is the last token of the answer, and both sides agree on it.",
        },
        check=check_text_of,
        mended=TEXT_OF.replace("context[start : end + 1]", "context[offsets[start][0] : offsets[end][1]]"),
        also_right="""
        def answer_text(context, offsets, start, end):
            places = [place for pair in offsets[start : end + 1] for place in pair]
            return context[min(places) : max(places)]
        """,
        wrong=(
            Mending("joined by spaces",
                TEXT_OF.replace("context[start : end + 1]", '" ".join(context[a:b] for a, b in offsets[start : end '
                    '+ 1])'), "spaces are not those"),
            Mending("words instead",
                TEXT_OF.replace("context[start : end + 1]", '" ".join(context.split()[start : end + 1])'), "spaces "
                    "are not those"),
            Mending("one too few",
                TEXT_OF.replace("context[start : end + 1]", "context[offsets[start][0] : offsets[max(start, end - "
                    "1)][1]]"), "the last token"),
        ),
        errata=("A15-1",),
    ),
    Fault(
        id="16.right_whatever_it_writes", title="The loss of a summariser", difficulty=2,
        story="The loss falls steadily from the first step on. The summaries get no better, only surer of themselves.",
        program=SUMMARY_LOSS, name="summary_loss",
        diagnosis="The labels are the model's own choices; the reference is read and never compared with.",
        lures={
            "The summary should not be cut before it is read.": "It is right: the last token has no successor to "
                "predict.",
            "The argmax is not differentiable.": "True and harmless: labels need no gradient.",
        },
        check=check_summary_loss,
        mended=SUMMARY_LOSS.replace("logits.argmax(-1)", "summary[:, 1:]").replace(
            "labels.flatten())", "labels.flatten(), ignore_index=0)"),
        also_right="""
        def summary_loss(model, text, summary):
            labels = summary[:, 1:]
            scores = model(text, summary)[:, :-1].log_softmax(-1)
            chosen = scores.gather(-1, labels[..., None])[..., 0]
            return -chosen[labels != 0].mean()
        """,
        wrong=(
            Mending("with the padding", SUMMARY_LOSS.replace("logits.argmax(-1)", "summary[:, 1:]"), "padding counts"),
            Mending("unshifted",
                SUMMARY_LOSS.replace("logits.argmax(-1)", "summary[:, :-1]").replace(
                    "labels.flatten())", "labels.flatten(), ignore_index=0)"), "shift by one"),
            Mending("detached",
                SUMMARY_LOSS.replace("logits.argmax(-1)", "summary[:, 1:]").replace(
                    "labels.flatten())", "labels.flatten(), ignore_index=0).detach()"), "lost its gradient"),
        ),
        errata=("C27-1",),
    ),
    Fault(
        id="18.filtered_with_the_target", title="The filtered rank of a link", difficulty=2,
        story="A graph model is asked for the object of a fact. Its filtered ranks are far worse than its raw ones.",
        program=RANK, name="filtered_rank",
        diagnosis="All true answers are taken out of the list, and the one whose rank is asked for is among them.",
        lures={
            "Filtering makes every rank worse.": "It takes rivals away, so no rank can get worse by it.",
            "Ranks should begin at 0.": "They begin at 1, or the reciprocal rank divides by zero.",
        },
        check=check_rank,
        mended=RANK.replace("scores[known]", "scores[[other for other in known if other != target]]"),
        also_right="""
        def filtered_rank(scores, target, known):
            rivals = set(range(len(scores))) - set(known)
            return 1 + sum(bool(scores[i] > scores[target]) for i in rivals)
        """,
        wrong=(
            Mending("raw", RANK.replace('    scores[known] = float("-inf")\n', ""), "filter it"),
            Mending("a zero",
                RANK.replace("scores[known]", "scores[[other for other in known if other != target]]").replace(
                    'float("-inf")', "0.0"), "no removal"),
            Mending("from 0",
                RANK.replace("scores[known]", "scores[[other for other in known if other != target]]").replace(
                    " + 1", ""), "not 0"),
        ),
    ),
)  # fmt: skip
