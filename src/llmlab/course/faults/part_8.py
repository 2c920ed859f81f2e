"""Faults of parts VI and VIII, adapting and making small and fast: notebooks 21, 40, 46, 47, 49."""

from __future__ import annotations

from typing import Any

from llmlab.course.checking import Wrong, call, expect, expect_close, expect_number, expect_shape, expect_type
from llmlab.course.expect import as_array
from llmlab.course.faults.model import Fault, Mending

__all__ = ["FAULTS"]


def check_prune(answer: Any) -> str:
    import torch

    weight = torch.tensor([[0.9, -0.8, 0.1, -0.05], [-0.7, 0.2, 0.6, -0.3]])
    for given in (weight, -weight, weight.T.contiguous()):
        for share, gone in ((0.5, 4), (0.25, 2), (0.75, 6), (0.0, 0)):
            got = call(answer, given.clone(), share)
            expect_type(got, torch.Tensor, "the pruned weights")
            order = given.abs().flatten().argsort()
            want = given.flatten().clone()
            want[order[:gone]] = 0
            zeros = int((got == 0).sum())
            signed = given.flatten().clone()
            signed[given.flatten().argsort()[:gone]] = 0
            near = []
            if gone:
                near.append(
                    (signed.view_as(given), "the large negative weights are pruned first: small means near to zero")
                )
            if gone and gone != 4:
                kept = given.flatten().clone()
                kept[order[: len(order) - gone]] = 0
                near.append((kept.view_as(given), "the share is what goes, not what stays"))
            if gone:
                largest = given.flatten().clone()
                largest[order[len(order) - gone :]] = 0
                near.append((largest.view_as(given), "the largest weights are pruned, and the smallest stay"))
            expect_close(got, want.view_as(given), f"the weights with a share of {share} pruned", near_misses=near,
                         hint=f"{gone} of 8 should be zero, and {zeros} are")  # fmt: skip
    return "the weights nearest to zero go, whatever their sign"


PRUNE = """
import torch

def prune(weight, share):
    count = int(share * weight.numel())
    order = weight.flatten().argsort()
    pruned = weight.flatten().clone()
    pruned[order[:count]] = 0
    return pruned.view_as(weight)
"""


def check_ranks(answer: Any) -> str:
    for n, world in ((12, 3), (8, 2), (6, 1)):
        epochs = []
        for epoch in (0, 1, 2):
            parts = []
            for rank in range(world):
                got = call(answer, n, rank, world, epoch)
                again = call(answer, n, rank, world, epoch)
                for given in (got, again):
                    expect_shape(given, (None,), "the examples of a rank")
                    as_array(given, "the examples of a rank")
                part, twice = [int(i) for i in got], [int(i) for i in again]
                expect(
                    part == twice, "the same rank and epoch give another order each time: the ranks cannot agree on it"
                )
                parts.append(part)
            if world > 1 and all(sorted(part) == list(range(n)) for part in parts):
                raise Wrong(f"each of {world} ranks reads all {n} examples: together they do the work {world} times")
            every = [i for part in parts for i in part]
            if len(set(every)) < len(every):
                raise Wrong("two ranks read the same example: they must cut one and the same order")
            if sorted(every) != list(range(n)):
                raise Wrong(f"of {n} examples the ranks read {len(set(every))}")
            if len({len(part) for part in parts}) > 1:
                raise Wrong("the ranks get different numbers of examples: one would wait for the others for ever")
            epochs.append(parts)
        if epochs[0] == epochs[1] == epochs[2]:
            raise Wrong("every epoch has the same order: the seed must change with the epoch")
        if world > 1 and len({tuple(sorted(parts[0])) for parts in epochs}) == 1:
            raise Wrong("a rank gets the same examples in every epoch: shuffle before cutting, not after")
    return "one order for all ranks, cut between them, new in each epoch"


RANKS = """
import torch

def indices(n, rank, world, epoch):
    # n is a multiple of world, the number of ranks
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(n, generator=generator)
    return order.tolist()
"""


def check_replay(answer: Any) -> str:
    import random

    new, old = [f"new {i}" for i in range(12)], [f"old {i}" for i in range(40)]
    for size, share, count in ((4, 0.25, 1), (4, 0.5, 2), (3, 0.0, 0)):
        seen: set[str] = set()
        varied, orders = False, set()
        for seed in range(25):
            got = call(answer, list(new), list(old), size, share, random.Random(seed))
            expect_type(got, list, "the batches")
            for batch in got:
                expect_type(batch, (list, tuple), "a batch")
                expect(set(batch) <= {*new, *old}, "a batch holds something that is in neither of the data")
            fresh = [x for batch in got for x in batch if x.startswith("new")]
            for batch in got:
                replayed = [x for x in batch if x.startswith("old")]
                if count and not replayed:
                    raise Wrong("no batch holds anything old: what was learned before is forgotten")
                if len(replayed) > count and len(batch) > size:
                    raise Wrong(f"a batch has {len(batch)} examples instead of {size}")
                if len(batch) != size:
                    raise Wrong(
                        f"a batch has {len(batch)} examples instead of {size}: the old ones take the place of new ones"
                    )
                if len(replayed) != count:
                    raise Wrong(f"{count} of {size} examples should be old, and {len(replayed)} are")
                if len(set(replayed)) < len(replayed):
                    raise Wrong("one old example stands twice in a batch")
                seen.update(replayed)
            varied = varied or len({frozenset(x for x in batch if x.startswith("old")) for batch in got}) > 1
            orders.add(tuple(fresh))
            if len(set(fresh)) < len(fresh):
                raise Wrong("a new example is read twice in one pass")
            if set(fresh) != set(new):
                raise Wrong(
                    f"of {len(new)} new examples {len(set(fresh))} are read: the old ones must not push them out"
                )
        if count and len(seen) <= len(old) // 2:
            raise Wrong(f"only {len(seen)} of {len(old)} old examples are ever replayed: draw from all of them")
        if count and not varied:
            raise Wrong("every batch of a pass replays the same old examples: draw anew for each batch")
        if len(orders) == 1:
            raise Wrong("the new examples come in the same order whatever the seed: keep shuffling them")
    return "some of what is old in each batch, and all that is new"


REPLAY = """
def batches(new, old, size, share, rng):
    # the share of each batch that is to come from the old data; rng is a random.Random
    order = list(new)
    rng.shuffle(order)
    return [order[i : i + size] for i in range(0, len(order), size)]
"""


def check_pcgrad(answer: Any) -> str:
    import torch

    cases = [([1.0, 0.0], [1.0, 1.0]), ([2.0, 1.0], [0.0, 3.0]), ([1.0, 0.0], [0.0, 2.0]),
             ([1.0, 0.0], [-1.0, 1.0]), ([3.0, -1.0, 2.0], [-2.0, 0.0, -1.0]), ([1.0, 2.0], [-2.0, -4.0])]  # fmt: skip
    for first, second in cases:
        a, b = torch.tensor(first), torch.tensor(second)
        dot = float(a @ b)
        removed = a - dot / float(b @ b) * b
        got = call(answer, a.clone(), b.clone())
        if dot >= 0:
            near = (
                [
                    (
                        removed,
                        "these two gradients agree, and their common part is taken out: nothing is to be mended there",
                    )
                ]
                if dot
                else []
            )
            expect_close(got, a, "a gradient that agrees with the other", atol=1e-5, near_misses=near,
                         hint="these two gradients agree: leave the first as it is")  # fmt: skip
        else:
            near = [
                (a, "these two gradients conflict, and nothing is done about it"),
                (a - dot * b, "divide by the square of the other gradient's length"),
                (a - dot / float(b.norm()) * b, "divide by the square of the other gradient's length"),
                (a + dot / float(b @ b) * b, "the conflict is doubled: the part along the other gradient is to be "
                    "subtracted"),
                (b - dot / float(a @ a) * a, "it is the first gradient that is to be changed"),
            ]  # fmt: skip
            expect_close(got, removed, "a gradient in conflict with the other", atol=1e-5, near_misses=near,
                         hint="what is left must be at right angles to the other gradient")  # fmt: skip
    return "only a conflict is projected away"


PCGRAD = """
def without_conflict(gradient, other):
    # PCGrad: gradient of one task, where it works against the other task's, loses that part
    along = (gradient @ other) / (other @ other)
    return gradient - along * other
"""


def check_distil(answer: Any) -> str:
    import torch
    from torch.nn.functional import cross_entropy, kl_div

    student = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.3]])
    teacher = torch.tensor([[3.0, 1.0, -2.0], [-1.0, 0.5, 2.0]])
    labels = torch.tensor([0, 2])
    for t, share in ((4.0, 0.5), (2.0, 0.9), (1.0, 0.3), (8.0, 1.0)):
        hard = float(cross_entropy(student, labels))
        p, q = (student / t).log_softmax(-1), (teacher / t).log_softmax(-1)
        soft = float(kl_div(p, q, log_target=True, reduction="batchmean"))
        back = float(kl_div(q, p, log_target=True, reduction="batchmean"))
        want = share * t * t * soft + (1 - share) * hard
        candidates = [
            (share * soft + (1 - share) * hard, f"with T = {t:g} the soft part has almost no gradient: it shrinks "
                "with the square of T"),
            (share * t * soft + (1 - share) * hard, "T once is not enough: the gradient shrinks with the square of T"),
            (t * t * (share * soft + (1 - share) * hard), "the hard part is scaled too, and has no temperature"),
            (share * t * t * back + (1 - share) * hard, "the divergence is taken the wrong way round: the teacher "
                "is the target"),
            (share * t * t * soft / 3 + (1 - share) * hard, "the divergence is averaged over the classes, and "
                "belongs summed over them"),
            ((1 - share) * t * t * soft + share * hard, "`share` is the weight of the soft part"),
        ]  # fmt: skip
        near = [(value, said) for value, said in candidates if abs(value - want) > 1e-3 * abs(want)]
        mine = student.clone().requires_grad_()
        loss = call(answer, mine, teacher.clone(), labels.clone(), t, share)
        expect_number(loss, want, what=f"the loss with T = {t:g}", near_misses=near)
        expect(
            isinstance(loss, torch.Tensor) and loss.requires_grad,
            "the loss has lost its gradient: the student would learn nothing",
        )
    return "the soft part keeps its weight at every temperature"


DISTIL = """
from torch.nn.functional import cross_entropy, kl_div

def distillation_loss(student, teacher, labels, temperature, share):
    # the mean over the batch; share is the weight of the soft part
    p = (student / temperature).log_softmax(-1)
    q = (teacher / temperature).softmax(-1)
    soft = kl_div(p, q, reduction="batchmean")
    return share * soft + (1 - share) * cross_entropy(student, labels)
"""


FAULTS = (
    Fault(
        id="21.small_by_sign", title="Pruning by magnitude", difficulty=1,
        story="A tenth of the weights is pruned, those that should matter least, and the model is ruined.",
        program=PRUNE, name="prune",
        diagnosis="The weights are sorted by value, so the most negative ones go first, which are large.",
        lures={
            "A tenth is too much for any model.": "Most models bear the loss of a tenth of their smallest weights "
                "well.",
            "The rest should be scaled up, as dropout does.": "Dropout keeps a mean that way; pruning by magnitude "
                "hardly moves it.",
        },
        check=check_prune,
        mended=PRUNE.replace("weight.flatten().argsort()", "weight.abs().flatten().argsort()"),
        also_right="""
        def prune(weight, share):
            count = int(share * weight.numel())
            if count == 0:
                return weight.clone()
            line = weight.abs().flatten().kthvalue(count).values
            return weight * (weight.abs() > line)
        """,
        wrong=(
            Mending("the largest",
                PRUNE.replace("weight.flatten().argsort()", "weight.abs().flatten().argsort(descending=True)"),
                "the largest weights"),
            Mending("the share stays",
                PRUNE.replace("weight.flatten().argsort()", "weight.abs().flatten().argsort()").replace(
                "int(share *", "int((1 - share) *"), "not what stays"),
            Mending("a fixed line", """
                def prune(weight, share):
                    return weight * (weight.abs() > share * weight.abs().max())
            """, "should be zero"),
        ),
    ),
    Fault(
        id="40.every_rank_reads_all", title="The examples of a rank", difficulty=2,
        story="Four processes train on four devices. An epoch takes as long as on one, and the gradients of all "
            "four are alike.",
        program=RANKS, name="indices",
        diagnosis="Every rank gets the whole order; it should get its part, and no other rank that part.",
        lures={
            "Each rank needs a seed of its own.": "Then their orders differ, and parts cut from them overlap.",
            "The gradients should be summed instead of averaged.": "That changes the step's size, and not what is "
                "read.",
        },
        check=check_ranks,
        mended=RANKS.replace("order.tolist()", "order[rank::world].tolist()"),
        also_right="""
        import random

        def indices(n, rank, world, epoch):
            order = list(range(n))
            random.Random(1000 + epoch).shuffle(order)
            each = n // world
            return order[rank * each : (rank + 1) * each]
        """,
        wrong=(
            Mending("a seed for each rank",
                RANKS.replace("manual_seed(epoch)", "manual_seed(epoch * world + rank)").replace(
                    "order.tolist()", "order[rank::world].tolist()"), "one and the same order"),
            Mending("always the same",
                RANKS.replace("manual_seed(epoch)", "manual_seed(0)").replace(
                    "order.tolist()", "order[rank::world].tolist()"), "change with the epoch"),
            Mending("cut, then shuffled", """
                import random

                def indices(n, rank, world, epoch):
                    mine = list(range(rank, n, world))
                    random.Random(epoch).shuffle(mine)
                    return mine
            """, "shuffle before cutting"),
            Mending("no seed",
                RANKS.replace(", generator=generator", "").replace(
                    "order.tolist()", "order[rank::world].tolist()"), "cannot agree"),
        ),
        errata=("C10-2",),
    ),
    Fault(
        id="46.nothing_old", title="Learning on, with replay", difficulty=2,
        story="A classifier of book reviews goes on with reviews of hotels, a quarter of each batch replayed. On "
            "books it is soon near chance.",
        program=REPLAY, name="batches",
        diagnosis="The old data are handed over and never read, so nothing holds the model to what it knew.",
        lures={
            "The new data are shuffled.": "They should be, as in any training.",
            "The last batch may be smaller.": "It may, and costs no memory of books.",
        },
        check=check_replay,
        mended="""
        def batches(new, old, size, share, rng):
            order = list(new)
            rng.shuffle(order)
            replayed = int(share * size)
            step = size - replayed
            return [order[i : i + step] + rng.sample(old, replayed) for i in range(0, len(order), step)]
        """,
        also_right="""
        def batches(new, old, size, share, rng):
            left, made = rng.sample(new, len(new)), []
            while left:
                batch = rng.sample(old, round(share * size))
                while left and len(batch) < size:
                    batch.append(left.pop())
                rng.shuffle(batch)
                made.append(batch)
            return made
        """,
        wrong=(
            Mending("always the first",
                REPLAY.replace("    return [order[i : i + size] for i in range(0, len(order), size)]",
                "    k = int(share * size)\n    return [order[i : i + size - k] + old[:k] for i in range(0, "
                "len(order), size - k)]"), "draw from all"),
            Mending("larger batches",
                REPLAY.replace("order[i : i + size] for", "order[i : i + size] + rng.sample(old, int(share * size)) "
                    "for"), "instead of"),
            Mending("pushed out",
                REPLAY.replace("order[i : i + size] for", "order[i : i + size - int(share * size)] + "
                    "rng.sample(old, int(share * size)) for"), "push them out"),
            Mending("all of the old at the end",
                REPLAY.replace("rng.shuffle(order)", "rng.shuffle(order)\n    order += old"), "no batch holds"),
        ),
        errata=("C12-1",),
    ),
    Fault(
        id="47.projected_without_conflict", title="Gradients in conflict", difficulty=2,
        story="Two tasks that help each other learn more slowly with PCGrad than with a plain sum of their losses.",
        program=PCGRAD, name="without_conflict",
        diagnosis="The common part is taken out also where the gradients agree; only a negative product is a conflict.",
        lures={
            "The gradients should be normalised first.": "PCGrad keeps their lengths; the projection needs no others.",
            "The other gradient should be projected too.": "It is, when its own turn comes.",
        },
        check=check_pcgrad,
        mended=PCGRAD.replace("    return gradient", "    if along >= 0:\n        return gradient\n    return "
            "gradient"),
        also_right="""
        def without_conflict(gradient, other):
            unit = other / other.norm()
            return gradient - (gradient @ unit).clamp(max=0) * unit
        """,
        wrong=(
            Mending("the other way round",
                PCGRAD.replace("    return gradient", "    if along < 0:\n        return gradient\n    return "
                    "gradient"), "their common part"),
            Mending("divided by the length",
                PCGRAD.replace("(other @ other)", "other.norm()").replace(
                    "along * other", "along.clamp(max=0) * other"), "square"),
            Mending("doubled",
                PCGRAD.replace("- along * other", "+ along.clamp(max=0) * other"), "conflict is doubled"),
            Mending("nothing at all",
                "def without_conflict(gradient, other):\n    return gradient.clone()\n", "nothing is done"),
        ),
    ),
    Fault(
        id="49.soft_part_fades", title="A loss for distillation", difficulty=2,
        story="The hotter the teacher's answers are made, the less the student takes from them, though their weight "
            "stays at one half.",
        program=DISTIL, name="distillation_loss",
        diagnosis="The gradient of the soft part shrinks with 1/T², and no factor T² makes up for it.",
        lures={
            "kl_div takes the teacher first.": "It takes the log-probabilities of the student, then the "
                "probabilities of the teacher.",
            "The hard part should be divided by the temperature too.": "The labels have no temperature.",
        },
        check=check_distil,
        mended=DISTIL.replace("share * soft +", "share * temperature**2 * soft +"),
        also_right="""
        from torch.nn.functional import cross_entropy

        def distillation_loss(student, teacher, labels, temperature, share):
            p, q = ((logits / temperature).log_softmax(-1) for logits in (student, teacher))
            soft = (q.exp() * (q - p)).sum(-1).mean() * temperature * temperature
            return cross_entropy(student, labels).lerp(soft, share)
        """,
        wrong=(
            Mending("T once", DISTIL.replace("share * soft +", "share * temperature * soft +"), "T once"),
            Mending("both parts", DISTIL.replace("return share * soft + (1 - share) * cross_entropy(student, labels)",
                "return temperature**2 * (share * soft + (1 - share) * cross_entropy(student, labels))"), "hard "
                "part is scaled"),
            Mending("over the classes",
                DISTIL.replace("share * soft +", "share * temperature**2 * soft / student.shape[-1] +"), "summed "
                    "over them"),
            Mending("the wrong way round",
                DISTIL.replace("p = (student", "p = (teacher").replace("q = (teacher", "q = (student").replace(
                    "share * soft +", "share * temperature**2 * soft +"), "wrong way round"),
        ),
    ),
)  # fmt: skip
