"""Faults of part III, training: notebooks 22, 31, 33, 36, 44."""

from __future__ import annotations

from typing import Any

from llmlab.course.checking import Wrong, call, expect_close, expect_number
from llmlab.course.faults.model import Fault, Mending

__all__ = ["FAULTS"]


def check_adam(answer: Any) -> str:
    import torch

    def theirs(steps: int, lr: float) -> Any:
        w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
        optimizer = torch.optim.Adam([w], lr=lr)
        for i in range(steps):
            w.grad = torch.tensor([0.1, -2.0, 30.0]) * (i + 1)
            optimizer.step()
        return w.detach()

    grads = [torch.tensor([0.1, -2.0, 30.0]) * (i + 1) for i in range(5)]
    for steps in (1, 5):
        got = call(answer, torch.tensor([1.0, -2.0, 3.0]), grads[:steps], 0.01)
        plain = _plain_adam(grads[:steps])
        expect_close(
            got, theirs(steps, 0.01), f"the weights after {steps} step{'s' * (steps > 1)}",
            near_misses=[(plain, "both averages begin at zero, and nothing corrects that: the first step is 3 times too long")],
        )  # fmt: skip
    return "step for step the weights of torch.optim.Adam"


def _plain_adam(grads: list[Any]) -> Any:
    import torch

    w, m, v = torch.tensor([1.0, -2.0, 3.0]), torch.zeros(3), torch.zeros(3)
    for g in grads:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 0.01 * m / (v.sqrt() + 1e-8)
    return w


ADAM = """
import torch

def adam(w, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for g in grads:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * m / (v.sqrt() + eps)
    return w
"""


def check_decay(answer: Any) -> str:
    import torch

    grads = [torch.tensor([10.0, 0.001]), torch.tensor([12.0, 0.002]), torch.tensor([9.0, 0.001])]
    w = torch.tensor([1.0, 1.0], requires_grad=True)
    optimizer = torch.optim.AdamW([w], lr=0.01, weight_decay=0.5)
    for g in grads:
        w.grad = g
        optimizer.step()
    got = call(answer, torch.tensor([1.0, 1.0]), grads, 0.01, 0.5)
    inside = torch.tensor([1.0, 1.0], requires_grad=True)
    other = torch.optim.Adam([inside], lr=0.01, weight_decay=0.5)
    for g in grads:
        inside.grad = g
        other.step()
    expect_close(
        got, w.detach(), "the weights after three steps",
        near_misses=[(inside.detach(), "the decay is still part of the gradient, so the root of the second moment divides it")],
        hint="decay moves w by lr · decay · w, beside Adam's own step",
    )  # fmt: skip
    return "the weights of torch.optim.AdamW"


DECAY = """
import torch

def adamw(w, grads, lr, decay, beta1=0.9, beta2=0.999, eps=1e-8):
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        g = g + decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        step = m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps)
        w = w - lr * step
    return w
"""


def check_clip(answer: Any) -> str:
    import torch

    g = [torch.tensor([3.0, 0.0]), torch.tensor([[0.0], [4.0]])]
    got = call(answer, g, 1.0)
    if not isinstance(got, list | tuple) or len(got) != 2:
        raise Wrong("return the two gradients, in a list")
    flat = torch.cat([x.flatten() for x in got])
    want = torch.tensor([0.6, 0.0, 0.0, 0.8])
    each = torch.tensor([1.0, 0.0, 0.0, 1.0])
    expect_close(flat, want, "the clipped gradients",
                 near_misses=[(each, "every tensor, or every component, is clipped by itself, so the direction changes")])  # fmt: skip
    small = [torch.tensor([1e-8, 0.0])]
    left = call(answer, small, 1.0)[0]
    if not torch.equal(left, small[0]):
        raise Wrong("a gradient of norm 1e-8 must come back as it is: clipping only makes smaller")
    expect_close(call(answer, g, 10.0)[0], g[0], "a gradient within the limit")
    return "one factor for all, and never above 1"


CLIP = """
import torch

def clip_by_norm(gradients, limit):
    clipped = []
    for g in gradients:
        clipped.append(g * min(1.0, limit / float(g.norm())))
    return clipped
"""


def check_cosine(answer: Any) -> str:
    import math

    rates = [call(answer, step, 1.0, 10, 100) for step in range(0, 161)]
    expect_number(rates[5], 0.5, what="the rate at step 5 of 10 warm-up steps")
    expect_number(rates[10], 1.0, what="the rate at the end of the warm-up")
    expect_number(rates[55], 0.5 * (1 + math.cos(math.pi * 0.5)), what="the rate at step 55")
    if rates[100] > 1e-9:
        raise Wrong("at the last step the rate must be zero")
    if max(rates[100:]) > 1e-9:
        raise Wrong("behind the last step the rate climbs again: a cosine is periodic")
    return "it rises, falls to zero and stays there"


COSINE = """
import math

def rate(step, peak, warmup, total):
    if step < warmup:
        return peak * step / warmup
    share = (step - warmup) / (total - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * share))
"""


def check_accumulate(answer: Any) -> str:
    import torch

    x = torch.arange(12.0).reshape(6, 2) / 10
    y = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0, 3.0])
    w = torch.tensor([0.5, -0.5])
    right = _gradient(x, y, w)
    summed = sum(_gradient(x[i : i + 2], y[i : i + 2], w) for i in (0, 2, 4))
    got = call(answer, x, y, w, 2)
    expect_close(got, right, "the accumulated gradient",
                 near_misses=[(summed, "the micro-batches' means are added up: divide by their number")])  # fmt: skip
    uneven = call(answer, x, y, w, 4)
    expect_close(uneven, right, "the gradient with micro-batches of 4 and 2",
                 hint="a smaller last micro-batch must count by its size")  # fmt: skip
    return "the gradient of the whole batch, also when the last micro-batch is smaller"


def _gradient(x: Any, y: Any, w: Any) -> Any:
    return 2 * ((x @ w - y).unsqueeze(1) * x).mean(0)


ACCUMULATE = """
import torch

def accumulated_gradient(x, y, w, size):
    w = w.clone().requires_grad_()
    for start in range(0, len(x), size):
        part, target = x[start : start + size], y[start : start + size]
        loss = ((part @ w - target) ** 2).mean()
        loss.backward()
    return w.grad
"""


def check_stopping(answer: Any) -> str:
    noisy = [3.0, 2.5, 2.6, 2.2, 2.25, 2.21, 1.9, 1.95, 1.93, 1.96, 1.97]
    cases = [
        (noisy, 3, 6),
        ([3.0, 2.0, 1.0], 3, 2),
        ([1.0, 2.0, 3.0, 4.0, 0.5], 3, 0),
        ([2.0, 2.0, 2.0], 1, 0),
        ([5.0], 2, 0),
    ]
    for losses, patience, best in cases:
        got = call(answer, list(losses), patience)
        if got == 1 and losses is noisy:
            raise Wrong("it stopped at the first epoch that was not better: that is noise, and patience was 3")
        if got == 4 and losses[-1] == 0.5:
            raise Wrong("training had ended before that epoch: three epochs in a row brought nothing")
        if got != best:
            raise Wrong(
                f"losses {losses} with patience {patience}: the weights to keep are those of another epoch than {got}"
            )
    return "it waits, stops, and keeps the best epoch"


STOPPING = """
def best_epoch(losses, patience):
    for epoch in range(1, len(losses)):
        if losses[epoch] >= losses[epoch - 1]:
            return epoch - 1
    return len(losses) - 1
"""


def check_weights(answer: Any) -> str:
    import torch

    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    got = call(answer, labels, 3)
    expect_close(got, torch.tensor([100 / 270, 100 / 27, 100 / 3]), "the weights of the classes",
                 near_misses=[(torch.tensor([0.9, 0.09, 0.01]), "frequent classes must get small weights: take the inverse"),
                              (torch.tensor([2.7, 0.27, 0.03]), "frequent classes must get small weights: take the inverse")])  # fmt: skip
    empty = call(answer, torch.tensor([0, 0, 1]), 4)
    if not torch.isfinite(empty).all() or len(empty) != 4:
        raise Wrong("a class that does not occur must get a finite weight, and every class one entry")
    return "rare classes weigh more, absent ones nothing dangerous, and each class has its entry"


WEIGHTS = """
import torch

def class_weights(labels, classes):
    counts = torch.bincount(labels).float()
    return classes * counts / counts.sum()
"""


def check_doctor(answer: Any) -> str:
    import torch
    from torch import nn

    torch.manual_seed(0)
    if answer(nn.Linear(2, 2)) is not None:
        raise Wrong("a sound model must pass: return None")
    ill: list[tuple[str, Any]] = [
        ("has no parameters", nn.ReLU()),
        ("holds a NaN", nn.Linear(2, 2)),
        ("is frozen", nn.Linear(2, 2)),
    ]
    for what, model in ill:
        if what == "holds a NaN":
            with torch.no_grad():
                model.weight[0, 1] = float("nan")
        if what == "is frozen":
            model.requires_grad_(False)
        said = answer(model)
        if not isinstance(said, str) or not said:
            raise Wrong(f"a model that {what} passed the examination")
    return "no parameters, NaN and frozen weights are all noticed"


DOCTOR = """
import torch

def examine(model):
    if model.parameters() is None:
        return "the model has no parameters"
    for name, p in model.named_parameters():
        if p is torch.nan:
            return f"{name} holds a NaN"
        if p.requires_grad is None:
            return f"{name} is frozen"
    return None
"""


def check_split(answer: Any) -> str:
    import random

    texts = [f"text {i % 40}" for i in range(100)]
    train, test = call(answer, list(texts), 0.25)
    if set(train) & set(test):
        raise Wrong("some texts stand on both sides of the split: deduplicate before you split")
    if sorted(set(train) | set(test)) != sorted(set(texts)):
        raise Wrong("some texts got lost: every distinct text belongs to one side")
    if not 6 <= len(set(test)) <= 14:
        raise Wrong("about a quarter of the distinct texts belongs into the test set")
    random.seed(3)
    if call(answer, list(texts), 0.25) != (train, test):
        raise Wrong("the split must be the same in every run: use a generator of its own with a seed")
    ordered = [f"t{i:03}" for i in range(200)]
    test = call(answer, ordered, 0.25)[1]
    if set(test) in (set(ordered[-50:]), set(ordered[:50])):
        raise Wrong("the first or last texts are no random sample: shuffle")
    return "no text on both sides, none lost, the same every time"


SPLIT = """
import random

def split(texts, share):
    texts = list(texts)
    random.Random(0).shuffle(texts)
    cut = int(len(texts) * share)
    return texts[cut:], texts[:cut]
"""


FAULTS = (
    Fault(
        id="22.adam_without_correction", title="Adam", difficulty=2,
        story="Adam from its paper's formulas. The first steps are about three times as long as those of torch.optim.Adam, "
        "later ones agree better and better.",
        program=ADAM, name="adam",
        diagnosis="Nothing corrects for both averages having begun at zero.",
        lures={
            "eps stands outside the square root.": "That is where Adam has it.",
            "The second moment should average the gradient's deviation from its mean.": "Adam averages the plain square.",
            "The learning rate should decay.": "Adam has no schedule of its own, and torch's does not decay either.",
        },
        check=check_adam,
        mended=ADAM.replace("for g in grads", "for t, g in enumerate(grads, 1)").replace(
            "lr * m / (v.sqrt() + eps)", "lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)"),
        also_right="""
        import torch

        def adam(w, grads, lr):
            w = w.clone().requires_grad_()
            optimizer = torch.optim.Adam([w], lr=lr)
            for g in grads:
                w.grad = g
                optimizer.step()
            return w.detach()
        """,
        wrong=(
            Mending("only the first moment corrected", ADAM.replace("for g in grads", "for t, g in enumerate(grads, 1)").replace(
                "lr * m /", "lr * m / (1 - beta1**t) /"), "the weights after 1 step"),
            Mending("counted from zero", ADAM.replace("for g in grads", "for t, g in enumerate(grads)").replace(
                "lr * m / (v.sqrt() + eps)", "lr * (m / (1 - beta1**t + 1e-9)) / ((v / (1 - beta2**t + 1e-9)).sqrt() + eps)"),
                "the weights after 1 step"),
        ),
        errata=("B08-3",),
    ),
    Fault(
        id="22.decay_in_the_gradient", title="AdamW", difficulty=2,
        story="Weight decay for Adam. A weight with large gradients hardly decays, one with tiny gradients is pulled to zero at "
        "full speed, although both have the same decay.",
        program=DECAY, name="adamw",
        diagnosis="The decay is added to the gradient, so the root of the second moment divides it too.",
        lures={
            "The decay should be multiplied by the learning rate twice.": "Once is right: lr · decay · w.",
            "The bias correction is wrong.": "It is Adam's: each average is divided by 1 − βᵗ.",
        },
        check=check_decay,
        mended=DECAY.replace("        g = g + decay * w\n", "").replace("w = w - lr * step", "w = w - lr * step - lr * decay * w"),
        also_right=DECAY.replace("        g = g + decay * w\n", "        w = w * (1 - lr * decay)\n"),
        wrong=(
            Mending("without the rate", DECAY.replace("        g = g + decay * w\n", "").replace(
                "w = w - lr * step", "w = w - lr * step - decay * w"), "the weights after three steps"),
            Mending("decay dropped", DECAY.replace("        g = g + decay * w\n", ""), "the weights after three steps"),
        ),
    ),
    Fault(
        id="36.clip_each_tensor", title="Clipping by the global norm", difficulty=1,
        story="The gradients of all parameters together should be scaled down to a norm of at most the limit, without turning "
        "their direction. Layers with large gradients lose more than the others.",
        program=CLIP, name="clip_by_norm",
        diagnosis="Each tensor is scaled by its own norm, not all of them by the norm of all.",
        lures={
            "The factor can be above 1.": "min(1.0, …) keeps it from that.",
            "The norm should be the largest absolute value.": "Global-norm clipping uses the Euclidean norm.",
        },
        check=check_clip,
        mended=CLIP.replace("    clipped = []\n", "    total = sum(float(g.pow(2).sum()) for g in gradients) ** 0.5\n    clipped = []\n").replace(
            "float(g.norm())", "max(total, 1e-30)"),
        also_right="""
        import torch

        def clip_by_norm(gradients, limit):
            total = torch.cat([g.flatten() for g in gradients]).norm()
            return [g * limit / total if total > limit else g.clone() for g in gradients]
        """,
        wrong=(
            Mending("by value", """
                def clip_by_norm(gradients, limit):
                    return [g.clamp(-limit, limit) for g in gradients]
            """, "direction changes"),
            Mending("always to the limit", """
                import torch

                def clip_by_norm(gradients, limit):
                    total = torch.cat([g.flatten() for g in gradients]).norm()
                    return [g * limit / total for g in gradients]
            """, "clipping only makes smaller"),
        ),
        errata=("B07-3", "B07-2"),
    ),
    Fault(
        id="36.cosine_that_climbs", title="Warm-up and cosine", difficulty=1,
        story="The rate rises for the warm-up and falls along a cosine to zero at the last step. Somebody trains a little "
        "longer, and the loss jumps.",
        program=COSINE, name="rate",
        diagnosis="Behind the last step the cosine goes on and the rate climbs again.",
        lures={
            "The warm-up begins at zero, so the first step does nothing.": "A warm-up may begin at zero.",
            "The cosine should have no factor 0.5.": "Without it the peak would be twice as high.",
        },
        check=check_cosine,
        mended=COSINE.replace("share = (step - warmup) / (total - warmup)", "share = min((step - warmup) / (total - warmup), 1.0)"),
        also_right=COSINE.replace("    share =", "    if step >= total:\n        return 0.0\n    share ="),
        wrong=(
            Mending("cut too early", COSINE.replace("    share =", "    if step >= total - warmup:\n        return 0.0\n    share =")
                    .replace("(total - warmup)\n", "(total - 2 * warmup)\n"), "the rate at step 55"),
            Mending("modulo", COSINE.replace("    if step < warmup", "    step = step % (total + 1)\n    if step < warmup"), "climbs again"),
        ),
        errata=("A36-1",),
    ),
    Fault(
        id="36.accumulate_without_dividing", title="Gradient accumulation", difficulty=2,
        story="Micro-batches should give the gradient of the whole batch. With three of them the steps are three times as long.",
        program=ACCUMULATE, name="accumulated_gradient",
        diagnosis="The means of the micro-batches are added up, where their weighted mean is wanted.",
        lures={
            "The gradient should be set to zero between micro-batches.": "Then only the last one would count.",
            "backward must be called once, at the end.": "Calling it for each micro-batch is what saves the memory.",
        },
        check=check_accumulate,
        mended=ACCUMULATE.replace("loss.backward()", "(loss * len(part) / len(x)).backward()"),
        also_right=ACCUMULATE.replace("** 2).mean()", "** 2).sum() / len(x)"),
        wrong=(
            Mending("by their number", ACCUMULATE.replace("loss.backward()", "(loss * size / len(x)).backward()"), "micro-batches of 4 and 2"),
            Mending("zeroed in between", ACCUMULATE.replace("        part,", "        w.grad = None\n        part,"), "the accumulated gradient"),
        ),
    ),
    Fault(
        id="33.stop_at_the_first_bad_epoch", title="Early stopping", difficulty=1,
        story="Given the validation losses epoch by epoch, say which epoch's weights to keep. It keeps much too early ones, "
        "although the loss is still falling.",
        program=STOPPING, name="best_epoch",
        diagnosis="It stops at the first epoch that is not better than the one before; patience is ignored.",
        lures={
            "It should compare training losses.": "Those fall on while the model over-fits.",
            "It should return the last epoch.": "The last ones are the worse ones; the best is wanted.",
        },
        check=check_stopping,
        mended="""
        def best_epoch(losses, patience):
            best = 0
            for epoch, loss in enumerate(losses):
                if loss < losses[best]:
                    best = epoch
                elif epoch - best >= patience:
                    break
            return best
        """,
        also_right="""
        def best_epoch(losses, patience):
            best, waited = 0, 0
            for epoch in range(1, len(losses)):
                waited += 1
                if losses[epoch] < losses[best]:
                    best, waited = epoch, 0
                if waited == patience:
                    return best
            return best
        """,
        wrong=(
            Mending("never stops", """
                def best_epoch(losses, patience):
                    return losses.index(min(losses))
            """, "had ended before"),
            Mending("keeps the last", """
                def best_epoch(losses, patience):
                    best = 0
                    for epoch, loss in enumerate(losses):
                        if loss < losses[best]:
                            best = epoch
                        elif epoch - best >= patience:
                            return epoch
                    return best
            """, "of another epoch"),
        ),
        errata=("A33-1",),
    ),
    Fault(
        id="33.split_before_deduplication", title="A split into training and test", difficulty=1,
        story="A random split, seeded, of texts many of which occur more than once. The test accuracy is far better than what "
        "users see.",
        program=SPLIT, name="split",
        diagnosis="Copies of one text land on both sides, so the test asks what was learnt by heart.",
        lures={
            "The seed makes the split unfair.": "A fixed seed makes it repeatable, no more.",
            "The test set is too small.": "A small test set widens the interval, it does not raise the score.",
        },
        check=check_split,
        mended=SPLIT.replace("texts = list(texts)", "texts = sorted(set(texts))"),
        also_right="""
        import random

        def split(texts, share):
            unique = list(dict.fromkeys(texts))
            order = list(range(len(unique)))
            random.Random(1).shuffle(order)
            cut = round(len(unique) * share)
            return [unique[i] for i in order[cut:]], [unique[i] for i in order[:cut]]
        """,
        wrong=(
            Mending("not shuffled", """
                def split(texts, share):
                    texts = list(dict.fromkeys(texts))
                    cut = int(len(texts) * share)
                    return texts[cut:], texts[:cut]
            """, "no random sample"),
            Mending("another split each time", SPLIT.replace("texts = list(texts)", "texts = sorted(set(texts))").replace(
                "random.Random(0).shuffle", "random.shuffle"), "the same in every run"),
        ),
        errata=("A43-2",),
    ),
    Fault(
        id="31.weights_the_wrong_way", title="Class weights", difficulty=1,
        story="Weights for a loss on imbalanced labels. Training with them makes the rare classes disappear altogether, and a "
        "class that does not occur makes the loss refuse them.",
        program=WEIGHTS, name="class_weights",
        diagnosis="The weights grow with the frequency, and there is one only for classes up to the largest label seen.",
        lures={
            "The weights should be normalised to sum to 1.": "Their scale does not change which class is neglected.",
            "bincount must run on the training and test labels together.": "Test labels have no business here.",
        },
        check=check_weights,
        mended=WEIGHTS.replace("torch.bincount(labels)", "torch.bincount(labels, minlength=classes)").replace(
            "classes * counts / counts.sum()", "counts.sum() / (classes * counts.clamp(min=1))"),
        also_right="""
        import torch

        def class_weights(labels, classes):
            weights = torch.zeros(classes)
            for c in range(classes):
                n = int((labels == c).sum())
                weights[c] = len(labels) / (classes * n) if n else 0.0
            return weights
        """,
        wrong=(
            Mending("infinite for an absent class", WEIGHTS.replace("torch.bincount(labels)", "torch.bincount(labels, minlength=classes)")
                    .replace("classes * counts / counts.sum()", "counts.sum() / (classes * counts)"), "finite weight"),
            Mending("too few", WEIGHTS.replace("classes * counts / counts.sum()", "counts.sum() / (classes * counts.clamp(min=1))"),
                    "every class one entry"),
        ),
        errata=("A31-1", "A31-3"),
    ),
    Fault(
        id="44.checks_that_cannot_fail", title="An examination of a model", difficulty=2,
        story="It should say what is wrong with a model before training: no parameters, a NaN among them, frozen ones. It has "
        "never complained.",
        program=DOCTOR, name="examine",
        diagnosis="None of the three conditions can ever be true, whatever the model.",
        lures={
            "It returns None for a sound model, which prints nothing.": "Returning None is what a sound model should get.",
            "The model must be in evaluation mode.": "The mode changes no parameter.",
        },
        check=check_doctor,
        mended="""
        import torch

        def examine(model):
            if sum(p.numel() for p in model.parameters()) == 0:
                return "the model has no parameters"
            for name, p in model.named_parameters():
                if torch.isnan(p).any():
                    return f"{name} holds a NaN"
                if not p.requires_grad:
                    return f"{name} is frozen"
            return None
        """,
        also_right="""
        import torch

        def examine(model):
            named = dict(model.named_parameters())
            if not named:
                return "nothing to train"
            bad = [n for n, p in named.items() if not torch.isfinite(p).all() or not p.requires_grad]
            return ", ".join(bad) or None
        """,
        wrong=(
            Mending("an empty generator is no list", DOCTOR.replace("model.parameters() is None", "not model.parameters()").replace(
                "p is torch.nan", "torch.isnan(p).any()").replace("p.requires_grad is None", "not p.requires_grad"), "has no parameters"),
            Mending("compared with NaN", DOCTOR.replace("model.parameters() is None", "not list(model.parameters())").replace(
                "p is torch.nan", "(p == torch.nan).any()").replace("p.requires_grad is None", "not p.requires_grad"), "holds a NaN"),
        ),
        errata=("A44-1",),
    ),
)  # fmt: skip
