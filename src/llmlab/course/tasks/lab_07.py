"""Lab 07, BERT: build its masking, choose whole words, take the loss where it belongs, and count what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_close, expect_number, expect_shape
from llmlab.course.expect import expect_type

MASK, FIRST, SIZE, IGNORED = 4, 5, 105, -100


def _text(rows: int = 600, time: int = 60) -> tuple[Any, Any]:
    """Ordinary tokens between special ones, the last sixth padding; and where the special ones are."""
    import torch

    ids = torch.randint(FIRST, SIZE, (rows, time), generator=torch.Generator().manual_seed(5))
    ids[:, 0], ids[:, time * 5 // 6 - 1], ids[:, time * 5 // 6 :] = 2, 3, 0
    return ids, ids < FIRST


# --- Build: 80/10/10


def check_mask(answer: Any) -> str:
    import torch

    ids, special = _text()
    inputs, labels = _pair(answer, ids, special, 0.15)
    _expect_labels(ids, special, inputs, labels, 0.15)
    _expect_fates(ids, inputs, labels)
    again = _pair(answer, ids, special, 0.15)[1]
    expect(not torch.equal(labels, again), "two calls choose the same tokens: draw anew at each call")
    chosen = labels != IGNORED
    counts = {int((c != IGNORED).sum()) for c in (labels, again, _pair(answer, ids, special, 0.15)[1])}
    expect(
        len(counts) > 1,
        f"three calls choose exactly {max(counts)} tokens each: every token is chosen by a draw of its own",
    )
    by_place = chosen[:, 1:49].float().mean(0)
    expect(
        by_place.min() > 0 and by_place.max() < 1,
        "the same places are chosen in every row: every token has a draw of its own",
    )
    by_row = chosen.float().sum(1)
    expect(by_row.std() > 1, "every row has the same number of chosen tokens: every token has a draw of its own")
    inside = chosen[:, 1:49].float()
    beside = torch.corrcoef(torch.stack([inside[:, :-1].flatten(), inside[:, 1:].flatten()]))[0, 1]
    expect(
        abs(beside) < 0.05,
        "a token is chosen more often when the one beside it is (or less): each has a draw of its own",
    )
    everything, told = _pair(answer, ids, special, 1.0)
    same_word = torch.where(special, ids, 50)
    drawn = _pair(answer, same_word, special, 1.0)[0]
    kinds = set(drawn[~special & (drawn != MASK)].tolist())
    missing = sorted(set(range(FIRST, SIZE)) - kinds)
    if len(missing) > 3:
        raise Wrong(
            f"in a text of one word repeated, random tokens are of {len(kinds)} kinds: draw from the vocabulary, not from the text"
        )
    expect(
        not missing,
        f"in 2,900 draws token {missing[0] if missing else 0} never came: random tokens go from {FIRST} to {SIZE - 1}, both included",
    )
    hidden = (everything == MASK)[:, 1:49].float()
    expect(
        hidden.mean(1).std() < 0.12 and hidden.mean(0).std() < 0.12,
        "all chosen tokens of a row, or of a column, meet the same fate: the fate is drawn for each token",
    )
    expect(torch.equal(everything[special], ids[special]), "at rate = 1 special tokens are replaced: they never are")
    expect(
        torch.equal(told[~special], ids[~special]) and bool((told[special] == IGNORED).all()),
        "at rate = 1 every ordinary token is a label, and no special one",
    )
    nothing, told = _pair(answer, ids, special, 0.0)
    expect(torch.equal(nothing, ids) and bool((told == IGNORED).all()), "at rate = 0 nothing is changed or predicted")
    odd = special.clone()
    odd[:, 5:9] = True
    inputs, labels = _pair(answer, ids, odd, 0.9)
    expect(
        torch.equal(inputs[odd], ids[odd]) and bool((labels[odd] == IGNORED).all()),
        "`special` decides which tokens stay, not their numbers: some tokens from 5 on were marked special, and masked",
    )
    return "15 % chosen, of those 80/10/10, the originals as labels, and nothing else touched"


def _pair(answer: Any, *args: Any) -> tuple[Any, Any]:
    import torch

    got = call(answer, *args)
    expect(
        isinstance(got, tuple | list) and len(got) == 2,
        "two tensors are asked for: (inputs, labels)",
    )
    for value, what in zip(got, ("inputs", "labels")):
        expect_type(value, torch.Tensor, what)
        expect_shape(value, args[0].shape, what)
        expect(not value.is_floating_point(), f"{what} are {value.dtype}: token numbers are whole")
    return got[0].long(), got[1].long()


def _expect_labels(ids: Any, special: Any, inputs: Any, labels: Any, rate: float) -> None:
    import torch

    chosen = labels != IGNORED
    expect(
        not chosen.all(),
        "every token has a label: those that were not chosen get -100, or the loss is taken on what can be read",
    )
    expect(chosen.any(), "no token has a label: the chosen ones get their original number")
    expect(
        not (chosen & special).any(),
        "special tokens or padding have a label: they are never predicted",
    )
    expect(torch.equal(inputs[special], ids[special]), "special tokens or padding are replaced: they never are")
    if bool((labels[chosen] == inputs[chosen]).all()):
        raise Wrong("the labels are what the model reads; they must be the original tokens")
    expect(torch.equal(labels[chosen], ids[chosen]), "the labels of chosen tokens must be the original tokens")
    touched = inputs != ids
    expect(
        not (touched & ~chosen).any(),
        "tokens without a label are changed: a token is replaced only if it is chosen, and all chosen ones are predicted",
    )
    if bool(touched[chosen].all()):
        raise Wrong(
            "every chosen token is replaced, so a token that is left as it is never has a label: 10 % of the chosen stay, "
            "and are predicted as well"
        )
    share = chosen.sum().item() / (~special).sum().item()
    if abs(share - rate) > 0.01:
        raise Wrong(f"{share:.1%} of the ordinary tokens are chosen, not {rate:.0%}")


def _expect_fates(ids: Any, inputs: Any, labels: Any) -> None:
    import torch

    chosen = labels != IGNORED
    now, before = inputs[chosen], ids[chosen]
    masked, same = (now == MASK).float().mean().item(), (now == before).float().mean().item()
    random = 1 - masked - same
    told = f"of the chosen, {masked:.0%} become [MASK], {random:.0%} another token, {same:.0%} stay"
    expect(
        not (abs(masked - 0.8) < 0.02 and abs(random - 0.02) < 0.012),
        f"{told}: the 10 % for random tokens are of all chosen ones, that is half of the 20 % that are left",
    )
    expect(
        not (abs(masked - 0.72) < 0.02 and abs(random - 0.1) < 0.02),
        f"{told}: the random tokens are drawn over the [MASK]s; each chosen token has one fate",
    )
    expect(abs(masked - 0.8) < 0.02, f"{told}: expected 80 % [MASK]")
    expect(abs(random - 0.1) < 0.02 and abs(same - 0.1) < 0.02, f"{told}: expected 10 % and 10 %")
    other = now[(now != MASK) & (now != before)]
    expect(
        bool((other >= FIRST).all()) and bool((other < SIZE).all()),
        f"random tokens must be from {FIRST} to {SIZE - 1}; yours go from {int(other.min())} to {int(other.max())}",
    )
    seen = len(torch.unique(other))
    expect(seen > 80, f"{len(other)} random tokens are of only {seen} kinds: draw a new one for each place")


def _mask(
    *,
    choose: Callable[[Any, Any, float], Any] | None = None,
    shares: tuple[float, float] = (0.8, 0.1),
    draw: Callable[[Any], Any] | None = None,
    label: Callable[[Any, Any, Any], Any] | None = None,
    spare: bool = True,
) -> Callable[..., Any]:
    """Masking; changed in one thing it is a wrong answer."""

    def mask(ids: Any, special: Any, rate: float) -> Any:
        import torch

        chosen = torch.rand(ids.shape) < rate if choose is None else choose(ids, special, rate)
        if spare:
            chosen = chosen & ~special
        fate = torch.rand(ids.shape)
        random = torch.randint(FIRST, SIZE, ids.shape) if draw is None else draw(ids)
        inputs = torch.where(chosen & (fate < shares[0]), MASK, ids)
        inputs = torch.where(chosen & (fate >= shares[0]) & (fate < sum(shares)), random, inputs)
        labels = torch.where(chosen, ids, IGNORED) if label is None else label(ids, inputs, chosen)
        return inputs, labels

    return mask


def _coins(second: float, over: bool = False) -> Callable[..., Any]:
    """Two coins, one after the other; ``over`` lets the second overwrite the first."""

    def mask(ids: Any, special: Any, rate: float) -> Any:
        import torch

        chosen = torch.bernoulli(torch.full(ids.shape, rate)).bool() & ~special
        masked = chosen & (torch.rand(ids.shape) < 0.8)
        random = chosen & (torch.rand(ids.shape) < second)
        if not over:
            random &= ~masked
        inputs = ids.masked_fill(masked, MASK)
        inputs[random] = torch.randint(FIRST, SIZE, (int(random.sum()),))
        return inputs, ids.masked_fill(~chosen, IGNORED)

    return mask


def _one_fate(axis: int) -> Callable[..., Any]:
    """The fate is drawn once a row (axis 1) or once a column (axis 0)."""

    def mask(ids: Any, special: Any, rate: float) -> Any:
        import torch

        chosen = (torch.rand(ids.shape) < rate) & ~special
        shape = [1 if i == axis else n for i, n in enumerate(ids.shape)]
        fate = torch.rand(shape).expand_as(ids)
        inputs = torch.where(chosen & (fate < 0.8), MASK, ids)
        inputs = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), torch.randint(FIRST, SIZE, ids.shape), inputs)
        return inputs, torch.where(chosen, ids, IGNORED)

    return mask


def _spans(ids: Any, special: Any, rate: float) -> Any:
    """Chosen in neighbouring pairs."""
    import torch

    draws = torch.rand(ids.shape[0], (ids.shape[1] + 1) // 2)
    return (draws < rate).repeat_interleave(2, 1)[:, : ids.shape[1]]


def _loops(ids: Any, special: Any, rate: float) -> Any:
    """Right, written with loops as the first release was."""
    import random

    inputs, labels = ids.tolist(), [[IGNORED] * ids.shape[1] for _ in ids]
    for i, row in enumerate(special.tolist()):
        for j, stays in enumerate(row):
            if not stays and random.random() < rate:
                labels[i][j] = inputs[i][j]
                fate = random.random()
                if fate < 0.9:
                    inputs[i][j] = MASK if fate < 0.8 else random.randrange(FIRST, SIZE)
    return ids.new_tensor(inputs), ids.new_tensor(labels)


def _in_place(ids: Any, special: Any, rate: float) -> Any:
    inputs, labels = _mask()(ids, special, rate)
    ids[:] = inputs
    return ids, labels


def _fixed(ids: Any, special: Any, rate: float) -> Any:
    import torch

    return torch.rand(ids.shape, generator=torch.Generator().manual_seed(99)) < rate


def _exactly(ids: Any, special: Any, rate: float) -> Any:
    """The same number in every row."""
    import torch

    scores = torch.rand(ids.shape).masked_fill(special, 2)
    count = (rate * (~special).sum(1, keepdim=True)).round()
    return scores.argsort(1).argsort(1) < count


def _columns(ids: Any, special: Any, rate: float) -> Any:
    import torch

    return (torch.rand(ids.shape[1]) < rate).expand_as(ids)


def _over_everything(ids: Any, special: Any, rate: float) -> Any:
    """15 % of all places, padding among them, put on the ordinary ones."""
    import torch

    return torch.rand(ids.shape) < rate * ids.numel() / (~special).sum()


def _by_number(ids: Any, special: Any, rate: float) -> Any:
    import torch

    return (torch.rand(ids.shape) < rate) & (ids >= FIRST)


# --- Debug: whole words


def check_words(answer: Any) -> str:
    import torch

    lengths = [1, 2, 1, 3, 2, 4, 1, 2]
    row = [-1] + [w for w, n in enumerate(lengths) for _ in range(n)] + [-1, -1]
    words = torch.tensor([row] * 800)
    rate = 0.15
    got = call(answer, words, rate)
    expect_type(got, torch.Tensor)
    expect_shape(got, words.shape)
    expect(got.dtype == torch.bool, f"the result is {got.dtype}: True where a token is chosen")
    expect(
        not got[words < 0].any(), "tokens of word -1 are chosen: those are [CLS], [SEP] and padding, which never are"
    )
    for word, n in enumerate(lengths):
        part = got[:, words[0] == word]
        if not torch.equal(part.all(1), part.any(1)):
            raise Wrong(f"a word of {n} tokens is chosen in part: one draw decides for all tokens of a word")
    first = got[:, 1].float().mean()
    expect(0 < first < 1, "every row has the same chosen words: each row has draws of its own")
    share = {n: [] for n in (1, 2, 3, 4)}  # type: ignore[var-annotated]
    for word, n in enumerate(lengths):
        share[n].append(got[:, words[0] == word][:, 0].float().mean().item())
    means = {n: sum(values) / len(values) for n, values in share.items()}
    told = ", ".join(f"{n} token{'s' * (n > 1)} {mean:.0%}" for n, mean in means.items())
    expect(
        not means[4] > 0.3,
        f"long words are chosen more often ({told}): a word is not chosen because one of its tokens was, it has one draw",
    )
    expect(
        not means[4] < 0.09,
        f"long words are chosen less often ({told}): the rate is that of a word, whatever its length",
    )
    expect(
        all(abs(mean - rate) < 0.045 for mean in means.values()), f"words are chosen at {told}; asked for {rate:.0%}"
    )
    expect(
        not torch.equal(got, call(answer, words, rate)),
        "two calls choose the same words: draw anew at each call",
    )
    both = torch.stack([got[:, words[0] == w][:, 0].float() for w in range(len(lengths))])
    expect(
        torch.corrcoef(both).fill_diagonal_(0).abs().max() < 0.2,
        "words of a row are chosen together: each word has a draw of its own",
    )
    other = torch.tensor([[-1, 0, 0, 1, 2, 2, -1], [-1, 0, 1, 1, 1, 2, -1]])
    for _ in range(20):
        got = call(answer, other, 0.5)
        whole = all(len(set(got[r][other[r] == w].tolist())) == 1 for r in range(2) for w in range(3))
        expect(whole, "rows with words of different length: a word of one row follows the borders of another row")
    expect(bool(call(answer, other, 1.0)[other >= 0].all()), "at rate = 1 every word is chosen")
    expect(not call(answer, other, 0.0).any(), "at rate = 0 no word is chosen")
    return "whole words, each with the same chance, and no special token"


def _choose(kind: str) -> Callable[[Any, float], Any]:
    """A choice of words; every kind but "right" is wrong."""

    def choose(words: Any, rate: float) -> Any:
        import torch

        count = int(words.max()) + 1
        at = words.clamp(min=0)
        each = torch.rand(words.shape) < rate
        if kind == "tokens":
            return each
        if kind == "spared tokens":
            return each & (words >= 0)
        if kind in ("any", "all"):
            hits = torch.zeros(len(words), count).scatter_add(1, at, (each & (words >= 0)).float())
            sizes = torch.zeros(len(words), count).scatter_add(1, at, (words >= 0).float())
            return ((hits > 0) if kind == "any" else (hits == sizes) & (hits > 0)).gather(1, at) & (words >= 0)
        if kind == "one for all rows":
            return (torch.rand(count) < rate)[at] & (words >= 0)
        if kind == "one a row":
            return (torch.rand(len(words), 1) < rate) & (words >= 0)
        if kind == "first row's borders":
            return (torch.rand(len(words), count) < rate)[:, at[0]] & (words >= 0)
        if kind == "special too":
            return (torch.rand(len(words), count) < rate).gather(1, at)
        if kind == "numbers":
            return ((torch.rand(len(words), count) < rate).gather(1, at) & (words >= 0)).long()
        if kind == "fixed":
            draw = torch.rand(len(words), count, generator=torch.Generator().manual_seed(0))
            return (draw < rate).gather(1, at) & (words >= 0)
        if kind == "less":
            return (torch.rand(len(words), count) < rate / 2).gather(1, at) & (words >= 0)
        return (torch.rand(len(words), count) < rate).gather(1, at) & (words >= 0)

    return choose


def _choose_by_loop(words: Any, rate: float) -> Any:
    import random

    out = []
    for row in words.tolist():
        taken = {word for word in set(row) if word >= 0 and random.random() < rate}
        out.append([word in taken for word in row])
    return words.new_tensor(out).bool()


# --- Debug: the loss


def check_loss(answer: Any) -> str:
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 7, 11, generator=generator) * 2
    ids = torch.randint(5, 11, (3, 7), generator=generator)
    labels = torch.full((3, 7), IGNORED)
    labels[0, [1, 2, 5]], labels[1, 3] = ids[0, [1, 2, 5]], ids[1, 3]  # uneven, and the third row has none
    inputs = ids.clone()
    inputs[0, 1] = inputs[0, 5] = inputs[1, 3] = MASK
    each = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(3, 7)
    chosen = labels != IGNORED
    right = each[chosen].mean()
    got = call(answer, logits, inputs, labels)
    expect_close(
        got,
        right,
        "the loss",
        near_misses=[
            (F.cross_entropy(logits.flatten(0, 1), inputs.flatten()), "it is taken on every token, against what the model reads: copying the input would be rewarded"),
            (each.mean(), "it is taken on every token; those that were not chosen are read, not predicted"),
            (each[chosen].sum() / labels.numel(), "it is divided by all tokens; divide by the chosen ones"),
            (each[chosen].sum() / 3, "it is divided by the rows; divide by the chosen tokens"),
            (each[chosen].sum(), "it is the sum; divide by the chosen tokens"),
            (torch.stack([each[0][chosen[0]].mean(), each[1][chosen[1]].mean()]).mean(), "it is a mean over rows of means: each chosen token counts the same"),
            (each[inputs == MASK].mean(), "it is taken where [MASK] stands; the chosen tokens that were left or replaced count too"),
            (-F.log_softmax(logits, 1).gather(2, ids[..., None])[..., 0][chosen].mean(), "the softmax runs over the places, not over the vocabulary"),
        ],
        hint="the mean of -log p(original) over the tokens whose label is not -100",
    )  # fmt: skip
    leaf = logits.clone().requires_grad_()
    out = answer(leaf, inputs, labels)
    expect(out.requires_grad, "the loss has lost its gradient")
    (grad,) = torch.autograd.grad(out, leaf)
    expect(not grad[~chosen].any(), "tokens that were not chosen have a gradient")
    none = call(answer, logits, inputs, torch.full_like(labels, IGNORED))
    expect(
        bool(torch.as_tensor(none).isfinite()) and float(none) == 0,
        f"a batch without a chosen token gives {float(none):g}: the mean of nothing must be 0, or it spoils every weight",
    )
    return "the chosen tokens, each the same, and nothing else"


def _loss(kind: str) -> Callable[[Any, Any, Any], Any]:
    """A loss; every kind but "right" is wrong."""

    def loss(logits: Any, inputs: Any, labels: Any) -> Any:
        import torch
        import torch.nn.functional as F

        flat, told = logits.flatten(0, 1), labels.flatten()
        chosen = labels != IGNORED
        if kind == "as given":
            return F.cross_entropy(flat, inputs.flatten())
        if kind == "nan":
            return F.cross_entropy(flat, told)
        total = F.cross_entropy(flat, told, reduction="sum")
        if kind == "all":
            return total / labels.numel()
        if kind == "rows":
            return total / len(labels)
        if kind == "sum":
            return total
        if kind == "masks":
            where = chosen & (inputs == MASK)
            return F.cross_entropy(logits[where], labels[where], reduction="sum") / max(1, int(where.sum()))
        if kind == "mean of means":
            rows = [F.cross_entropy(a, b) for a, b in zip(logits, labels) if (b != IGNORED).any()]
            return torch.stack(rows).mean() if rows else logits.sum() * 0
        if kind == "detached":
            return (total / chosen.sum().clamp(min=1)).detach()
        if kind == "places":
            picked = F.log_softmax(logits, 1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
            return -(picked * chosen).sum() / chosen.sum().clamp(min=1)
        if kind == "one for none":
            return total / chosen.sum() if chosen.any() else torch.ones(())
        return total / chosen.sum().clamp(min=1)

    return loss


def _loss_by_hand(logits: Any, inputs: Any, labels: Any) -> Any:
    chosen = labels != IGNORED
    p = logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -(p * chosen).sum() / max(1, int(chosen.sum()))


# --- Reason: the parameters of BERT-base

D, HIDDEN, VOCABULARY, POSITIONS, LAYERS = 768, 3072, 30_522, 512, 12
EMBEDDING = (VOCABULARY + POSITIONS + 2) * D + 2 * D
ATTENTION, FEED_FORWARD = 4 * (D * D + D), 2 * D * HIDDEN + HIDDEN + D
LAYER = ATTENTION + FEED_FORWARD + 4 * D
POOLER = D * D + D


def check_parameters(answer: Any) -> str:
    expect_type(answer, dict, "answer")
    missing = [key for key in ("embedding", "layer", "total", "table_share") if key not in answer]
    expect(not missing, f"answer lacks {', '.join(missing)}")
    tight = 1e-6
    expect_number(
        answer["embedding"],
        EMBEDDING,
        rtol=tight,
        what="the embedding",
        near_misses={
            EMBEDDING - 2 * D: "the LayerNorm behind it is missing: a gain and a bias of 768 each",
            EMBEDDING - 2 * D - 2 * D: "the two segment vectors and the LayerNorm are missing",
            EMBEDDING - 2 * D - D: "the LayerNorm has a gain and a bias",
            VOCABULARY * D: "positions, segments and the LayerNorm are missing",
            (VOCABULARY + POSITIONS) * D: "segments and the LayerNorm are missing",
            (VOCABULARY + POSITIONS) * D + 2 * D: "either the two segment vectors or the LayerNorm are missing",
        },
    )
    expect_number(
        answer["layer"],
        LAYER,
        rtol=tight,
        what="a layer",
        near_misses={
            12 * D * D: "that is the rule of thumb, without biases and norms",
            LAYER - 4 * D: "the two LayerNorms are missing",
            LAYER - 2 * D: "there are two LayerNorms in a layer",
            LAYER - ATTENTION + 3 * (D * D + D): "the output projection of the attention is missing",
            12 * LAYER: "that is twelve layers",
            FEED_FORWARD + 4 * D + 12 * 4 * (D * D + D): "heads share 768 features; they do not have 768 each",
        },
    )
    expect_number(
        answer["total"],
        EMBEDDING + LAYERS * LAYER + POOLER,
        rtol=tight,
        what="the total",
        near_misses={
            EMBEDDING + LAYERS * LAYER: "the pooler is missing, a dense layer on [CLS]",
            110_000_000: "that is the paper's rounded figure; add it up",
            LAYERS * LAYER + POOLER: "the embedding is missing",
        },
    )
    expect_number(
        answer["table_share"],
        VOCABULARY * D / (EMBEDDING + LAYERS * LAYER + POOLER),
        rtol=0.005,
        what="the share of the token table",
        near_misses={
            EMBEDDING / (EMBEDDING + LAYERS * LAYER + POOLER) * 1.02: "tokens alone, without positions",
            100 * VOCABULARY * D / (EMBEDDING + LAYERS * LAYER + POOLER): "give a share between 0 and 1",
        },
    )
    return "109,482,240: a fifth of it is the table of tokens"


def _counted(**changes: Any) -> dict[str, Any]:
    total = EMBEDDING + LAYERS * LAYER + POOLER
    return {"embedding": EMBEDDING, "layer": LAYER, "total": total, "table_share": VOCABULARY * D / total, **changes}


# --- Reason: how much signal


def check_signal(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 4):
        raise Wrong("four numbers are asked for: (predicted, masked, factor, in_part)")
    predicted, masked, factor, in_part = answer
    expect_number(
        predicted,
        0.15 * 510,
        what="the tokens predicted",
        near_misses={
            0.15 * 512: "[CLS] and [SEP] are never chosen",
            0.12 * 510: "the chosen ones that stay or turn random are predicted too",
            510: "only the chosen tokens are predicted",
            0.135 * 510: "those that stay are predicted too",
        },
    )
    expect_number(
        masked,
        0.8 * 0.15 * 510,
        what="the [MASK]s",
        near_misses={
            0.15 * 510: "one chosen token in five is no [MASK]",
            0.8 * 510: "80 % of the chosen ones",
            0.8 * 0.15 * 512: "[CLS] and [SEP] are never chosen",
        },
    )
    expect_number(
        factor,
        511 / (0.15 * 510),
        rtol=0.01,
        what="the factor",
        near_misses={
            0.15: "turn it round: how many times as many does the causal model make",
            511 / (0.12 * 510): "the chosen ones that stay or turn random are predictions too",
            511 - 0.15 * 510: "a ratio is asked for",
        },
    )
    expect_number(
        in_part,
        2 * 0.15 * 0.85 / (1 - 0.85**2),
        rtol=0.005,
        what="the share chosen in part",
        near_misses={
            2 * 0.15 * 0.85: "that is of all such words; asked for: of those of which something is chosen",
            0.15 * 0.85: "either of the two characters may be the one",
            0.85: "close: count both ways in which one of two is chosen, over all ways in which one or two are",
            1 - 2 * 0.15 * 0.85 / (1 - 0.85**2): "that is the share chosen whole",
            1 - 0.85**2: "that is the chance that something is chosen",
        },
    )
    return "a seventh of the signal a pass, and in Chinese nearly always half a word"


TASKS = [
    Task(
        id="07.mask",
        kind="build",
        title="Eighty, ten, ten",
        difficulty=2,
        minutes=12,
        hints=(
            "First choose, then decide the fate of the chosen. One uniform number can decide between three fates.",
            "`chosen = (torch.rand(ids.shape) < rate) & ~special`; `fate = torch.rand(ids.shape)`: below 0.8 [MASK], "
            "from 0.8 to 0.9 a random token, above as it is. Labels: `torch.where(chosen, ids, -100)`.",
        ),
        check=check_mask,
        bank=Bank(
            wrong=[
                Case("labels everywhere", _mask(label=lambda ids, inputs, chosen: ids), "every token has a label"),
                Case("labels are inputs", _mask(label=lambda ids, inputs, chosen: inputs.masked_fill(~chosen, -100)), "what the model reads"),
                Case("special tokens masked", _mask(spare=False), "special tokens or padding have a label"),
                Case("always [MASK]", _mask(shares=(1.0, 0.0)), "every chosen token is replaced"),
                Case("labels where changed", _mask(label=lambda ids, inputs, chosen: ids.masked_fill(inputs == ids, -100)), "is never has a label"),
                Case("a tenth of the rest", _coins(0.1), "half of the 20 %"),
                Case("drawn over the masks", _coins(0.1, over=True), "one fate"),
                Case("over everything", _mask(choose=_over_everything), "are chosen, not 15%"),
                Case("random specials", _mask(draw=lambda ids: __import__("torch").randint(0, SIZE, ids.shape)), "random tokens must be from"),
                Case("one random token", _mask(draw=lambda ids: ids * 0 + 17), "new one for each place"),
                Case("the same tokens", _mask(choose=_fixed), "draw anew"),
                Case("the same number a row", _mask(choose=_exactly), "draw of its own"),
                Case("the same columns", _mask(choose=_columns), "every token has a draw"),
                Case("by number", _mask(choose=_by_number, spare=False), "`special` decides"),
                Case("from the text", _mask(draw=lambda ids: ids.roll(1, 0)), "not from the text"),
                Case("the last one left out", _mask(draw=lambda ids: __import__("torch").randint(FIRST, SIZE - 1, ids.shape)), "both included"),
                Case("in pairs", _mask(choose=_spans), "the one beside it"),
                Case("a fate for each row", _one_fate(1), "same fate"),
                Case("in place", _in_place, "in place"),
                Case("no labels", lambda i, s, r: (_mask()(i, s, r)[0], i * 0 - 100), "no token has a label"),
                Case("shares turned round", _mask(shares=(0.1, 0.8)), "expected 80 % [MASK]"),
                Case("one tensor", lambda i, s, r: _mask()(i, s, r)[0], "two tensors"),
            ],
            right=[Case("loops", _loops), Case("two coins", _coins(0.5))],
        ),
    ),
    Task(
        id="07.words",
        kind="debug",
        title="Half a word",
        difficulty=2,
        minutes=8,
        hints=(
            "Run it on one row with rate 0.5 and print words beside what is chosen. How many draws does a word have?",
            "One draw for each (row, word), then look each token's word up: `draws.gather(1, words.clamp(min=0))`, and "
            "`& (words >= 0)`.",
        ),
        check=check_words,
        bank=Bank(
            wrong=[
                Case("as given", _choose("tokens"), "word -1"),
                Case("special ones spared", _choose("spared tokens"), "in part"),
                Case("any token", _choose("any"), "more often"),
                Case("all tokens", _choose("all"), "less often"),
                Case("one draw for all rows", _choose("one for all rows"), "each row"),
                Case("one draw a row", _choose("one a row"), "chosen together"),
                Case("first row's borders", _choose("first row's borders"), "borders of another row"),
                Case("special ones too", _choose("special too"), "word -1"),
                Case("numbers", _choose("numbers"), "True where"),
                Case("half the rate", _choose("less"), "less often"),
                Case("fixed", _choose("fixed"), "draw anew"),
            ],
            right=[Case("a set of words a row", _choose_by_loop), Case("gather", _choose("right"))],
        ),
    ),
    Task(
        id="07.loss",
        kind="debug",
        title="Paid for reading",
        difficulty=1,
        minutes=6,
        hints=(
            "What does a model have to do to bring this loss to zero?",
            "`F.cross_entropy` leaves out labels of -100. What does it return where nothing is left?",
        ),
        check=check_loss,
        bank=Bank(
            wrong=[
                Case("as given", _loss("as given"), "copying the input"),
                Case("nothing chosen", _loss("nan"), "mean of nothing"),
                Case("divided by all", _loss("all"), "divided by all"),
                Case("divided by rows", _loss("rows"), "by the rows"),
                Case("the sum", _loss("sum"), "it is the sum"),
                Case("only [MASK]s", _loss("masks"), "where [MASK] stands"),
                Case("mean of means", _loss("mean of means"), "mean over rows"),
                Case("no gradient", _loss("detached"), "gradient"),
                Case("over places", _loss("places"), "over the places"),
                Case("one for none", _loss("one for none"), "mean of nothing"),
            ],
            right=[Case("by hand", _loss_by_hand), Case("the sum, divided", _loss("right"))],
        ),
    ),
    Task(
        id="07.parameters",
        kind="reason",
        title="BERT-base by hand",
        difficulty=2,
        minutes=8,
        hints=(
            "Three tables and a LayerNorm; then per layer four square matrices, two wide ones, their biases, two norms.",
            "Layer: 4·(768² + 768) + 2·768·3072 + 3072 + 768 + 2·2·768. The pooler is 768² + 768.",
        ),
        check=check_parameters,
        bank=Bank(
            wrong=[
                Case("no norm", _counted(embedding=EMBEDDING - 2 * D), "LayerNorm"),
                Case("tokens alone", _counted(embedding=VOCABULARY * D), "positions, segments"),
                Case("no segments", _counted(embedding=(VOCABULARY + POSITIONS) * D + 2 * D), "segment vectors or"),
                Case("rule of thumb", _counted(layer=12 * D * D), "rule of thumb"),
                Case("no norms", _counted(layer=LAYER - 4 * D), "two LayerNorms"),
                Case("no output projection", _counted(layer=LAYER - D * D - D), "output projection"),
                Case("twelve layers", _counted(layer=12 * LAYER), "twelve layers"),
                Case("no pooler", _counted(total=EMBEDDING + LAYERS * LAYER), "pooler"),
                Case("the paper's figure", _counted(total=110_000_000), "rounded"),
                Case("in percent", _counted(table_share=21.41), "between 0 and 1"),
                Case("lacking", {"layer": LAYER}, "lacks"),
            ],
            right=[Case("as floats", {k: float(v) for k, v in _counted().items()})],
        ),
    ),
    Task(
        id="07.signal",
        kind="reason",
        title="A seventh of the signal",
        difficulty=2,
        minutes=6,
        hints=(
            "510 tokens can be chosen. A causal model predicts every token but the first.",
            "In part: 2·0.15·0.85 of such words; touched at all: 1 - 0.85².",
        ),
        check=check_signal,
        bank=Bank(
            wrong=[
                Case("special ones chosen", (76.8, 61.2, 6.68, 0.919), "never chosen"),
                Case("only the [MASK]s", (61.2, 61.2, 6.68, 0.919), "predicted too"),
                Case("all [MASK]", (76.5, 76.5, 6.68, 0.919), "one chosen token in five"),
                Case("turned round", (76.5, 61.2, 0.15, 0.919), "turn it round"),
                Case("a difference", (76.5, 61.2, 434.5, 0.919), "ratio"),
                Case("of all words", (76.5, 61.2, 6.68, 0.255), "of all such words"),
                Case("one way", (76.5, 61.2, 6.68, 0.1275), "either of the two"),
                Case("whole", (76.5, 61.2, 6.68, 0.0811), "chosen whole"),
                Case("three numbers", (76.5, 61.2, 6.68), "four numbers"),
            ],
            right=[Case("as fractions", [153 / 2, 306 / 5, 511 / 76.5, 0.255 / 0.2775])],
        ),
    ),
]  # fmt: skip
