"""Low-rank adaptation: train two thin matrices beside a frozen one, and add their product to it when done.

model = load_smollm2()
add_lora(model, ["q_proj", "v_proj"], rank=8, alpha=16)     # everything else is frozen
...                                                         # train what requires gradients
save_lora(model, "adapter.safetensors")                     # the thin matrices alone
with adapters_off(model): ...                               # the model as it was
merge_lora(model)                                           # ordinary linear layers again
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "LoRALinear",
    "adapters_off",
    "add_lora",
    "load_lora",
    "lora_layers",
    "merge_lora",
    "save_lora",
    "trained_parameters",
]


class LoRALinear(nn.Module):
    """A linear layer and a low-rank change to it: ``W x + b + (alpha / rank) · B A x``.

    A (rank, in) starts as torch's linear layers do, B (out, rank) at zero: at first the layer is the one it was, and
    the first gradient reaches B alone.

    Args:
        base: the layer; it is frozen.
        rank: of the change. Trained are ``rank · (in + out)`` numbers instead of ``in · out``.
        alpha: the change is scaled by ``alpha / rank``, so that a change of rank does not ask for another rate.
        dropout: on what goes into A, while training.

    Raises:
        TypeError: ``base`` is not a linear layer.
        ValueError: ``rank`` below 1 or above the smaller side of W, where it saves nothing; ``alpha`` not above 0.

    Source: Hu et al., 2021 (arXiv:2106.09685), section 4.1.
    """

    def __init__(self, base: nn.Linear, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> None:
        super().__init__()
        if not isinstance(base, nn.Linear):
            raise TypeError(f"LoRALinear goes beside an nn.Linear, not a {type(base).__name__}")
        if not 1 <= rank <= min(base.in_features, base.out_features):
            shape = f"{base.out_features} x {base.in_features}"
            raise ValueError(f"rank={rank}: expected 1 to the smaller side of the {shape} matrix")
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha={alpha}: expected more than 0")
        self.base = base.requires_grad_(False)
        self.rank, self.alpha, self.on = rank, float(alpha), True
        self.a = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)
        self.kept: Tensor | None = None  # the weight before merging

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """The layer's answer, the change included: 2 · rank · (in + out) operations a vector more."""
        if self.kept is not None or not self.on:
            return self.base(x)
        return self.base(x) + self.scale * F.linear(F.linear(self.dropout(x), self.a), self.b)

    def delta(self) -> Float[Tensor, "d_out d_in"]:
        """The change as one matrix, (alpha / rank) · B A, in float32 or better."""
        wide = torch.promote_types(self.a.dtype, torch.float32)
        return self.scale * (self.b.to(wide) @ self.a.to(wide))

    @torch.no_grad()
    def merge(self) -> None:
        """Add the change to W. The sum is taken in float32 and rounded to W's type; W itself is kept aside.

        In float32 the output changes by rounding, 1e-6 of it. In bfloat16 a weight has 8 bits: a change
        below 1 / 512 of it is lost altogether, one above is rounded. What was trained may be mostly that small.

        Raises:
            RuntimeError: it is merged already.
        """
        if self.kept is not None:
            raise RuntimeError("this layer is merged already: adding the change twice would be wrong")
        self.kept = self.base.weight.detach().clone()
        self.base.weight.copy_((self.kept.to(self.delta().dtype) + self.delta()).to(self.kept.dtype))

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put back the W that :meth:`merge` kept, to the bit. Subtracting the change would leave its rounding.

        Raises:
            RuntimeError: it is not merged.
        """
        if self.kept is None:
            raise RuntimeError("this layer is not merged: there is nothing to take back")
        self.base.weight.copy_(self.kept)
        self.kept = None


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Path -> layer, of all that :func:`add_lora` put in."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRALinear)}


def add_lora(
    model: nn.Module, names: Sequence[str], rank: int = 8, alpha: float = 16.0, dropout: float = 0.0
) -> list[str]:
    """Freeze ``model``, put a :class:`LoRALinear` around its linear layers of these names, and return their paths.

    Args:
        names: ends of paths, whole parts only: "q_proj" takes every layer's, "layers.3.self_attn.q_proj" one.

    Raises:
        TypeError: ``names`` is one string.
        ValueError: a name that no linear layer has, a layer that has an adapter already, or one that shares its
            weight with another module (a tied head): merging would change both.
    """
    if isinstance(names, str):
        raise TypeError(f"names={names!r}: expected a list of names, such as [{names!r}]")
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = {name: [path for path in linear if f".{path}".endswith(f".{name}")] for name in names}
    if missing := [name for name in names if not found[name]]:
        known = ", ".join(sorted({path.rpartition(".")[2] for path in linear})) or "none"
        raise ValueError(f"no linear layer is called {missing[0]!r}: expected some of {known}")
    chosen = [path for path in linear if any(path in paths for paths in found.values())]
    owners: dict[int, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(p), []).append(name)
    for path in chosen:
        shared = owners[id(model.get_submodule(path).weight)]
        if isinstance(model.get_submodule(path.rpartition(".")[0]), LoRALinear):
            raise ValueError(f"{path.removesuffix('.base')} has an adapter already: merge it first, or load into it")
        if len(shared) > 1:
            raise ValueError(f"{path} shares its weight ({' and '.join(shared)}): merging would change both")
    model.requires_grad_(False)
    for path in chosen:
        base = model.get_submodule(path)
        model.set_submodule(path, LoRALinear(base, rank, alpha, dropout).train(base.training))  # type: ignore[arg-type]
    return chosen


def merge_lora(model: nn.Module) -> nn.Module:
    """Merge every adapter and put plain linear layers back, in place: no cost is left, and no way back either.

    Raises:
        ValueError: there is no adapter.
    """
    layers = _some(model)
    for path, layer in layers.items():
        if layer.kept is None:
            layer.merge()
        model.set_submodule(path, layer.base)
    return model


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before :func:`add_lora`, for a while: DPO's reference model at no cost in memory.

    Raises:
        ValueError: there is no adapter, or one is merged.
    """
    layers = _some(model)
    if merged := [path for path, layer in layers.items() if layer.kept is not None]:
        raise ValueError(f"{merged[0]} is merged into its weight and cannot be left out: unmerge() first")
    before = [layer.on for layer in layers.values()]
    try:
        for layer in layers.values():
            layer.on = False
        yield
    finally:
        for layer, on in zip(layers.values(), before):
            layer.on = on


def trained_parameters(model: nn.Module) -> tuple[int, int]:
    """How many numbers require gradients, and how many there are; a shared tensor counts once."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def save_lora(model: nn.Module, file: str | Path) -> Path:
    """Write the adapters alone, as safetensors: ``PATH.a`` and ``PATH.b``, with rank and alpha as metadata.

    Raises:
        ValueError: there is no adapter.
    """
    from safetensors.torch import save_file

    file, layers = Path(file), _some(model)
    state = {
        f"{path}.{name}": getattr(layer, name).detach().contiguous() for path, layer in layers.items() for name in "ab"
    }
    sizes = {path: f"{layer.rank} {layer.alpha!r}" for path, layer in layers.items()}
    part = file.with_name(file.name + ".part")
    save_file(state, part, metadata=sizes)
    part.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(part, file)
    return file


def load_lora(model: nn.Module, file: str | Path) -> list[str]:
    """Read what :func:`save_lora` wrote into ``model``; where it has no adapters yet they are added, and it is frozen.

    Raises:
        ValueError: the file's layers are not the model's, or differ in rank, alpha or shape.
    """
    from safetensors import safe_open

    with safe_open(Path(file), framework="pt") as opened:
        sizes = {path: (int(n), float(alpha)) for path, (n, alpha) in sorted(_parsed(file, opened.metadata()).items())}
        state = {f"{path}.{name}": opened.get_tensor(f"{path}.{name}") for path in sizes for name in "ab"}
    if not lora_layers(model):
        model.requires_grad_(False)
        for path, (rank, alpha) in sizes.items():
            try:
                base = model.get_submodule(path)
            except AttributeError as error:
                raise ValueError(f"{Path(file).name} has an adapter for {path!r}, which this model lacks") from error
            model.set_submodule(path, LoRALinear(base, rank, alpha).train(base.training))  # type: ignore[arg-type]
    layers = lora_layers(model)
    here = {path: (layer.rank, layer.alpha) for path, layer in layers.items()}
    if off := sorted(path for path in here.keys() | sizes.keys() if here.get(path) != sizes.get(path)):
        there = f"(rank, alpha) is {sizes.get(off[0])} in {Path(file).name} and {here.get(off[0])} in the model"
        raise ValueError(f"{off[0]}: {there}; load into a model without adapters, or with the same")
    with torch.no_grad():
        for path, layer in layers.items():
            for name in "ab":
                mine, theirs = getattr(layer, name), state[f"{path}.{name}"]
                if mine.shape != theirs.shape:
                    raise ValueError(f"{path}.{name}: {tuple(theirs.shape)} in the file, {tuple(mine.shape)} here")
                mine.copy_(theirs)
    return list(layers)


def _parsed(file: str | Path, metadata: dict[str, str] | None) -> dict[str, list[str]]:
    sizes = {path: text.split() for path, text in (metadata or {}).items() if path != "format"}
    if not sizes or any(len(size) != 2 for size in sizes.values()):
        raise ValueError(f"{Path(file).name} holds no adapters of save_lora: its metadata is {metadata}")
    return sizes


def _some(model: nn.Module) -> dict[str, LoRALinear]:
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no adapters: add_lora() or load_lora() first")
    return layers
