"""Faults of part II, models and data: notebooks 07, 08, 09, 10, 19, 41, 42."""

from __future__ import annotations

from typing import Any

from llmlab.course.checking import Wrong, call, expect_close, expect_number
from llmlab.course.faults.model import Fault, Mending

__all__ = ["FAULTS"]


def check_labels(answer: Any) -> str:
    import torch

    torch.manual_seed(0)
    logits = torch.randn(2, 5, 7)
    ids = torch.tensor([[1, 2, 3, 4, 0], [5, 6, 1, 0, 0]])
    cross = torch.nn.functional.cross_entropy
    target = ids[:, 1:].clone()
    target[target == 0] = -100
    right = cross(logits[:, :-1].flatten(0, 1), target.flatten())
    unshifted = ids.clone()
    unshifted[unshifted == 0] = -100
    expect_close(
        call(answer, logits, ids, 0), right, "the loss",
        near_misses=[
            (cross(logits.flatten(0, 1), unshifted.flatten()), "position t must predict the token at t + 1: nothing is shifted"),
            (cross(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()), "padding counts as a token to be predicted"),
            (cross(logits[:, 1:].flatten(0, 1), unshifted[:, :-1].flatten()), "shifted the wrong way: the future predicts the past"),
        ],
    )  # fmt: skip
    return "position t predicts the token at t + 1, and padding nothing"


LABELS = """
import torch.nn.functional as F

def language_model_loss(logits, ids, pad):
    labels = ids.masked_fill(ids == pad, -100)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())
"""


def check_masking(answer: Any) -> str:
    import torch

    ids = torch.randint(10, 100, (400, 50), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = 1, 2  # CLS, SEP
    torch.manual_seed(5)
    inputs, labels = call(answer, ids.clone(), {1, 2}, 3, 100)
    chosen = labels != -100
    if bool(chosen[:, 0].any() or chosen[:, -1].any()):
        raise Wrong("special tokens are to be predicted too: leave them out of the choice")
    if not torch.equal(labels[chosen], ids[chosen]):
        raise Wrong("a label is not the token that stood there")
    if not torch.equal(inputs[~chosen], ids[~chosen]):
        raise Wrong("a token that is not to be predicted was changed")
    share = float(chosen[:, 1:-1].float().mean())
    if abs(share - 0.15) > 0.02:
        raise Wrong(f"{share:.0%} of the tokens are to be predicted, where 15 % should be")
    masked = float((inputs[chosen] == 3).float().mean())
    kept = float((inputs[chosen] == ids[chosen]).float().mean())
    if abs(masked - 0.8) > 0.04 or abs(kept - 0.1) > 0.04:
        raise Wrong(
            f"of the chosen, {masked:.0%} become [MASK] and {kept:.0%} stay; 80 % and 10 % are wanted, the rest random"
        )
    return "15 % chosen, of them 80 / 10 / 10, and no special token"


MASKING = """
import torch

def mask_tokens(ids, special, mask, vocabulary):
    labels = ids.clone()
    chosen = torch.rand(ids.shape) < 0.15
    labels[~chosen] = -100
    inputs = ids.clone()
    inputs[chosen] = mask
    return inputs, labels
"""


def check_chunks(answer: Any) -> str:
    text = "".join(chr(97 + i % 26) for i in range(53))
    for size, overlap in ((20, 5), (10, 0), (60, 5), (7, 6)):
        got = call(answer, text, size, overlap)
        covered = set()
        for start, piece in got:
            if text[start : start + len(piece)] != piece:
                raise Wrong(f"the piece {piece[:8]!r} does not stand at {start}: offsets count characters of the text")
            if len(piece) > size:
                raise Wrong(f"a piece has {len(piece)} characters, more than {size}")
            covered |= set(range(start, start + len(piece)))
        if covered != set(range(len(text))):
            raise Wrong("the end of the text is in no piece")
        for (a, first), (b, _) in zip(got, got[1:]):
            if a + len(first) - b < overlap:
                raise Wrong(f"neighbouring pieces share fewer than {overlap} characters")
        if len(got) > 2 and got[-1][0] + len(got[-1][1]) == got[-2][0] + len(got[-2][1]):
            raise Wrong("the last piece lies inside the one before it")
    if call(answer, "", 10, 2) != []:
        raise Wrong("an empty text has no pieces")
    return "all of the text, with the overlap, and true offsets"


CHUNKS = """
def chunks(text, size, overlap):
    pieces = []
    step = size - overlap
    for i in range(len(text) // step):
        pieces.append((i * size, text[i * step : i * step + size]))
    return pieces
"""


def check_clean(answer: Any) -> str:
    for text, want in (
        ("<p>价格 3.5 元，不便宜！</p>", "价格 3.5 元，不便宜！"),
        ("NOT   bad\\n at\\tall".replace("\\n", "\n").replace("\\t", "\t"), "NOT bad at all"),
        ("a < b and b > c", "a < b and b > c"),
        ("Café №5", "Café №5"),
        ("", ""),
    ):
        got = call(answer, text)
        if got != want:
            gone = [c for c in want if c not in got and c.strip()]
            if any("\u4e00" <= c <= "\u9fff" for c in gone):
                raise Wrong("the Chinese is gone: [^a-z] is everything that is no Latin letter")
            if any(c.isdigit() for c in gone):
                raise Wrong("the numbers are gone")
            if "NOT" in want and "NOT" not in got:
                raise Wrong("upper case is gone, and with it a cue")
            raise Wrong(f"{text!r} became {got!r}")
    return "tags and extra blanks go, everything that means something stays"


CLEAN = """
import re

def clean(text):
    text = re.sub(r"<[^>]+>", " ", text).lower()
    text = re.sub(r"[^a-z ]", "", text)
    return " ".join(text.split())
"""


def check_duplicates(answer: Any) -> str:
    texts = ["good", "good ", "bad", "fine", "good", "Bad"]
    got = call(answer, list(texts))
    if got == ["good", "good ", "bad", "fine", "Bad"]:
        raise Wrong("'good' and 'good ' differ in a blank alone, and both are kept")
    if got != ["good", "bad", "fine", "Bad"]:
        raise Wrong(f"of {texts} the first of each should stay, in order; you return {got}")
    if call(answer, ["不错", "不错。", "好"]) != ["不错", "不错。", "好"]:
        raise Wrong("texts that differ in a full stop are different texts: only blanks around them do not count")
    many = [f"text {i}" for i in range(3000)]
    if call(answer, many + many) != many:
        raise Wrong("of 3,000 texts, each twice, 3,000 should stay")
    return "the first of each, in their order, blanks at the ends not counted"


DUPLICATES = """
def deduplicate(texts):
    kept = []
    for text in texts:
        if hash(text) % 1000 not in {hash(other) % 1000 for other in kept[-50:]}:
            kept.append(text)
    return kept
"""


def check_answer_loss(answer: Any) -> str:
    prompt, reply, end = [5, 6, 7], [8, 9], 2
    got = call(answer, prompt, reply, end)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong("return two lists: the ids and the labels")
    ids, labels = got
    if list(ids) != [5, 6, 7, 8, 9, 2]:
        raise Wrong("the ids should be prompt, reply, end token")
    if list(labels) == [5, 6, 7, 8, 9, 2]:
        raise Wrong("the model is trained to write the prompt as well: its labels must be -100")
    if list(labels) == [-100, -100, -100, 8, 9, -100]:
        raise Wrong("the end token is not learnt, so the model will never stop")
    if list(labels) != [-100, -100, -100, 8, 9, 2]:
        raise Wrong(f"labels {list(labels)}: expected -100 for the prompt, then the reply and the end token")
    if call(answer, [], [4], 2) != ([4, 2], [4, 2]):
        raise Wrong("without a prompt everything is the reply")
    return "the loss falls on the reply and on its end"


ANSWER_LOSS = """
def example(prompt, reply, end):
    ids = prompt + reply + [end]
    labels = list(ids)
    return ids, labels
"""


def check_lora(answer: Any) -> str:
    import torch

    torch.manual_seed(0)
    w, a, b = torch.randn(6, 4), torch.randn(2, 4), torch.randn(6, 2)
    x = torch.randn(3, 4)
    want = x @ w.T + (x @ a.T @ b.T) * (16 / 2)
    merged = call(answer, w, a, b, 16)
    if merged.shape != w.shape:
        raise Wrong(f"the merged weight has the shape {tuple(merged.shape)}, not {tuple(w.shape)}")
    expect_close(x @ merged.T, want, "the output of the merged layer",
                 near_misses=[(x @ (w + b @ a).T, "the update is scaled by alpha / rank"),
                              (x @ (w + 16 * b @ a).T, "alpha is divided by the rank")])  # fmt: skip
    if not torch.equal(call(answer, w, a, torch.zeros(6, 2), 16), w):
        raise Wrong("with B = 0 nothing may change")
    return "W + alpha / rank · B A"


LORA = """
import torch

def merge(weight, a, b, alpha):
    return weight + alpha * b @ a
"""


def check_training_cost(answer: Any) -> str:
    expect_number(call(answer, 7e9, 1e12), 4.2e22, what="FLOPs for 7 B parameters and 1 T tokens",
                  near_misses={1.4e22: "2ND is the forward pass alone", 2.8e22: "4ND is the backward pass alone",
                               5.6e22: "8ND includes a recomputed forward pass"})  # fmt: skip
    expect_number(call(answer, 1.0, 1.0), 6.0, what="FLOPs for one parameter and one token")
    return "6ND"


COST = """
def training_flops(parameters, tokens):
    multiply_and_add = 2
    return multiply_and_add * parameters * tokens
"""


FAULTS = (
    Fault(
        id="08.labels_not_shifted", title="The loss of a language model", difficulty=1,
        story="A small GPT trains to a loss of nearly zero within minutes, and what it writes is the last token again and again.",
        program=LABELS, name="language_model_loss",
        diagnosis="The labels are not shifted: each position is asked for the token that it reads.",
        lures={
            "The padding is not ignored.": "-100 is what cross_entropy ignores by default.",
            "The logits should go through a softmax first.": "cross_entropy does that itself.",
            "The loss should be summed, not averaged.": "The mean over tokens is usual, and would not make it copy.",
        },
        check=check_labels,
        mended=LABELS.replace("logits.flatten(0, 1), labels.flatten()", "logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()"),
        also_right="""
        import torch.nn.functional as F

        def language_model_loss(logits, ids, pad):
            return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], ignore_index=pad)
        """,
        wrong=(
            Mending("the wrong way", LABELS.replace("logits.flatten(0, 1), labels.flatten()", "logits[:, 1:].flatten(0, 1), labels[:, :-1].flatten()"), "the wrong way"),
            Mending("padding counted", LABELS.replace("ids.masked_fill(ids == pad, -100)", "ids").replace(
                "logits.flatten(0, 1), labels.flatten()", "logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()"), "padding counts"),
        ),
        errata=("C25-1",),
    ),
    Fault(
        id="07.always_the_mask", title="Masking for BERT", difficulty=2,
        story="15 % of the tokens are to be predicted. In use, where no [MASK] stands in the text, the model's vectors are poor, "
        "and it was also trained to predict [CLS].",
        program=MASKING, name="mask_tokens",
        diagnosis="All chosen tokens become [MASK], where 80 % should, 10 % stay and 10 % be random; and special tokens are chosen too.",
        lures={
            "15 % is too little.": "It is BERT's share; other shares work as well, and explain neither fault.",
            "Labels must be -100 at the chosen places.": "The other way round: there stands what is to be predicted.",
        },
        check=check_masking,
        mended="""
        import torch

        def mask_tokens(ids, special, mask, vocabulary):
            allowed = ~torch.isin(ids, torch.tensor(sorted(special)))
            chosen = (torch.rand(ids.shape) < 0.15) & allowed
            labels = ids.masked_fill(~chosen, -100)
            dice = torch.rand(ids.shape)
            inputs = ids.masked_fill(chosen & (dice < 0.8), mask)
            random = torch.randint(vocabulary, ids.shape)
            return torch.where(chosen & (dice >= 0.9), random, inputs), labels
        """,
        also_right="""
        import torch

        def mask_tokens(ids, special, mask, vocabulary):
            inputs, labels = ids.clone(), torch.full_like(ids, -100)
            for place in torch.nonzero(torch.rand(ids.shape) < 0.15).tolist():
                i, j = place
                if int(ids[i, j]) in special:
                    continue
                labels[i, j] = ids[i, j]
                kind = float(torch.rand(()))
                if kind < 0.8:
                    inputs[i, j] = mask
                elif kind < 0.9:
                    inputs[i, j] = int(torch.randint(vocabulary, ()))
            return inputs, labels
        """,
        wrong=(
            Mending("specials spared only", MASKING.replace("< 0.15", "< 0.15\n    chosen &= ~torch.isin(ids, torch.tensor(sorted(special)))"), "80 % and 10 %"),
            Mending("changed where nothing is predicted", """
                import torch

                def mask_tokens(ids, special, mask, vocabulary):
                    allowed = ~torch.isin(ids, torch.tensor(sorted(special)))
                    chosen = (torch.rand(ids.shape) < 0.15) & allowed
                    labels = ids.masked_fill(~chosen, -100)
                    inputs = ids.masked_fill((torch.rand(ids.shape) < 0.12) & allowed, mask)
                    return inputs, labels
            """, "was changed"),
        ),
    ),
    Fault(
        id="10.chunks_that_lose_the_end", title="Chunks with overlap", difficulty=1,
        story="Pieces of a text with the place where each begins. Answers quoted from the end of a document are never found, "
        "and the places do not fit.",
        program=CHUNKS, name="chunks",
        diagnosis="The division drops the last part of the text, and the places count by the size where they should by the step.",
        lures={
            "The overlap should be added to the size.": "The step is the size less the overlap, as it stands.",
            "Pieces should begin at blanks.": "That is nicer, and loses nothing if they do not.",
        },
        check=check_chunks,
        mended="""
        def chunks(text, size, overlap):
            pieces = []
            for start in range(0, len(text), size - overlap):
                pieces.append((start, text[start : start + size]))
                if start + size >= len(text):
                    break
            return pieces
        """,
        also_right="""
        def chunks(text, size, overlap):
            pieces, start = [], 0
            while text and (not pieces or start + overlap < len(text)):
                pieces.append((start, text[start : start + size]))
                start += size - overlap
            return pieces
        """,
        wrong=(
            Mending("places mended only", CHUNKS.replace("(i * size,", "(i * step,"), "in no piece"),
            Mending("without overlap", """
                def chunks(text, size, overlap):
                    return [(i, text[i : i + size]) for i in range(0, len(text), size)]
            """, "share fewer"),
        ),
    ),
    Fault(
        id="41.cleaned_to_nothing", title="Cleaning of reviews", difficulty=1,
        story="Text before a classifier. Most of the Chinese reviews come out empty, and prices and shouting disappear.",
        program=CLEAN, name="clean",
        diagnosis="It deletes whatever is no small Latin letter: Chinese, digits, case and punctuation.",
        lures={
            "Tags should be removed before the text is cleaned.": "They are, in the first line.",
            "Blanks should not be joined.": "Runs of blanks carry nothing here.",
        },
        check=check_clean,
        mended="""
        import re

        def clean(text):
            text = re.sub(r"</?[a-zA-Z][^<>]*>", " ", text)
            return " ".join(text.split())
        """,
        also_right="""
        import re

        TAG = re.compile(r"</?[A-Za-z]+[^>]*>")

        def clean(text):
            return re.sub(r"\\s+", " ", TAG.sub(" ", text)).strip()
        """,
        wrong=(
            Mending("letters of all scripts", CLEAN.replace("[^a-z ]", "[^\\w ]"), "became"),
            Mending("Chinese kept", CLEAN.replace("[^a-z ]", "[^a-z\u4e00-\u9fff ]"), "numbers are gone"),
        ),
        errata=("A41-2",),
    ),
    Fault(
        id="42.hashes_too_short", title="Exact deduplication", difficulty=2,
        story="The first of each text should stay. Some different texts vanish, copies far apart survive, and so do copies with "
        "a blank behind them.",
        program=DUPLICATES, name="deduplicate",
        diagnosis="It compares hashes of three digits, and only with the last fifty texts.",
        lures={
            "hash differs from run to run.": "It does for strings; within one run it is the same.",
            "Texts should be sorted first.": "Then the order would be lost.",
        },
        check=check_duplicates,
        mended="""
        def deduplicate(texts):
            seen, kept = set(), []
            for text in texts:
                if (key := text.strip()) not in seen:
                    seen.add(key)
                    kept.append(text)
            return kept
        """,
        also_right="""
        def deduplicate(texts):
            first = {}
            for text in texts:
                first.setdefault(text.strip(), text)
            return list(first.values())
        """,
        wrong=(
            Mending("by dict", """
                def deduplicate(texts):
                    return list(dict.fromkeys(texts))
            """, "a blank alone"),
            Mending("letters only", """
                def deduplicate(texts):
                    seen, kept = set(), []
                    for text in texts:
                        key = text.strip(" 。.")
                        if key not in seen:
                            seen.add(key)
                            kept.append(text)
                    return kept
            """, "full stop"),
        ),
    ),
    Fault(
        id="19.loss_on_the_prompt", title="An example for instruction tuning", difficulty=1,
        story="Prompt, reply and end token become ids and labels. After tuning the model likes to write further questions.",
        program=ANSWER_LOSS, name="example",
        diagnosis="The prompt is part of the labels, so the model also learns to write prompts.",
        lures={
            "The end token should not be learnt.": "It is how the model learns to stop.",
            "The labels must be shifted here.": "The model's loss shifts them; shifting twice skips a token.",
        },
        check=check_answer_loss,
        mended=ANSWER_LOSS.replace("list(ids)", "[-100] * len(prompt) + reply + [end]"),
        also_right="""
        def example(prompt, reply, end):
            ids = [*prompt, *reply, end]
            return ids, [t if i >= len(prompt) else -100 for i, t in enumerate(ids)]
        """,
        wrong=(
            Mending("no end", ANSWER_LOSS.replace("list(ids)", "[-100] * len(prompt) + reply + [-100]"), "never stop"),
            Mending("one too many", ANSWER_LOSS.replace("list(ids)", "[-100] * (len(prompt) - 1) + ids[len(prompt) - 1 :]"), "expected -100"),
        ),
    ),
    Fault(
        id="19.merge_without_the_rank", title="Merging LoRA", difficulty=1,
        story="The adapter is merged into the weight. The merged model behaves differently from the model with the adapter beside.",
        program=LORA, name="merge",
        diagnosis="The update is scaled by alpha, where alpha / rank was used in training.",
        lures={
            "A and B are multiplied in the wrong order.": "B is out × rank and A rank × in: B A has the weight's shape.",
            "The merged weight must be transposed.": "It has the shape of the weight, as it should.",
        },
        check=check_lora,
        mended=LORA.replace("alpha * b @ a", "alpha / a.shape[0] * (b @ a)"),
        also_right="""
        import torch

        def merge(weight, a, b, alpha):
            rank = b.shape[1]
            return torch.addmm(weight, b, a, alpha=alpha / rank)
        """,
        wrong=(
            Mending("no scale", LORA.replace("alpha * b @ a", "b @ a"), "alpha / rank"),
            Mending("by the width", LORA.replace("alpha * b @ a", "alpha / a.shape[1] * (b @ a)"), "the merged layer"),
        ),
    ),
    Fault(
        id="09.forward_pass_only", title="The cost of training", difficulty=1,
        story="FLOPs of a training run from parameters and tokens. The bill is three times as high as planned.",
        program=COST, name="training_flops",
        diagnosis="It counts the forward pass; the backward pass costs twice as much on top.",
        lures={
            "A multiplication and an addition are one operation.": "By the usual count they are two.",
            "Each epoch must be counted.": "Tokens are those that are read, repeated ones included.",
        },
        check=check_training_cost,
        mended=COST.replace("multiply_and_add * parameters", "3 * multiply_and_add * parameters"),
        also_right="""
        def training_flops(parameters, tokens):
            forward = 2 * parameters * tokens
            backward = 2 * forward
            return forward + backward
        """,
        wrong=(
            Mending("backward alone", COST.replace("multiply_and_add * parameters", "2 * multiply_and_add * parameters"), "backward pass alone"),
            Mending("recomputed", COST.replace("multiply_and_add * parameters", "4 * multiply_and_add * parameters"), "recomputed"),
        ),
        errata=("D02-1",),
    ),
)  # fmt: skip
