"""Faults of part IV, writing and judging: notebooks 11, 20, 35, 43."""

from __future__ import annotations

import math
from typing import Any

from llmlab.course.checking import Wrong, call, expect_close, expect_number
from llmlab.course.faults.model import Fault, Mending

__all__ = ["FAULTS"]


def check_top_p(answer: Any) -> str:
    import torch

    logits = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03]).log()
    for p, kept in ((0.7, 2), (0.8, 3), (0.3, 1), (1.0, 5)):
        got = call(answer, logits.clone(), p)
        alive = int(torch.isfinite(got).sum())
        if alive == kept - 1:
            raise Wrong(f"with p = {p} the token that crosses the line is missing: the rest holds less than p")
        if alive != kept:
            raise Wrong(f"with p = {p} {kept} tokens should stay, and {alive} do")
        expect_close(got[:kept], logits[:kept], "the logits that stay")
    shuffled = logits[[3, 0, 4, 2, 1]]
    if torch.isfinite(call(answer, shuffled, 0.7)).tolist() != [False, True, False, False, True]:
        raise Wrong("the tokens must be found again where they stood before sorting")
    return "the smallest set that holds p, wherever its tokens stand"


TOP_P = """
import torch

def top_p(logits, p):
    ordered, index = logits.sort(descending=True)
    total = ordered.softmax(-1).cumsum(-1)
    ordered[total > p] = float("-inf")
    return torch.empty_like(logits).scatter(-1, index, ordered)
"""


def check_temperature(answer: Any) -> str:
    import torch

    logits = torch.tensor([2.0, 1.0, 0.0])
    drawn = {t: [int(answer(logits, t, torch.Generator().manual_seed(i))) for i in range(300)] for t in (0.5, 2.0)}
    for t, tokens in drawn.items():
        want = (logits / t).softmax(-1)
        share = torch.bincount(torch.tensor(tokens), minlength=3) / len(tokens)
        if share[0] == 1:
            raise Wrong(
                f"at temperature {t} all 300 draws are the same token: an argmax does not change with temperature"
            )
        if float((share - want).abs().max()) > 0.11:
            raise Wrong(
                f"at temperature {t} the shares of the tokens are {share.tolist()}, not those of softmax(logits / T)"
            )
    return "draws from softmax(logits / T)"


TEMPERATURE = """
import torch

def next_token(logits, temperature, generator=None):
    probabilities = (logits / temperature).softmax(-1)
    return int(probabilities.argmax())
"""


def check_continuation(answer: Any) -> str:
    import torch

    class Model:
        def generate(self, ids: Any, max_new_tokens: int) -> Any:
            return torch.cat([ids, ids[:, -1:] + 1 + torch.arange(max_new_tokens)], 1)

    class Tokenizer:
        def encode(self, text: str) -> list[int]:
            return [ord(c) for c in text]

        def decode(self, ids: Any) -> str:
            return "".join(chr(int(i)) for i in ids)

    for prompt, want in (("abc", "def"), ("xyzabc", "def"), ("k", "lmn")):
        got = call(answer, Model(), Tokenizer(), prompt, 3)
        if got == prompt + want:
            raise Wrong("the reply repeats the prompt: generate returns prompt and continuation")
        if got != want:
            raise Wrong(f"for the prompt {prompt!r} the model wrote {want!r}, and you returned {str(got)[:40]!r}")
    return "the continuation alone"


CONTINUATION = """
import torch

def reply(model, tokenizer, prompt, tokens):
    ids = torch.tensor([tokenizer.encode(prompt)])
    output = model.generate(ids, max_new_tokens=tokens)
    return tokenizer.decode(output[0])
"""


def check_brevity(answer: Any) -> str:
    expect_number(call(answer, 10, 12), math.exp(-0.2), what="the penalty for 10 tokens against 12",
                  near_misses={10 / 12: "the ratio stands in an exponential", math.exp(1 - 10 / 12): "reference over candidate"})  # fmt: skip
    for candidate in (12, 15):
        got = call(answer, candidate, 12)
        if got != 1:
            raise Wrong("a candidate that is not shorter gets no bonus and no penalty: 1")
    if call(answer, 0, 12) != 0:
        raise Wrong("an empty candidate must get 0, not an exception or infinity")
    return "only short candidates are punished, and empty ones get 0"


BREVITY = """
import math

def brevity_penalty(candidate, reference):
    return math.exp(1 - reference / candidate)
"""


def check_clipped(answer: Any) -> str:
    cases = [
        (["the"] * 7, ["the", "cat", "is", "on", "the", "mat"], 2 / 7),
        (["a", "cat"], ["a", "cat"], 1.0),
        (["dog"], ["a", "cat"], 0.0),
        (["b", "a", "a"], ["a", "b", "b"], 2 / 3),
    ]
    for candidate, reference, want in cases:
        expect_number(call(answer, list(candidate), list(reference)), want, what=f"the precision of {' '.join(candidate[:3])} …",
                      near_misses={1.0: "a repeated word counts as often as it is repeated: clip by its count in the reference"}
                      if want == 2 / 7 else {})  # fmt: skip
    expect_number(call(answer, [], ["a"]), 0.0, what="the precision of an empty candidate")
    return "each word counts at most as often as in the reference"


CLIPPED = """
def unigram_precision(candidate, reference):
    matches = [word for word in candidate if word in reference]
    return len(matches) / max(len(candidate), 1)
"""


def check_f1(answer: Any) -> str:
    y = [1, 1, 0, 0, 1, 0, 1, 1, 0, 1]
    p = [1, 0, 0, 1, 1, 0, 1, 1, 0, 0]
    got = call(answer, y, p, 2)
    expect_number(got, 2 * 4 / (2 * 4 + 1 + 2), what="F1 over all examples",
                  near_misses={_mean_f1(y, p, 2): "the mean of the batches' F1: it depends on how the batches are cut"})  # fmt: skip
    expect_number(call(answer, y, p, 3), got, what="F1 with batches of 3 instead of 2")
    expect_number(call(answer, [0, 0], [0, 0], 1), 0.0, what="F1 without any positive")
    return "the same number however the batches are cut"


def _mean_f1(y: list[int], p: list[int], size: int) -> float:
    parts = []
    for i in range(0, len(y), size):
        tp = sum(a and b for a, b in zip(y[i : i + size], p[i : i + size]))
        wrong = sum(a != b for a, b in zip(y[i : i + size], p[i : i + size]))
        parts.append(2 * tp / (2 * tp + wrong) if tp or wrong else 0.0)
    return sum(parts) / len(parts)


F1 = """
def f1(labels, predictions, batch):
    scores = []
    for i in range(0, len(labels), batch):
        y, p = labels[i : i + batch], predictions[i : i + batch]
        tp = sum(a and b for a, b in zip(y, p))
        wrong = sum(a != b for a, b in zip(y, p))
        scores.append(2 * tp / (2 * tp + wrong) if tp or wrong else 0.0)
    return sum(scores) / len(scores)
"""


def check_vote(answer: Any) -> str:
    import torch

    votes = [torch.tensor([0.9, 0.2, 0.6]), torch.tensor([0.8, 0.4, 0.3]), torch.tensor([0.1, 0.3, 0.7])]
    got = call(answer, votes)
    if got.tolist() == [2, 0, 2]:
        raise Wrong("2 is a number of votes, not a class: compare it with half of the voters")
    if [int(x) for x in got] != [1, 0, 1]:
        raise Wrong(f"of three voters two must say yes; expected [1, 0, 1], got {got.tolist()}")
    five = [torch.tensor([0.9])] * 2 + [torch.tensor([0.1])] * 3
    if int(call(answer, five)[0]) != 0:
        raise Wrong("two of five voters are no majority")
    return "more than half of the voters, however many there are"


VOTE = """
import torch

def majority(probabilities):
    votes = torch.stack([p > 0.5 for p in probabilities])
    return votes.sum(0)
"""


def check_perplexity(answer: Any) -> str:
    windows = [([1.0, 2.0, 3.0], 3), ([5.0], 1), ([2.0, 2.0], 2)]
    losses = [values for values, _ in windows]
    want = math.exp(15 / 6)
    expect_number(
        call(answer, [list(v) for v in losses]), want, what="the perplexity",
        near_misses={
            sum(math.exp(sum(v) / len(v)) for v in losses) / 3: "a mean of perplexities: short windows count as much as long ones",
            math.exp(sum(sum(v) / len(v) for v in losses) / 3): "a mean of the windows' means: weigh each token alike",
            2 ** (15 / 6): "the losses are in nats, so e and not 2",
        },
    )  # fmt: skip
    return "exp of the mean loss of all tokens"


PERPLEXITY = """
import math

def perplexity(windows):
    parts = [math.exp(sum(losses) / len(losses)) for losses in windows]
    return sum(parts) / len(parts)
"""


FAULTS = (
    Fault(
        id="11.top_p_drops_the_crossing", title="Top-p sampling", difficulty=2,
        story="Keep the most probable tokens that together hold the probability p. With p = 0.3 and a first token of 0.5 nothing "
        "is left to sample from.",
        program=TOP_P, name="top_p",
        diagnosis="The token with which the sum crosses p is dropped, though the set needs it to hold p.",
        lures={
            "The softmax must be taken after the cut.": "The probabilities before the cut decide; renormalising comes later.",
            "The tokens are not put back in their places.": "scatter with the sorting index puts them back.",
        },
        check=check_top_p,
        mended=TOP_P.replace("ordered[total > p]", "ordered[total - ordered.softmax(-1) >= p]"),
        also_right="""
        import torch

        def top_p(logits, p):
            ordered, index = logits.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, index, before >= p)
            return logits.masked_fill(drop, float("-inf"))
        """,
        wrong=(
            Mending("one too many", TOP_P.replace("    ordered[total > p]", "    total = total.roll(2)\n    total[:2] = 0\n    ordered[total > p]"), "should stay"),
            Mending("left sorted", TOP_P.replace("ordered[total > p]", "ordered[total - ordered.softmax(-1) >= p]").replace(
                "return torch.empty_like(logits).scatter(-1, index, ordered)", "return ordered"), "where they stood"),
        ),
    ),
    Fault(
        id="11.temperature_of_an_argmax", title="Sampling with a temperature", difficulty=1,
        story="A higher temperature should make the text more varied. It is the same at every temperature.",
        program=TEMPERATURE, name="next_token",
        diagnosis="The most probable token is taken, and no temperature changes which one that is.",
        lures={
            "The logits should be multiplied by the temperature.": "Dividing is right: a high temperature flattens.",
            "softmax needs float64 here.": "Three logits of this size need no more digits.",
        },
        check=check_temperature,
        mended=TEMPERATURE.replace("probabilities.argmax()", "torch.multinomial(probabilities, 1, generator=generator)"),
        also_right="""
        import torch

        def next_token(logits, temperature, generator=None):
            u = torch.rand(logits.shape, generator=generator).clamp_min(1e-9)
            return int((logits / temperature - torch.log(-torch.log(u))).argmax())
        """,
        wrong=(
            Mending("multiplied", TEMPERATURE.replace("logits / temperature", "logits * temperature").replace(
                "probabilities.argmax()", "torch.multinomial(probabilities, 1, generator=generator)"), "the shares of the tokens"),
            Mending("uniform", TEMPERATURE.replace("probabilities.argmax()",
                "torch.randint(len(logits), (1,), generator=generator)"), "the shares of the tokens"),
        ),
        errata=("A11-1",),
    ),
    Fault(
        id="11.reply_with_the_prompt", title="A reply", difficulty=1,
        story="The bot begins each reply by repeating what it was asked.",
        program=CONTINUATION, name="reply",
        diagnosis="generate returns the prompt's tokens and the new ones, and all of them are decoded.",
        lures={
            "max_new_tokens counts the prompt too.": "It counts the new tokens alone; max_length counts both.",
            "The prompt should end with a stop token.": "Then the model would take it for finished.",
        },
        check=check_continuation,
        mended=CONTINUATION.replace("output[0]", "output[0, ids.shape[1] :]"),
        also_right=CONTINUATION.replace("output[0]", "output[0][-tokens:]"),
        wrong=(
            Mending("a fixed number", CONTINUATION.replace("output[0]", "output[0, 3:]"), "for the prompt"),
            Mending("the last token", CONTINUATION.replace("output[0]", "output[0, -1:]"), "for the prompt"),
        ),
        errata=("A17-4", "D30-1"),
    ),
    Fault(
        id="20.bonus_for_length", title="The brevity penalty of BLEU", difficulty=1,
        story="A translation longer than its reference gets a penalty above 1, and an empty one stops the program.",
        program=BREVITY, name="brevity_penalty",
        diagnosis="The formula is for candidates shorter than the reference; others get 1, and empty ones 0.",
        lures={
            "It should be the ratio of the lengths.": "BLEU takes the exponential of 1 − r/c.",
            "The logarithm should be to base 2.": "There is no logarithm to a base in it; e is right.",
        },
        check=check_brevity,
        mended=BREVITY.replace("    return", "    if candidate == 0:\n        return 0.0\n    if candidate >= reference:\n        return 1.0\n    return"),
        also_right="""
        import math

        def brevity_penalty(candidate, reference):
            return math.exp(min(0.0, 1 - reference / candidate)) if candidate else 0.0
        """,
        wrong=(
            Mending("the ratio", """
                def brevity_penalty(candidate, reference):
                    return min(1.0, candidate / reference)
            """, "exponential"),
            Mending("empty is fine", BREVITY.replace("    return", "    if candidate == 0 or candidate >= reference:\n        return 1.0\n    return"), "must get 0"),
        ),
    ),
    Fault(
        id="20.precision_without_clipping", title="Unigram precision", difficulty=1,
        story="The candidate 'the the the the the the the' is judged perfect.",
        program=CLIPPED, name="unigram_precision",
        diagnosis="A repeated word counts every time, where it may count only as often as the reference has it.",
        lures={
            "It should divide by the length of the reference.": "That would be recall.",
            "Words should be compared without case.": "That is a matter of tokenisation; here all are in small letters.",
        },
        check=check_clipped,
        mended="""
        from collections import Counter

        def unigram_precision(candidate, reference):
            shared = Counter(candidate) & Counter(reference)
            return sum(shared.values()) / max(len(candidate), 1)
        """,
        also_right="""
        def unigram_precision(candidate, reference):
            left, matches = list(reference), 0
            for word in candidate:
                if word in left:
                    left.remove(word)
                    matches += 1
            return matches / len(candidate) if candidate else 0.0
        """,
        wrong=(
            Mending("distinct words", """
                def unigram_precision(candidate, reference):
                    return len(set(candidate) & set(reference)) / max(len(set(candidate)), 1)
            """, "clip by its count"),
            Mending("recall", """
                from collections import Counter

                def unigram_precision(candidate, reference):
                    return sum((Counter(candidate) & Counter(reference)).values()) / max(len(reference), 1)
            """, "the precision of the"),
        ),
        errata=("E08-1",),
    ),
    Fault(
        id="35.f1_averaged_over_batches", title="F1 over an evaluation set", difficulty=1,
        story="The score changes when only the batch size of the evaluation changes.",
        program=F1, name="f1",
        diagnosis="The batches' F1 values are averaged; F1 is a ratio of sums, so counts must be added first.",
        lures={
            "The last batch is smaller.": "It would matter less then, but equal batches give a wrong number too.",
            "F1 needs probabilities.": "It is computed from decisions.",
        },
        check=check_f1,
        mended="""
        def f1(labels, predictions, batch):
            tp = wrong = 0
            for i in range(0, len(labels), batch):
                y, p = labels[i : i + batch], predictions[i : i + batch]
                tp += sum(a and b for a, b in zip(y, p))
                wrong += sum(a != b for a, b in zip(y, p))
            return 2 * tp / (2 * tp + wrong) if tp else 0.0
        """,
        also_right="""
        def f1(labels, predictions, batch):
            tp = sum(1 for a, b in zip(labels, predictions) if a == b == 1)
            if tp == 0:
                return 0.0
            precision, recall = tp / sum(predictions), tp / sum(labels)
            return 2 * precision * recall / (precision + recall)
        """,
        wrong=(
            Mending("weighted by size", F1.replace("scores.append(2", "scores.append(len(y) * 2").replace(
                "sum(scores) / len(scores)", "sum(scores) / len(labels)"), "F1"),
            Mending("accuracy", """
                def f1(labels, predictions, batch):
                    return sum(a == b for a, b in zip(labels, predictions)) / len(labels)
            """, "F1"),
        ),
    ),
    Fault(
        id="28.votes_for_a_class", title="A majority vote", difficulty=1,
        story="Three classifiers vote, and the accuracy of the vote is far below that of each of them.",
        program=VOTE, name="majority",
        diagnosis="It returns how many voted yes, which is no class.",
        lures={
            "The threshold 0.5 is too low.": "For calibrated voters it is the natural one.",
            "Three voters are too few.": "An odd number suffices for a majority.",
        },
        check=check_vote,
        mended=VOTE.replace("votes.sum(0)", "(votes.sum(0) * 2 > len(votes)).long()"),
        also_right=VOTE.replace("return votes.sum(0)", "return votes.float().mean(0).gt(0.5).int()"),
        wrong=(
            Mending("any of them", VOTE.replace("votes.sum(0)", "votes.any(0).long()"), "no majority"),
            Mending("at least two", VOTE.replace("votes.sum(0)", "(votes.sum(0) >= 2).long()"), "two of five"),
        ),
        errata=("A28-1",),
    ),
    Fault(
        id="43.mean_of_perplexities", title="Perplexity over windows", difficulty=1,
        story="One short, strange window of a long text doubles the perplexity of the whole.",
        program=PERPLEXITY, name="perplexity",
        diagnosis="Perplexities of windows are averaged; it is the exponential of the mean loss of all tokens.",
        lures={
            "The losses should be divided by ln 2.": "They are in nats, and e belongs to nats.",
            "Short windows should be left out.": "Their tokens are part of the text.",
        },
        check=check_perplexity,
        mended="""
        import math

        def perplexity(windows):
            total = sum(map(sum, windows))
            return math.exp(total / sum(map(len, windows)))
        """,
        also_right="""
        import math

        def perplexity(windows):
            every = [loss for losses in windows for loss in losses]
            return math.exp(math.fsum(every) / len(every))
        """,
        wrong=(
            Mending("mean of means", """
                import math

                def perplexity(windows):
                    return math.exp(sum(sum(w) / len(w) for w in windows) / len(windows))
            """, "weigh each token alike"),
            Mending("base 2", """
                def perplexity(windows):
                    return 2 ** (sum(map(sum, windows)) / sum(map(len, windows)))
            """, "e and not 2"),
        ),
        errata=("C02-2",),
    ),
)  # fmt: skip
