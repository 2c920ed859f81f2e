"""Faults of parts V to VIII: tagging, answering, talking, compressing, augmenting, attacking, adapting, forecasting."""

from __future__ import annotations

from typing import Any

from llmlab.course.checking import Wrong, call, expect_close
from llmlab.course.faults.model import Fault, Mending

__all__ = ["FAULTS"]


def check_tags(answer: Any) -> str:
    cases = [
        (["[CLS]", "Mo", "lives", "in", "Kiel", "[SEP]"], ["O", "B", "O", "O", "B", "O"], [("Mo", "B"), ("Kiel", "B")]),
        (["[CLS]", "rain", "[SEP]"], ["O", "O", "O"], []),
        (["[CLS]", "Ada", "Byron", "[SEP]"], ["B", "B", "I", "B"], [("Ada", "B"), ("Byron", "I")]),
    ]
    for tokens, tags, want in cases:
        got = [tuple(pair) for pair in call(answer, list(tokens), list(tags))]
        if any(token in ("[CLS]", "[SEP]") for token, _ in got):
            raise Wrong("a tag is printed beside [CLS] or [SEP]: those are no words of the text")
        if got != want:
            raise Wrong(
                f"for {tokens} with {tags} expected {want}, got {got}: does each tag stand beside its own token?"
            )
    return "each tag beside its own token, and none beside [CLS] or [SEP]"


TAGS = """
def tagged(tokens, tags):
    pairs = []
    for i, tag in enumerate(tags[1:]):
        if tag != "O":
            pairs.append((tokens[i], tag))
    return pairs
"""


def check_span(answer: Any) -> str:
    import torch

    start = torch.tensor([0.0, 1.0, 5.0, 0.0, 4.0, 0.0])
    end = torch.tensor([0.0, 6.0, 0.0, 3.0, 3.5, 0.0])
    got = tuple(call(answer, start, end, 1, 4))
    if got[1] < got[0]:
        raise Wrong("the span ends before it begins: start and end must be chosen together")
    if got != (2, 4):
        raise Wrong(f"the best span with start <= end has the score 8.5, from 2 to 4; yours is {got}")
    if tuple(call(answer, start, end, 1, 2)) != (2, 3):
        raise Wrong("a span may have at most `longest` tokens")
    end2 = end.clone()
    end2[0], start2 = 99.0, start.clone()
    start2[0] = 99.0
    if tuple(call(answer, start2, end2, 1, 4)) != (2, 4):
        raise Wrong("the answer lies inside the question: search from `first` on")
    return "the best pair inside the passage, in order and not too long"


SPAN = """
import torch

def best_span(start, end, first, longest):
    return int(start.argmax()), int(end.argmax())
"""


def check_chat(answer: Any) -> str:
    heard: list[list[dict[str, str]]] = []

    def model(messages: list[dict[str, str]]) -> str:
        heard.append([dict(m) for m in messages])
        return f"reply {len(heard)}"

    said = call(answer, model, "be brief", ["hello", "my name is Li", "what is my name?"])
    if list(said) != ["reply 1", "reply 2", "reply 3"]:
        raise Wrong("return the replies, one a turn")
    if not any(m["content"] == "my name is Li" for m in heard[-1]):
        raise Wrong("in the third turn the model no longer hears what the user said in the second")
    if not any(m["content"] == "reply 1" for m in heard[-1]):
        raise Wrong("the model does not hear its own earlier replies")
    if [m["content"] for m in heard[-1]] != [
        "be brief",
        "hello",
        "reply 1",
        "my name is Li",
        "reply 2",
        "what is my name?",
    ]:
        raise Wrong("the third turn does not hear the conversation in its order, the oldest turn first")
    want = ["system", "user", "assistant", "user", "assistant", "user"]
    if [m["role"] for m in heard[-1]] != want:
        raise Wrong(
            f"the roles of the third turn should be {', '.join(want)}; they are {[m['role'] for m in heard[-1]]}"
        )
    return "each turn hears everything before it, in order"


CHAT = """
def chat(model, system, turns):
    context = {"role": "system", "content": system}
    replies = []
    for text in turns:
        replies.append(model([context, {"role": "user", "content": text}]))
    return replies
"""


def check_quantise(answer: Any) -> str:
    import torch

    w = torch.tensor([[0.02, -0.01, 0.005, -0.0199], [2.0, -1.0, 0.5, 0.25], [0.0, 0.0, 0.0, 0.0]])
    got = call(answer, w)
    if float(got[0].abs().max()) == 0:
        raise Wrong("all weights of the first row became 0: numbers of this size need a scale before they are rounded")
    if not torch.isfinite(got).all():
        raise Wrong("a row of zeros must stay zeros: its scale would be 0")
    error = (got - w).abs().amax(1)
    limit = w.abs().amax(1) / 127 / 2 * 1.01 + 1e-9
    if bool((error > limit).any()):
        raise Wrong(
            "one row's error is larger than half a step of its own scale: give each row its scale, absmax / 127"
        )
    steps = got[1] / (w[1].abs().max() / 127)
    if float((steps - steps.round()).abs().max()) > 1e-3:
        raise Wrong("the result does not lie on 255 steps: nothing was rounded")
    return "a scale for each row, and rows of zeros stay"


QUANTISE = """
import torch

def int8_and_back(w):
    q = w.round().clamp(-128, 127)
    return q
"""


def check_synonym(answer: Any) -> str:
    import random

    words = ["good", "food", "and", "good", "wine"]
    table = {"good": ["fine"], "wine": ["juice"]}
    seen = set()
    for seed in range(60):
        got = call(answer, list(words), table, random.Random(seed))
        if len(got) != len(words):
            raise Wrong("a replacement changes one word and no length")
        places = [i for i, (a, b) in enumerate(zip(words, got)) if a != b]
        if len(places) != 1:
            raise Wrong("exactly one word should be replaced")
        seen.add(places[0])
    if 3 not in seen:
        raise Wrong("the second 'good' is never replaced: index() finds the first one")
    if seen != {0, 3, 4}:
        raise Wrong("only words that have a synonym may be replaced, and each of their places sometimes")
    if call(answer, ["no", "synonym"], table, random.Random(0)) != ["no", "synonym"]:
        raise Wrong("without any synonym the text stays as it is")
    return "any place that has a synonym, one at a time"


SYNONYM = """
def replace_one(words, synonyms, rng):
    word = rng.choice([w for w in words if w in synonyms])
    words[words.index(word)] = rng.choice(synonyms[word])
    return words
"""


def check_attack(answer: Any) -> str:
    import torch

    w = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 0.0]])
    x, y = torch.tensor([[0.3, 0.6, 0.99]]), torch.tensor([0])

    def loss_of(image: Any) -> Any:
        return torch.nn.functional.cross_entropy(image @ w.T, y)

    got = call(answer, loss_of, x.clone(), 0.05)
    if float((got - x).abs().max()) > 0.05 + 1e-6:
        raise Wrong("a pixel moved by more than epsilon")
    if float(got.max()) > 1 or float(got.min()) < 0:
        raise Wrong("pixels must stay between 0 and 1")
    if float(loss_of(got)) < float(loss_of(x)):
        raise Wrong("the loss of the true class fell: this makes the model surer, an attack must go up the gradient")
    expect_close(got, torch.tensor([[0.25, 0.65, 0.94]]), "the attacked image",
                 hint="each pixel moves by epsilon in the direction of the gradient's sign")  # fmt: skip
    if got.requires_grad:
        raise Wrong("the result still carries a graph: detach it before training on it")
    return "one step up the gradient, inside the ball and the picture"


ATTACK = """
import torch

def attack(loss_of, image, epsilon):
    x = image.clone().requires_grad_()
    loss_of(x).backward()
    return x - epsilon * x.grad
"""


def check_epochs(answer: Any) -> str:
    modes: list[tuple[str, bool]] = []

    class Model:
        training = False

        def train(self) -> None:
            self.training = True

        def eval(self) -> None:
            self.training = False

    def step(model: Any) -> None:
        modes.append(("step", model.training))

    def validate(model: Any) -> float:
        modes.append(("validation", model.training))
        return 1.0

    call(answer, Model(), step, validate, 3, 2)
    steps = [on for kind, on in modes if kind == "step"]
    if len(steps) != 6 or len(modes) != 9:
        raise Wrong("three epochs of two steps, each followed by a validation, are wanted")
    if not all(steps):
        raise Wrong("from the second epoch on the model trains in evaluation mode: dropout is off")
    if any(on for kind, on in modes if kind == "validation"):
        raise Wrong("validation runs in training mode, so its loss is noisy")
    return "training mode for steps, evaluation mode for validation, in every epoch"


EPOCHS = """
def fit(model, step, validate, epochs, steps):
    losses = []
    model.train()
    for _ in range(epochs):
        for _ in range(steps):
            step(model)
        model.eval()
        losses.append(validate(model))
    return losses
"""


def check_time(answer: Any) -> str:
    values = list(range(100))
    train, test = call(answer, list(values), 0.2)
    if not train or not test or len(train) + len(test) != 100:
        raise Wrong("every value belongs to one part")
    if max(train) > min(test):
        raise Wrong(
            "a value of the training part lies behind one of the test part: the future is used to tell the past"
        )
    if len(test) != 20 or list(train) != values[:80]:
        raise Wrong("the last fifth, in its order, is the test part")
    return "what comes later is tested"


TIME = """
import random

def split_series(values, share):
    values = list(values)
    random.Random(0).shuffle(values)
    cut = int(len(values) * (1 - share))
    return values[:cut], values[cut:]
"""


FAULTS = (
    Fault(
        id="14.tags_beside_the_wrong_token", title="Printing named entities", difficulty=1,
        story="Tokens and tags of a tagger. The names that are printed are the words before the names.",
        program=TAGS, name="tagged",
        diagnosis="The tags are cut by one at the front and the tokens are not, so each tag stands beside the token before.",
        lures={
            "A tag other than O is not always a name.": "In BIO every other tag is part of one.",
            "Spans must be merged before printing.": "That would be nicer, and would print the wrong words still.",
        },
        check=check_tags,
        mended="""
        def tagged(tokens, tags):
            inner = zip(tokens[1:-1], tags[1:-1])
            return [(token, tag) for token, tag in inner if tag != "O"]
        """,
        also_right="""
        def tagged(tokens, tags):
            pairs = []
            for i in range(len(tokens)):
                if tags[i] != "O" and tokens[i] not in ("[CLS]", "[SEP]"):
                    pairs.append((tokens[i], tags[i]))
            return pairs
        """,
        wrong=(
            Mending("with the special tokens", """
                def tagged(tokens, tags):
                    return [(token, tag) for token, tag in zip(tokens, tags) if tag != "O"]
            """, "no words of the text"),
            Mending("cut behind", TAGS.replace("tags[1:]", "tags[:-1]").replace("tokens[i]", "tokens[i + 1]"), "no words of the text"),
        ),
        errata=("A14-2",),
    ),
    Fault(
        id="15.start_and_end_alone", title="The span of an answer", difficulty=2,
        story="The reader gives scores for start and end of the answer. Sometimes the answer is empty, sometimes it stands in "
        "the question.",
        program=SPAN, name="best_span",
        diagnosis="Start and end are chosen each for itself, over the whole input, instead of as the best pair in the passage.",
        lures={
            "The scores need a softmax first.": "A softmax changes no order within start or end.",
            "The end should be the first token behind the answer.": "Either convention works, if both sides share it.",
        },
        check=check_span,
        mended="""
        import torch

        def best_span(start, end, first, longest):
            best, found = None, None
            for i in range(first, len(start)):
                for j in range(i, min(i + longest, len(end))):
                    score = float(start[i] + end[j])
                    if best is None or score > best:
                        best, found = score, (i, j)
            return found
        """,
        also_right="""
        import torch

        def best_span(start, end, first, longest):
            scores = start[:, None] + end[None, :]
            allowed = torch.ones_like(scores).triu() - torch.ones_like(scores).triu(longest)
            allowed[:first] = 0
            flat = scores.masked_fill(allowed == 0, float("-inf")).argmax()
            return int(flat) // len(end), int(flat) % len(end)
        """,
        wrong=(
            Mending("swapped", """
                def best_span(start, end, first, longest):
                    a, b = int(start.argmax()), int(end.argmax())
                    return min(a, b), max(a, b)
            """, "from 2 to 4"),
            Mending("any length", """
                def best_span(start, end, first, longest):
                    i = first + int(start[first:].argmax())
                    return i, i + int(end[i:].argmax())
            """, "at most `longest`"),
        ),
        errata=("A15-3",),
    ),
    Fault(
        id="17.no_memory", title="A conversation", difficulty=1,
        story="The bot answers each message well, and cannot say the user's name one turn after it was told.",
        program=CHAT, name="chat",
        diagnosis="Each turn sends the system message and the newest one alone; neither earlier turns nor replies are kept.",
        lures={
            "The system message must come last.": "It stands first in every template.",
            "The model needs fine-tuning on dialogues.": "It may; without the history no model can know the name.",
        },
        check=check_chat,
        mended="""
        def chat(model, system, turns):
            messages = [{"role": "system", "content": system}]
            replies = []
            for text in turns:
                messages.append({"role": "user", "content": text})
                replies.append(model(messages))
                messages.append({"role": "assistant", "content": replies[-1]})
            return replies
        """,
        also_right="""
        def chat(model, system, turns):
            replies = []
            for i in range(len(turns)):
                past = [{"role": "system", "content": system}]
                for text, reply in zip(turns, replies):
                    past += [{"role": "user", "content": text}, {"role": "assistant", "content": reply}]
                replies.append(model([*past, {"role": "user", "content": turns[i]}]))
            return replies
        """,
        wrong=(
            Mending("user turns only", """
                def chat(model, system, turns):
                    messages, replies = [{"role": "system", "content": system}], []
                    for text in turns:
                        messages.append({"role": "user", "content": text})
                        replies.append(model(messages))
                    return replies
            """, "its own earlier replies"),
            Mending("the newest first", """
                def chat(model, system, turns):
                    messages, replies = [], []
                    for text in turns:
                        messages.insert(0, {"role": "user", "content": text})
                        replies.append(model([{"role": "system", "content": system}, *messages]))
                        messages.insert(0, {"role": "assistant", "content": replies[-1]})
                    return replies
            """, "in its order"),
            Mending("everything as the user", """
                def chat(model, system, turns):
                    messages, replies = [{"role": "system", "content": system}], []
                    for text in turns:
                        messages.append({"role": "user", "content": text})
                        replies.append(model(messages))
                        messages.append({"role": "user", "content": replies[-1]})
                    return replies
            """, "the roles"),
        ),
        errata=("A17-2",),
    ),
    Fault(
        id="21.rounded_without_a_scale", title="Weights in eight bits and back", difficulty=1,
        story="After this the model's outputs do not depend on its input any more.",
        program=QUANTISE, name="int8_and_back",
        diagnosis="The weights are rounded to whole numbers as they are; being far below 1, nearly all become 0.",
        lures={
            "The range should be 0 to 255.": "That is another convention, with a zero point; it loses as much.",
            "Eight bits are too few for weights.": "With a scale a row the error is below half a percent of its largest weight.",
        },
        check=check_quantise,
        mended="""
        import torch

        def int8_and_back(w):
            scale = w.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            q = (w / scale).round().clamp(-127, 127).to(torch.int8)
            return q.float() * scale
        """,
        also_right="""
        import torch

        def int8_and_back(w):
            rows = []
            for row in w:
                top = float(row.abs().max())
                rows.append(row if top == 0 else torch.round(row / top * 127) * (top / 127))
            return torch.stack(rows)
        """,
        wrong=(
            Mending("one scale for all", """
                import torch

                def int8_and_back(w):
                    scale = w.abs().max() / 127
                    return (w / scale).round().clamp(-128, 127) * scale
            """, "each row its scale"),
            Mending("zeros divided", """
                import torch

                def int8_and_back(w):
                    scale = w.abs().amax(1, keepdim=True) / 127
                    return (w / scale).round().clamp(-128, 127) * scale
            """, "must stay zeros"),
        ),
        errata=("C09-1",),
    ),
    Fault(
        id="24.the_first_occurrence", title="Replacing a word by a synonym", difficulty=1,
        story="One word of a text is replaced by a synonym. In texts where a word comes twice, only its first place ever changes; "
        "and a text without synonyms stops the program.",
        program=SYNONYM, name="replace_one",
        diagnosis="A word is drawn and then looked up, which finds its first place; drawing from nothing raises an error.",
        lures={
            "rng should be a new generator each time.": "Then every text would change in the same way.",
            "The synonym should be checked for its part of speech.": "A good idea, and not what goes wrong here.",
        },
        check=check_synonym,
        mended="""
        def replace_one(words, synonyms, rng):
            places = [i for i, word in enumerate(words) if word in synonyms]
            words = list(words)
            if places:
                i = rng.choice(places)
                words[i] = rng.choice(synonyms[words[i]])
            return words
        """,
        also_right="""
        def replace_one(words, synonyms, rng):
            order = list(range(len(words)))
            rng.shuffle(order)
            for i in order:
                if words[i] in synonyms:
                    return [*words[:i], rng.choice(synonyms[words[i]]), *words[i + 1 :]]
            return list(words)
        """,
        wrong=(
            Mending("only the error", SYNONYM.replace("    word =", "    if not any(w in synonyms for w in words):\n        return words\n    word =")
                    .replace("    words[words", "    words = list(words)\n    words[words"), "index() finds the first"),
            Mending("every occurrence", """
                def replace_one(words, synonyms, rng):
                    return [rng.choice(synonyms.get(w, [w])) for w in words]
            """, "exactly one word"),
        ),
        errata=("A24-1", "A24-3"),
    ),
    Fault(
        id="26.down_the_gradient", title="An attack on a picture", difficulty=2,
        story="An attack within epsilon. Attacked pictures are recognised better than before, and some pixels leave their range.",
        program=ATTACK, name="attack",
        diagnosis="It goes down the gradient of the loss, by an amount that epsilon does not bound, and leaves the pixel range.",
        lures={
            "The gradient should be taken with respect to the weights.": "An attack changes the picture.",
            "One step is too few for an attack.": "One signed step is the fast gradient sign method.",
        },
        check=check_attack,
        mended=ATTACK.replace("return x - epsilon * x.grad", "return (x + epsilon * x.grad.sign()).clamp(0, 1).detach()"),
        also_right="""
        import torch

        def attack(loss_of, image, epsilon):
            x = image.clone().requires_grad_()
            (slope,) = torch.autograd.grad(loss_of(x), x)
            moved = torch.where(slope > 0, image + epsilon, torch.where(slope < 0, image - epsilon, image))
            return torch.minimum(torch.maximum(moved, torch.zeros_like(moved)), torch.ones_like(moved))
        """,
        wrong=(
            Mending("down by the sign", ATTACK.replace("return x - epsilon * x.grad", "return (x - epsilon * x.grad.sign()).clamp(0, 1).detach()"), "up the gradient"),
            Mending("a share of the picture", ATTACK.replace("return x - epsilon * x.grad", "return (image + epsilon * image).clamp(0, 1)"), "the attacked image"),
        ),
        errata=("A26-2", "A26-3"),
    ),
    Fault(
        id="29.evaluation_mode_stays", title="Epochs of fine-tuning", difficulty=1,
        story="Training over several epochs, each followed by a validation. Dropout works in the first epoch only.",
        program=EPOCHS, name="fit",
        diagnosis="Training mode is set once, before the loop, and validation leaves the model in evaluation mode.",
        lures={
            "Validation should come before the steps.": "Its place is a matter of taste.",
            "Dropout must be set to zero by hand in validation.": "Evaluation mode does that.",
        },
        check=check_epochs,
        mended=EPOCHS.replace("    model.train()\n    for _ in range(epochs):\n", "    for _ in range(epochs):\n        model.train()\n"),
        also_right="""
        def fit(model, step, validate, epochs, steps):
            losses = []
            for _ in range(epochs):
                for _ in range(steps):
                    model.train()
                    step(model)
                model.eval()
                losses.append(validate(model))
            model.train()
            return losses
        """,
        wrong=(
            Mending("no evaluation mode", EPOCHS.replace("        model.eval()\n", ""), "in training mode"),
            Mending("too late", EPOCHS.replace("        losses.append(validate(model))\n", "        losses.append(validate(model))\n    model.train()\n"), "from the second epoch"),
        ),
        errata=("A29-1",),
    ),
    Fault(
        id="48.shuffled_series", title="Splitting a time series", difficulty=1,
        story="A forecaster with an R² of 0.99 in the test, and worse than yesterday's value in use.",
        program=TIME, name="split_series",
        diagnosis="The series is shuffled before the split, so the model is trained on the neighbours of each test value.",
        lures={
            "The test part is too small.": "A fifth is enough to see that a forecast fails.",
            "The seed makes the result lucky.": "Other seeds look as good, and for the same reason.",
        },
        check=check_time,
        mended=TIME.replace("    random.Random(0).shuffle(values)\n", "").replace("int(len(values) * (1 - share))", "len(values) - round(len(values) * share)"),
        also_right="""
        def split_series(values, share):
            held = round(len(values) * share)
            return values[:-held], values[-held:]
        """,
        wrong=(
            Mending("the first part tested", """
                def split_series(values, share):
                    cut = round(len(values) * share)
                    return values[cut:], values[:cut]
            """, "the future is used"),
            Mending("every fifth", """
                def split_series(values, share):
                    step = round(1 / share)
                    return [v for i, v in enumerate(values) if i % step], values[::step]
            """, "the future is used"),
        ),
        errata=("C22-1",),
    ),
)  # fmt: skip
