"""Lab 19, fine-tuning: build an adapter and merge it, mend a loss and an optimizer, and count what a 7B model costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_close, expect_number
from llmlab.course.expect import expect_choice, expect_type

# --- Build: the adapter and its merge


def check_lora(answer: Any) -> str:
    import torch
    from torch import nn

    for d_in, d_out, rank, alpha, bias in ((6, 10, 2, 8.0, True), (12, 5, 3, 3.0, False)):
        torch.manual_seed(d_in)
        base = nn.Linear(d_in, d_out, bias=bias).double()
        weight = base.weight.detach().clone()
        x = torch.randn(2, 4, d_in, dtype=torch.float64)
        before = base(x).detach()
        layer = _made(answer, base, rank, alpha)
        for name, shape in (("a", (rank, d_in)), ("b", (d_out, rank))):
            part: Any = getattr(layer, name, None)
            expect(isinstance(part, nn.Parameter), f"layer.{name} should be an nn.Parameter, or no optimizer finds it")
            expect(
                tuple(part.shape) == shape,
                f"layer.{name} has shape {tuple(part.shape)}; for {d_in} inputs, {d_out} outputs and rank {rank} it is "
                f"{shape}",
            )
        expect_close(call(layer, x), before, "the output of a new layer", hint="it must be the base's: B starts at 0")
        expect(bool(layer.a.detach().abs().sum() > 0), "A and B both start at 0: then neither ever gets a gradient")
        expect(
            int(torch.linalg.matrix_rank(layer.a.detach())) == rank,
            "the rows of A are alike: they would get the same gradient for ever, and the change would keep a lower "
            "rank. Start A at random",
        )
        held = {id(p) for p in (layer.a, layer.b)}
        extra = [n for n, p in layer.named_parameters() if p.requires_grad and id(p) not in held]
        expect(not extra, f"{extra and extra[0]} still requires a gradient: the base must be frozen")
        expect(not base.weight.requires_grad, "base.weight still requires a gradient: the base must be frozen")
        expect(layer.a.requires_grad and layer.b.requires_grad, "A and B must be trained")
        out = call(layer, x)
        expect(out.requires_grad, "A and B get no gradient: no detach and no no_grad between them and the output")
        out.square().sum().backward()
        expect(
            layer.b.grad is not None and bool(layer.b.grad.abs().sum() > 0),
            "B gets no gradient: is the product computed from the parameters, without detach or no_grad?",
        )
        with torch.no_grad():
            layer.a.copy_(torch.randn_like(layer.a))
            layer.b.copy_(torch.randn_like(layer.b))
        product = (layer.b @ layer.a).detach()
        scale = alpha / rank
        expect_close(
            call(layer, x),
            before + scale * x @ product.T,
            "the output after training",
            near_misses=[
                (before, "the adapter adds nothing"),
                (before + x @ product.T, "the scale alpha / rank is missing"),
                (before + alpha * x @ product.T, "the scale is alpha / rank, not alpha"),
                (before + alpha * rank * x @ product.T, "the scale is alpha / rank, not alpha · rank"),
                (before + alpha / math.sqrt(rank) * x @ product.T, "the scale here is alpha / rank, not alpha / √rank"),
                (scale * x @ product.T, "the base's own output is missing"),
            ],
        )
        out = call(layer, x)
        for _ in range(2):  # a second merge must not add the change again
            merged = call(layer.merged)
            expect_type(merged, nn.Linear, "layer.merged()")
            expect(
                (merged.bias is None) == (base.bias is None),
                "the merged layer has a bias where the base has none"
                if base.bias is None
                else "the merged layer has lost its bias",
            )
            expect_close(
                merged.weight.detach(),
                weight + scale * product,
                "the merged weight",
                near_misses=[
                    (weight + product, "the scale alpha / rank is missing in the merge"),
                    (weight, "nothing was added"),
                    (weight + 2 * scale * product, "the change is in it twice: merged() has altered the base"),
                    (scale * product, "the base's weight is missing"),
                ],
            )
            expect_close(merged(x), out, "the merged layer's output", rtol=1e-9, atol=1e-9)
        expect(torch.equal(base.weight, weight), "merged() has altered the base's weight: build a new layer")
        expect_close(call(layer, x), out, "the layer's own output after merged()")
    return "starts as the base, trains r(in + out) numbers, and merges into one matrix"


def _made(answer: Any, base: Any, rank: int, alpha: float) -> Any:
    from torch import nn

    layer = answer(base, rank, alpha)  # on the very base, not on a copy: whether it is frozen is looked at
    expect(isinstance(layer, nn.Module), "LoRA should be a class, an nn.Module")
    expect(layer is not base, "LoRA returns the base itself: it should be a class, an nn.Module with the base inside")
    return layer


def _lora(
    *,
    scale: Callable[[float, int], float] = lambda alpha, rank: alpha / rank,
    merge_scale: Callable[[float, int], float] | None = None,
    a_zero: bool = False,
    b_zero: bool = True,
    freeze: bool = True,
    parameter: bool = True,
    own: bool = True,
    in_place: bool = False,
    bias: bool = True,
    detached: bool = False,
    rank_is: int | None = None,
    by_matrix: bool = False,
    hide: bool = False,
    early: bool = False,
    alike: bool = False,
) -> Any:
    """The adapter; changed in one thing it is a wrong answer."""
    import torch
    from torch import nn

    class LoRA(nn.Module):
        def __init__(self, base: Any, rank: int, alpha: float) -> None:
            super().__init__()
            self.s = scale(alpha, rank)
            if hide:
                object.__setattr__(self, "base", base)
            else:
                self.base = base
            self.m = self.s if merge_scale is None else merge_scale(alpha, rank)
            if freeze:
                base.requires_grad_(False)
            rank = rank_is or rank
            w = base.weight
            a = torch.randn(rank, base.in_features, dtype=w.dtype) * (0 if a_zero else 0.1)
            a = torch.ones_like(a) if alike else a
            b = torch.randn(base.out_features, rank, dtype=w.dtype) * (0 if b_zero else 0.1)
            self.a, self.b = (nn.Parameter(a), nn.Parameter(b)) if parameter else (a, b)
            self.product = (b @ a).clone()

        def forward(self, x: Any) -> Any:
            a, b = (self.a.detach(), self.b.detach()) if detached else (self.a, self.b)
            if by_matrix:
                return torch.nn.functional.linear(x, self.base.weight + self.s * b @ a, self.base.bias)
            change = self.s * (x @ a.T @ b.T)
            return self.base(x) + change if own else change

        def merged(self) -> Any:
            has = bias and self.base.bias is not None
            out = self.base if in_place else nn.Linear(self.base.in_features, self.base.out_features, bias=has).double()
            with torch.no_grad():
                out.weight.copy_(self.base.weight + self.m * (self.product if early else self.b @ self.a))
                if has:
                    out.bias.copy_(self.base.bias)
            return out

    return LoRA


LORA = Task(
    "19.lora",
    "build",
    "An adapter, and its merge",
    2,
    12,
    (
        "Three matrices: W stays, A is (rank, in), B is (out, rank). What must B be so that the layer starts unchanged, "
        "and what must A not be?",
        "forward: base(x) + alpha / rank · (x Aᵀ) Bᵀ. merged: a new nn.Linear whose weight is W + alpha / rank · B A and "
        "whose bias is a copy of the base's, if there is one.",
    ),
    check_lora,
    Bank(
        wrong=[
            Case("no scale", _lora(scale=lambda a, r: 1.0), "the scale alpha / rank is missing"),
            Case("alpha alone", _lora(scale=lambda a, r: a), "not alpha"),
            Case("alpha times rank", _lora(scale=lambda a, r: a * r), "not alpha · rank"),
            Case("alpha over root", _lora(scale=lambda a, r: a / math.sqrt(r)), "√rank"),
            Case("merge without scale", _lora(merge_scale=lambda a, r: 1.0), "missing in the merge"),
            Case("both start at zero", _lora(a_zero=True), "both start at 0"),
            Case("B starts random", _lora(b_zero=False), "output of a new layer"),
            Case("base not frozen", _lora(freeze=False), "must be frozen"),
            Case("plain tensors", _lora(parameter=False), "nn.Parameter"),
            Case("only the change", _lora(own=False), "output of a new layer"),
            Case("merges in place", _lora(in_place=True), "altered the base"),
            Case("bias lost", _lora(bias=False), "lost its bias"),
            Case("no gradient", _lora(detached=True), "gradient"),
            Case("rank eight always", _lora(rank_is=8), "shape"),
            Case("A starts at one", _lora(alike=True), "rows of A are alike"),
            Case("base hidden, not frozen", _lora(hide=True, freeze=False), "must be frozen"),
            Case("product taken at the start", _lora(early=True), "nothing was added"),
            Case("a function", lambda base, rank, alpha: base, "should be a class"),
        ],
        right=[Case("thin products", _lora()), Case("as one matrix", _lora(by_matrix=True))],
    ),
)

# --- Debug: a loss over the prompt

END = 2


def _texts() -> list[tuple[Any, Any, Any, Any]]:
    """(logits, ids, prompt lengths, lengths): texts of uneven length, padded with the end token as is usual."""
    import torch

    made = []
    for seed, prompts, lengths in ((0, [3, 1, 4], [7, 3, 5]), (1, [2, 6], [9, 9]), (2, [5], [8])):
        generator = torch.Generator().manual_seed(seed)
        width = max(lengths) + (seed == 2)
        ids = torch.randint(0, 11, (len(lengths), width), generator=generator)
        ids[ids == END] = 0  # a token 0 that counts: it is nobody's mark for "leave out"
        for row, length in enumerate(lengths):
            ids[row, length - 1 :] = END
        logits = 2 * torch.randn(len(lengths), width, 11, generator=generator)
        made.append((logits, ids, torch.tensor(prompts), torch.tensor(lengths)))
    return made


def _answer_loss(
    logits: Any,
    ids: Any,
    prompts: Any,
    lengths: Any,
    *,
    shift: int = 1,
    first: int = 0,
    last: int = 0,
    by_id: bool = False,
    prompt: bool = False,
    reduce: str = "tokens",
    nll: bool = True,
) -> Any:
    """The loss; changed in one thing it is a wrong answer."""
    import torch

    time = torch.arange(ids.shape[1])
    keep = (time >= (1 if prompt else prompts[:, None] + first)) & (time < lengths[:, None] + last)
    if by_id:
        keep = keep & (ids != END)
    keep = keep[:, shift:] if shift else keep
    target = ids[:, shift:]
    logps = logits.log_softmax(-1)[:, : ids.shape[1] - shift].gather(-1, target[..., None])[..., 0]
    logps = -logps if nll else logps
    if reduce == "texts":
        return ((logps * keep).sum(1) / keep.sum(1)).mean()
    if reduce == "all":
        return (logps * keep).mean()
    return (logps * keep).sum() if reduce == "sum" else (logps * keep).sum() / keep.sum()


def check_answer_loss(answer: Any) -> str:
    import torch

    from llmlab.train.sft import IGNORE, answer_loss

    for number, (logits, ids, prompts, lengths) in enumerate(_texts()):
        time = torch.arange(ids.shape[1])
        counted = (time >= prompts[:, None]) & (time < lengths[:, None])
        want = answer_loss(logits, ids.masked_fill(~counted, IGNORE))
        got = call(answer, logits, ids, prompts, lengths)
        given = (logits, ids, prompts, lengths)
        expect_close(
            got,
            want,
            f"the loss of batch {number + 1}",
            near_misses=[
                (
                    _answer_loss(*given, shift=0),
                    "nothing is shifted: the logits at a token predict the token after it, not itself",
                ),
                (_answer_loss(*given, prompt=True), "the prompt is still counted"),
                (_answer_loss(*given, prompt=True, last=99), "prompt and padding are counted"),
                (_answer_loss(*given, last=99), "the padding is counted"),
                (
                    _answer_loss(*given, first=1),
                    "the answer's first token is missing: the prompt's last one predicts it",
                ),
                (_answer_loss(*given, first=-1), "the prompt's last token is counted: shift first, then mask"),
                (
                    _answer_loss(*given, by_id=True),
                    "the end token is not learned: it has the same number as the padding, so mask by length, not by id",
                ),
                (_answer_loss(*given, last=-1), "the end token is not learned: the answer ends with it"),
                (_answer_loss(*given, reduce="texts"), "it is a mean of means: every counted token weighs the same"),
                (_answer_loss(*given, reduce="all"), "you divide by all positions, not by the counted ones"),
                (_answer_loss(*given, reduce="sum"), "that is the sum; the mean is asked for"),
                (_answer_loss(*given, nll=False), "the sign is wrong"),
            ],
        )
    logits, ids, prompts, lengths = _texts()[0]
    leaf = logits.clone().requires_grad_()
    out = answer(leaf, ids, prompts, lengths)
    expect(
        isinstance(out, torch.Tensor) and out.requires_grad, "the loss has lost its gradient: stay in torch, no item()"
    )
    (grad,) = torch.autograd.grad(out, leaf, allow_unused=True)
    expect(grad is not None, "the loss has lost its gradient: it does not reach the logits")
    time = torch.arange(ids.shape[1])
    counted = (time >= prompts[:, None]) & (time < lengths[:, None])
    true = logits.clone().requires_grad_()
    (want,) = torch.autograd.grad(answer_loss(true, ids.masked_fill(~counted, IGNORE)), true)
    expect_close(grad, want, "the gradient", hint="the number is right, but what it teaches is not")
    return "counts the answer and its end, shifted by one, and nothing else"


def _per_text(logits: Any, ids: Any, prompts: Any, lengths: Any) -> Any:
    """A right answer written differently: a loop."""
    import torch
    import torch.nn.functional as F

    pieces = []
    for row, (start, end) in enumerate(zip(prompts.tolist(), lengths.tolist())):
        pieces.append(F.cross_entropy(logits[row, start - 1 : end - 1], ids[row, start:end], reduction="none"))
    return torch.cat(pieces).mean()


def _frozen(logits: Any, ids: Any, prompts: Any, lengths: Any) -> Any:
    return _answer_loss(logits, ids, prompts, lengths).detach() + 0 * logits.sum()


def _by_zero(logits: Any, ids: Any, prompts: Any, lengths: Any) -> Any:
    """Marks what is not counted with 0, which is a token."""
    import torch
    import torch.nn.functional as F

    time = torch.arange(ids.shape[1])
    labels = ids.masked_fill((time < prompts[:, None]) | (time >= lengths[:, None]), 0)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=0)


def _loss(**change: Any) -> Callable[..., Any]:
    return lambda logits, ids, prompts, lengths: _answer_loss(logits, ids, prompts, lengths, **change)


ANSWER_LOSS = Task(
    "19.answer_loss",
    "debug",
    "A loss over the prompt",
    2,
    8,
    (
        "Write down, for a prompt of 3 tokens and an answer of 2, which position's logits predict which token.",
        "Logits [:, :-1] against ids [:, 1:]. Token t of a text counts when prompt ≤ t < length; sum over these, "
        "divide by their number.",
    ),
    check_answer_loss,
    Bank(
        wrong=[
            Case("as given", _loss(shift=0, prompt=True, last=99, reduce="all"), "loss of batch 1"),
            Case("no shift", _loss(shift=0), "nothing is shifted"),
            Case("prompt counted", _loss(prompt=True), "prompt is still counted"),
            Case("padding counted", _loss(last=99), "padding is counted"),
            Case("all counted", _loss(prompt=True, last=99), "prompt and padding"),
            Case("first token lost", _loss(first=1), "first token is missing"),
            Case("one too many", _loss(first=-1), "shift first"),
            Case("mask by id", _loss(by_id=True), "mask by length"),
            Case("end lost", _loss(last=-1), "end token is not learned"),
            Case("mean of means", _loss(reduce="texts"), "mean of means"),
            Case("mean of everything", _loss(reduce="all"), "not by the counted ones"),
            Case("sum", _loss(reduce="sum"), "that is the sum"),
            Case("sign", _loss(nll=False), "sign is wrong"),
            Case("no gradient in it", _frozen, "the gradient"),
            Case("cut off", lambda *given: _answer_loss(*given).detach().requires_grad_(), "does not reach the logits"),
            Case("zero marks the rest", _by_zero, "the loss of batch"),
            Case("a number", lambda *given: _answer_loss(*given).item(), "lost its gradient"),
        ],
        right=[Case("masked", _answer_loss), Case("a loop", _per_text)],
    ),
)

# --- Debug: a rate that wipes out what was learned

BODY, HEAD, DECAY = 2e-5, 1e-3, 0.01


def _model(frozen: bool = True) -> Any:
    """A body with a frozen embedding and a norm, and a head; one matrix of the body is used twice."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Module()
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    model.body = nn.ModuleDict({"token": nn.Embedding(9, 6), "first": first, "second": second, "norm": nn.LayerNorm(6)})
    model.head = nn.Linear(6, 2)
    if frozen:
        model.body["token"].requires_grad_(False)
    return model


def check_rates(answer: Any) -> str:
    import torch

    for frozen in (True, False):
        model = _model(frozen)
        optimizer = answer(model)  # on the very model: what it holds is compared by identity
        expect(
            isinstance(optimizer, torch.optim.AdamW),
            "expected a torch.optim.AdamW"
            + (": Adam adds weight decay to the gradient" if isinstance(optimizer, torch.optim.Adam) else ""),
        )
        names = {id(p): n for n, p in model.named_parameters()}
        seen: dict[str, dict[str, Any]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                expect(id(p) in names, "the optimizer holds a tensor that is not a parameter of the model: a copy?")
                seen[names[id(p)]] = group
        wanted = {n: p for n, p in model.named_parameters() if p.requires_grad}
        lost = [n for n in wanted if n not in seen]
        expect(not lost, f"{lost and lost[0]} requires a gradient, and the optimizer does not hold it")
        extra = [n for n in seen if n not in wanted]
        expect(not extra, f"{extra and extra[0]} is frozen: leave it out, or the optimizer believes that it is trained")
        for name, p in wanted.items():
            rate, decay = seen[name]["lr"], seen[name]["weight_decay"]
            head = name.startswith("head.")
            if math.isclose(rate, HEAD if head else BODY):
                pass
            elif not head and rate > BODY:
                raise Wrong(f"{name} is pretrained and has the rate {rate:g}: at that it forgets what it knew")
            else:
                raise Wrong(f"{name} has the rate {rate:g}, expected {HEAD if head else BODY:g}")
            matrix = p.dim() > 1
            if not math.isclose(decay, DECAY if matrix else 0.0):
                raise Wrong(
                    f"{name} has weight decay {decay:g}, expected {DECAY if matrix else 0.0:g}: matrices decay, biases "
                    "and norms do not"
                )
        expect(model.head.weight.requires_grad, "the head has been frozen")
        expect(
            model.body["token"].weight.requires_grad is not frozen,
            "requires_grad has been changed: the function builds an optimizer, what is trained is decided elsewhere",
        )
    return "the pretrained weights move slowly, the new ones fast, and nothing frozen is held"


def _rates(
    *,
    body: float = BODY,
    head: float = HEAD,
    decay: float = DECAY,
    vectors: float = 0.0,
    frozen: bool = False,
    norms: bool = True,
    kind: str = "AdamW",
    copy: bool = False,
    thaw: bool = False,
) -> Callable[[Any], Any]:
    """The optimizer; changed in one thing it is a wrong answer."""

    def optimizer(model: Any) -> Any:
        import torch

        if thaw:
            model.requires_grad_(True)
        groups = []
        for name, p in model.named_parameters():
            if (not p.requires_grad and not frozen) or (not norms and "norm" in name):
                continue
            rate = head if name.startswith("head.") else body
            held = torch.nn.Parameter(p.detach().clone()) if copy else p
            groups.append({"params": [held], "lr": rate, "weight_decay": decay if p.dim() > 1 else vectors})
        return getattr(torch.optim, kind)(groups)

    return optimizer


def _four_groups(model: Any) -> Any:
    """A right answer written differently."""
    import torch

    groups: dict[tuple[bool, bool], list[Any]] = {}
    for part, module in (("body", model.body), ("head", model.head)):
        for p in module.parameters():
            if p.requires_grad:
                groups.setdefault((part == "head", p.dim() > 1), []).append(p)
    return torch.optim.AdamW(
        [
            {"params": ps, "lr": HEAD if head else BODY, "weight_decay": DECAY if matrix else 0.0}
            for (head, matrix), ps in groups.items()
        ]
    )


RATES = Task(
    "19.rates",
    "debug",
    "The rate that wipes it out",
    2,
    8,
    (
        "One rate for all: which of these parameters have been trained before, and which are random?",
        "Go through model.named_parameters(), leave out what requires no gradient, and sort the rest by two questions: "
        "does the name begin with 'head.', and has it two axes?",
    ),
    check_rates,
    Bank(
        wrong=[
            Case("as given", lambda model: __import__("torch").optim.AdamW(model.parameters(), lr=1e-3), "frozen"),
            Case("one rate", _rates(body=1e-3), "forgets what it knew"),
            Case("head too slow", _rates(head=2e-5), "expected 0.001"),
            Case("body too slow", _rates(body=2e-6), "expected 2e-05"),
            Case("all decay", _rates(vectors=DECAY), "biases and norms do not"),
            Case("none decays", _rates(decay=0.0), "matrices decay"),
            Case("frozen held", _rates(frozen=True), "is frozen"),
            Case("norms forgotten", _rates(norms=False), "does not hold it"),
            Case("Adam", _rates(kind="Adam"), "expected a torch.optim.AdamW"),
            Case("SGD", _rates(kind="SGD"), "expected a torch.optim.AdamW"),
            Case("copies", _rates(copy=True), "a copy?"),
            Case("thaws", _rates(thaw=True), "changed"),
        ],
        right=[Case("a group each", _rates()), Case("four groups", _four_groups)],
    ),
)

# --- Reason: 7B


def _seven() -> dict[str, float]:
    from llmlab.estimate import adapter_memory, find, lora_parameters, total_parameters, training_memory

    a = find("llama2-7b").architecture
    n = total_parameters(a)
    lora = adapter_memory(a, n, rank=16, targets=("q", "v"))
    return {
        "n": n,
        "full": sum(training_memory(n).values()) / 1e9,
        "trained": lora_parameters(a, rank=16, targets=("q", "v")),
        "lora": sum(lora.values()) / 1e9,
        "qlora": sum(adapter_memory(a, n, rank=16, targets=("q", "v"), quantised=True).values()) / 1e9,
    }


def check_memory(answer: Any) -> str:
    expect_type(answer, dict, "answer")
    missing = [key for key in ("full", "trained", "lora", "qlora") if key not in answer]
    expect(not missing, f"answer lacks {', '.join(missing)}")
    right = _seven()
    n = right["n"]
    expect_number(
        answer["full"],
        right["full"],
        rtol=0.03,
        unit="GB",
        what="full tuning",
        near_misses={
            2 * n / 1e9: "that is the weights alone",
            4 * n / 1e9: "that is weights and gradients; AdamW keeps two numbers and an fp32 copy of every weight",
            12 * n / 1e9: "the fp32 master copy is missing (or you left out weights and gradients)",
            right["full"] * 1e9 / 2**30: "that is GiB; the task asks for 10⁹ bytes",
        },
    )
    expect_number(
        answer["trained"],
        right["trained"],
        rtol=0.005,
        what="the trained parameters",
        near_misses={
            right["trained"] / 2: "two matrices, q and v, and each has an A and a B",
            right["trained"] / 32: "that is one layer; there are 32",
            right["trained"] * 2: "only q and v have adapters",
            2 * 32 * 4096 * 4096: "that is the full matrices; the adapter has r · (in + out) numbers",
        },
    )
    expect_number(
        answer["lora"],
        right["lora"],
        rtol=0.01,
        unit="GB",
        what="LoRA",
        near_misses={
            16 * right["trained"] / 1e9: "the frozen weights must be in memory too",
            16 * n / 1e9: "the frozen weights have neither gradient nor state",
            4 * n / 1e9: "the frozen weights have no gradient, and are kept in 16 bits",
        },
    )
    expect_number(
        answer["qlora"],
        right["qlora"],
        rtol=0.05,
        unit="GB",
        what="QLoRA",
        near_misses={
            n / 1e9: "that is 8 bits a weight; QLoRA keeps 4",
            4 * n / 1e9: "4 bits, not 4 bytes",
        },
    )
    expect_choice(
        answer.get("left"),
        "activations",
        {
            "weights": "QLoRA shrinks them to a quarter",
            "gradients": "they exist for the trained numbers alone",
            "optimizer": "it exists for the trained numbers alone",
        },
        "what adapters do not shrink (left)",
    )
    return "from 108 GB to 14 to 4: what goes away is gradients, state and master copy, then bits; activations stay"


def _memory(**change: Any) -> dict[str, Any]:
    right = {"full": 107.8, "trained": 8_388_608, "lora": 13.6, "qlora": 3.6, "left": "activations"}
    return right | change


MEMORY = Task(
    "19.memory",
    "reason",
    "Full tuning and LoRA at 7B",
    2,
    7,
    (
        "Full: bf16 weights and gradients, an fp32 copy, two fp32 moments. LoRA: which of these does a frozen weight need?",
        "16 bytes a parameter, and 2. A 4096 × 4096 matrix with rank 16 has 16 · (4096 + 4096) trained numbers; "
        "llmlab.estimate counts them all.",
    ),
    check_memory,
    Bank(
        wrong=[
            Case("weights alone", _memory(full=13.5), "weights alone"),
            Case("no master copy", _memory(full=80.9), "master copy"),
            Case("GiB", _memory(full=100.4), "GiB"),
            Case("one layer", _memory(trained=262_144), "one layer"),
            Case("A alone", _memory(trained=4_194_304), "an A and a B"),
            Case("whole matrices", _memory(trained=1_073_741_824), "r · (in + out)"),
            Case("no base", _memory(lora=0.134), "frozen weights must be in memory"),
            Case("base with state", _memory(lora=107.8), "neither gradient nor state"),
            Case("eight bits", _memory(qlora=6.74), "8 bits"),
            Case("wrong rest", _memory(left="optimizer"), "trained numbers alone"),
            Case("a key is missing", {"full": 107.8}, "lacks trained"),
            Case("no dict", 107.8, "answer"),
        ],
        right=[Case("rounded", _memory()), Case("more digits", _memory(full=107.81, lora=13.61, qlora=3.62))],
    ),
)

# --- Reason: what bfloat16 forgets


def check_rounding(answer: Any) -> str:
    expect_type(answer, dict, "answer")
    missing = [key for key in ("spacing", "with_master", "without") if key not in answer]
    expect(not missing, f"answer lacks {', '.join(missing)}")
    spacing = 2.0**-5 / 128
    expect_number(
        answer["spacing"],
        spacing,
        rtol=0.01,
        what="the spacing",
        near_misses={
            2.0**-7: "that is the spacing at 1; it shrinks with the number: 0.04 lies between 1/32 and 1/16",
            2.0**-5 / 256: "that is half of it, which is how far rounding reaches",
            0.04 / 128: "the spacing is the same between two powers of two: take 1/32, not 0.04",
            2.0**-5 / 1024: "that is float16; bfloat16 has 7 bits after the point",
        },
    )
    expect_number(
        answer["with_master"],
        7,
        rtol=1e-6,
        what="the steps with a master copy",
        near_misses={
            13: "that is the whole spacing; the copy jumps when half of it is passed",
            12: "that is the whole spacing; the copy jumps when half of it is passed",
            6: "after 6 steps the sum is 1.2e-4, just short of half the spacing",
        },
    )
    expect_choice(
        answer["without"],
        "never",
        {
            "after 7 steps": "each sum is rounded before the next: the first six leave no trace",
            "after 1 step": "a step of 2e-5 is less than half the spacing: it is rounded away",
            "after 13 steps": "nothing adds up: each sum is rounded at once",
        },
        "without a master copy (without)",
    )
    return "a fine-tuning step is smaller than bfloat16 can see: it must be added up in float32"


def _rounding(**change: Any) -> dict[str, Any]:
    return {"spacing": 2.44e-4, "with_master": 7, "without": "never"} | change


ROUNDING = Task(
    "19.rounding",
    "reason",
    "A step that bfloat16 cannot see",
    2,
    6,
    (
        "bfloat16 has 8 bits of precision: between 2ᵏ and 2ᵏ⁺¹ there are 128 equal steps.",
        "Between 1/32 and 1/16 the spacing is 1/32/128. A sum is rounded to the nearest: how far must it be from the old "
        "value before it becomes the new one?",
    ),
    check_rounding,
    Bank(
        wrong=[
            Case("spacing at one", _rounding(spacing=2**-7), "spacing at 1"),
            Case("half", _rounding(spacing=1.22e-4), "half of it"),
            Case("relative", _rounding(spacing=0.04 / 128), "take 1/32"),
            Case("float16", _rounding(spacing=2**-15), "float16"),
            Case("whole spacing", _rounding(with_master=13), "half of it is passed"),
            Case("one early", _rounding(with_master=6), "just short"),
            Case("seven anyway", _rounding(without="after 7 steps"), "leave no trace"),
            Case("at once", _rounding(without="after 1 step"), "rounded away"),
            Case("no dict", 7, "answer"),
        ],
        right=[Case("rounded", _rounding()), Case("exact", _rounding(spacing=2**-12, without=" Never "))],
    ),
)

TASKS = (LORA, ANSWER_LOSS, RATES, MEMORY, ROUNDING)
