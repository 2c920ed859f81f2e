"""``llmlab bench attention``: time, memory and share of the machine's matmul rate, for every way to compute attention.

The baseline, called ``torch``, is torch's ``scaled_dot_product_attention`` called directly with its own causal flag, in
the same run and in turns with the others. On a GPU torch has several kernels: each is measured, and ratios refer to the
best of them.

Operations are counted as the FlashAttention papers count them: 4 T^2 d for each head forward, half of it when causal,
and two and a half times that backward (five products where the forward has two).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from llmlab import runtime
from llmlab.attention import BACKENDS, BackendError, attention, attention_backends
from llmlab.bench.measure import best_times, exponent, matmul_rate, seconds, stamp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Case", "Setting", "main", "measure"]

Row = dict[str, Any]
Way = Callable[[Tensor, Tensor, Tensor, bool], Tensor]

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BASELINES = {
    "torch": None,
    "torch flash": SDPBackend.FLASH_ATTENTION,
    "torch cuDNN": SDPBackend.CUDNN_ATTENTION,
    "torch efficient": SDPBackend.EFFICIENT_ATTENTION,
}
NAMES = ("auto", *BACKENDS, "flash-attn")


class Setting(NamedTuple):
    """What stays the same in one run."""

    batch: int
    heads: int
    d: int
    dtype: torch.dtype
    device: torch.device
    limit: float  # seconds: what will take longer in one call is left out
    rounds: int


class Case(NamedTuple):
    """One thing to measure, for every way to do it."""

    length: int
    causal: bool
    direction: str  # "forward" or "backward"

    def operations(self, setting: Setting) -> float:
        """FLOP, by the papers' count."""
        pairs = self.length * (self.length + 1) / 2 if self.causal else self.length**2
        return 4 * setting.batch * setting.heads * pairs * setting.d * (2.5 if self.direction == "backward" else 1)


def cases(lengths: Sequence[int]) -> Iterator[Case]:
    for length in lengths:
        for causal in (False, True):
            yield from (Case(length, causal, direction) for direction in ("forward", "backward"))


def ways(setting: Setting, names: Sequence[str]) -> dict[str, Way]:
    """The baselines, then what was asked for."""
    kernels = BASELINES if setting.device.type == "cuda" else {"torch": None}
    found: dict[str, Way] = {name: _torch(kernel) for name, kernel in kernels.items()}
    return found | {name: _flash_attn if name == "flash-attn" else _ours(name) for name in names}


def _torch(kernel: SDPBackend | None) -> Way:
    def run(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        with nullcontext() if kernel is None else sdpa_kernel(kernel):
            return scaled_dot_product_attention(q, k, v, is_causal=causal)

    return run


def _ours(name: str) -> Way:
    return lambda q, k, v, causal: attention(q, k, v, causal=causal, backend=name)


def _flash_attn(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    from flash_attn import flash_attn_func

    out: Tensor = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), causal=causal)
    return out.transpose(1, 2)


def measure(
    setting: Setting, lengths: Sequence[int], names: Sequence[str], rate: float, say: Callable[[str], None] = print
) -> list[Row]:
    """One row for each length, rule, direction and way, with its numbers or, under "skipped", why there are none.

    Rows have: seconds (of the forward, or of the backward alone), first_seconds, peak_bytes (of the forward without
    gradients, or of both together), matmul_share (of ``rate``, in FLOP/s), and the ratios to torch's best.
    """
    rows: list[Row] = []
    last: dict[tuple[str, bool, str], Row] = {}  # what the length before took, to foresee the next
    for case in cases(lengths):
        group = {name: _first(setting, case, name, way, last) for name, way in ways(setting, names).items()}
        runs = {name: row.pop("run") for name, row in group.items() if "run" in row}
        best = best_times(runs, setting.device, rounds=setting.rounds)
        for name, least in best.items():
            share = case.operations(setting) / least / rate
            group[name] |= {"seconds": least, "matmul_share": share}
            last[name, case.causal, case.direction] = group[name]
        for ratio, what in (("time_ratio", "seconds"), ("memory_ratio", "peak_bytes")):
            own = min((group[name][what] for name in best if name in BASELINES), default=None)
            for name in best:
                group[name][ratio] = group[name][what] / own if own else None
        rows += group.values()
        say(_line(case, group))
    return rows


def _first(setting: Setting, case: Case, name: str, way: Way, last: dict[Any, Row]) -> Row:
    """The row with its first call and its memory, and under "run" what is to be timed."""
    row: Row = {"length": case.length, "causal": case.causal, "direction": case.direction, "backend": name}
    reason = _foreseen(setting, case, name, last.get((name, case.causal, case.direction)))
    if reason is not None:
        return row | {"skipped": reason}
    wants = case.direction == "backward"
    shape = setting.batch, setting.heads, case.length, setting.d
    g = torch.Generator().manual_seed(case.length)
    q, k, v, d_output = (torch.randn(shape, generator=g).to(setting.device, setting.dtype) for _ in range(4))
    inputs = [x.requires_grad_(wants) for x in (q, k, v)]

    def forward() -> Tensor:
        with torch.set_grad_enabled(wants):
            return way(q, k, v, case.causal)

    def both() -> None:
        torch.autograd.grad(forward(), inputs, d_output)

    try:
        row["first_seconds"] = seconds(both if wants else forward, setting.device)
        row["peak_bytes"] = runtime.peak_memory(both if wants else forward, setting.device)
        if not wants:
            return row | {"run": forward}
        output = forward()
        return row | {"run": lambda: torch.autograd.grad(output, inputs, d_output, retain_graph=True)}
    except (BackendError, ImportError, RuntimeError, TypeError) as error:
        return row | {"skipped": str(error).splitlines()[0]}


def _foreseen(setting: Setting, case: Case, name: str, before: Row | None) -> str | None:
    """Why a call is not even tried: a table of scores beyond the memory, or a time beyond the limit."""
    if before is not None and before["length"] < case.length:
        expected = before["seconds"] * (case.length / before["length"]) ** 2
        if expected > setting.limit:
            return f"it would take about {expected:.0f} s a call, and --limit is {setting.limit:g} s"
    if name == "naive":
        tables = 5 if case.direction == "backward" else 3
        needed = tables * setting.batch * setting.heads * case.length**2 * 4
        free = psutil.virtual_memory().available
        if setting.device.type == "cuda":
            free = torch.cuda.mem_get_info(setting.device)[0]
        if needed > 0.8 * free:
            return f"{tables} tables of scores would need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
    return None


def goals(setting: Setting, rows: Sequence[Row]) -> list[Row]:
    """What was aimed at, and what these rows say of it."""
    done = [row for row in rows if row.get("time_ratio")]
    found: list[Row] = []

    def goal(what: str, values: Sequence[float], limit: float, least: bool = False) -> None:
        if values:
            value = min(values) if least else max(values)
            met = value >= limit if least else value <= limit
            found.append({"goal": what, "limit": limit, "value": value, "met": met})

    def ratios(backend: str, kind: str, **where: Any) -> list[float]:
        return [r[kind] for r in done if r["backend"] == backend and all(r[key] == x for key, x in where.items())]

    if setting.device.type == "cuda":
        longest = max((r["length"] for r in done if r["backend"] == "triton"), default=0)
        for direction, limit in (("forward", 0.9), ("backward", 0.8)):
            speeds = [1 / x for x in ratios("triton", "time_ratio", length=longest, direction=direction)]
            goal(f"triton {direction}, speed as a share of torch's best, T={longest}", speeds, limit, least=True)
        return found
    auto = ratios("auto", "time_ratio")
    goal("auto, time to torch's, the median of all cases", [statistics.median(auto)] if auto else [], 1.03)
    goal("tiled, time to torch's, the worst case at T=4096", ratios("tiled", "time_ratio", length=4096), 2.5)
    goal("tiled, memory to torch's, the worst case at T=4096", ratios("tiled", "memory_ratio", length=4096), 1.5)
    return found


def fits(rows: Sequence[Row]) -> list[Row]:
    """The power of the length that time and memory grow with: a line through the logarithms, from T = 1024 on."""
    series: dict[tuple[str, bool, str], list[Row]] = {}
    for row in rows:
        if "seconds" in row:
            series.setdefault((row["backend"], row["causal"], row["direction"]), []).append(row)
    found = []
    for (backend, causal, direction), some in series.items():
        long = [row for row in some if row["length"] >= 1024]
        long = long if len(long) >= 2 else some
        if len(long) >= 2:
            sizes = [row["length"] for row in long]
            time, memory = (exponent(sizes, [row[key] for row in long]) for key in ("seconds", "peak_bytes"))
            where = {"backend": backend, "causal": causal, "direction": direction}
            found.append(where | {"time_exponent": time, "memory_exponent": memory})
    return found


def draw(rows: Sequence[Row], powers: Sequence[Row], title: str) -> Figure:
    """Time and memory over the length, both logarithmic, causal; the fitted powers stand in the legends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    names = list(dict.fromkeys(row["backend"] for row in rows))
    styles = {name: {"color": f"C{i}", "marker": "osD^vP*Xh<"[i % 10]} for i, name in enumerate(names)}
    for column, direction in enumerate(("forward", "backward")):
        for line, (key, unit, scale, power) in enumerate(
            (("seconds", "ms", 1e3, "time_exponent"), ("peak_bytes", "MiB", 2**-20, "memory_exponent"))
        ):
            ax = axes[line][column]
            for name in names:
                some = [r for r in rows if (r["backend"], r["causal"], r["direction"]) == (name, True, direction)]
                some = [r for r in some if "seconds" in r]
                if not some:
                    continue
                fit = [f for f in powers if (f["backend"], f["causal"], f["direction"]) == (name, True, direction)]
                label = f"{name}: T^{fit[0][power]:.2f}" if fit else name
                values = [r[key] * scale for r in some]
                ax.plot([r["length"] for r in some], values, label=label, alpha=0.8, **styles[name])
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            what = "time" if key == "seconds" else "peak memory"
            both = " (with its forward)" if key == "peak_bytes" and direction == "backward" else ""
            ax.set_title(f"{direction}{both}: {what}", fontsize=10)
            ax.set_ylabel(unit)
            ax.grid(alpha=0.3)
            if ax.lines:
                ax.legend(fontsize=8)
    for ax in axes[1]:
        ax.set_xlabel("T, queries and keys")
    figure.suptitle(title, fontsize=11)
    return figure


def _line(case: Case, group: dict[str, Row]) -> str:
    """One case of the printed table: a line for each way."""
    rule = "causal" if case.causal else "full"
    lines = [f"T = {case.length}, {rule}, {case.direction}"]
    for name, row in group.items():
        if "seconds" not in row:
            lines.append(f"  {name:16} skipped: {row['skipped']}")
            continue
        over = [f"{row[key]:8.2f} x" if row[key] else "       -  " for key in ("time_ratio", "memory_ratio")]
        lines.append(
            f"  {name:16}{row['seconds'] * 1e3:10.2f} ms {over[0]}{row['peak_bytes'] / 2**20:10.1f} MiB {over[1]}"
            f"{row['matmul_share']:8.0%} of matmul"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Measure, print, and write what was asked for. Returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    lengths, names = list(args.lengths or LENGTHS), list(args.backends or ())
    try:
        runtime.set_threads()
        device = torch.device(args.device) if args.device else runtime.device()
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        parser.error(f"{str(error).splitlines()[0]}; name another with --device, as cpu")
    dtype = DTYPES[args.dtype] if args.dtype else runtime.dtype_for(device)
    for path in (args.json, args.figure):
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"there is no folder {path.parent} to write {path.name} into")
    setting = Setting(args.batch, args.heads, args.d, dtype, device, args.limit, 3 if args.quick else 20)
    if args.quick:
        lengths = list(args.lengths or (128, 256))
    names = names or _sensible(setting, quick=args.quick)
    made = stamp(device)
    size = 256 if args.quick else 2048
    rate = matmul_rate(dtype, device, size)
    shape = f"batch {setting.batch}, {setting.heads} heads, d {setting.d}, {str(dtype).removeprefix('torch.')}"
    print(f"{made['device']}, {made['threads']} thread(s), torch {made['versions']['torch']}; {shape}")
    print(f"one {size} x {size} product: {rate / 1e9:.0f} GFLOP/s. Ratios are to torch's own kernel in this run.")
    if made["load"] is not None and made["load"] > made["threads"]:
        print(f"The machine is busy (load {made['load']}): trust the ratios more than the times.")
    rows = measure(setting, lengths, names, rate)
    powers, aims = fits(rows), goals(setting, rows)
    for power in powers:
        if power["causal"]:
            print(
                f"  {power['backend']:16}{power['direction']:9} causal: time as T^{power['time_exponent']:.2f}, "
                f"memory as T^{power['memory_exponent']:.2f}"
            )
    for aim in aims:
        print(f"  {'met    ' if aim['met'] else 'not met'} {aim['goal']}: {aim['value']:.2f}, goal {aim['limit']}")
    if args.json is not None:
        report = {
            "bench": "attention",
            "stamp": made,
            "setting": {"batch": setting.batch, "heads": setting.heads, "d": setting.d, "dtype": str(dtype)},
            "matmul": {"size": size, "flops": rate},
            "rows": rows,
            "fits": powers,
            "goals": aims,
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if args.figure is not None:
        draw(rows, powers, f"Causal attention on {made['device']}: {shape}").savefig(args.figure, dpi=110)
    return 0


def _sensible(setting: Setting, quick: bool) -> list[str]:
    """What this machine can do at all; a quick run does without what must be compiled."""
    x = torch.empty(1, setting.heads, 16, setting.d, dtype=setting.dtype, device=setting.device)
    can = {row.name for row in attention_backends(x, x, x) if row.can_run}
    names = ["auto", *(name for name in ("sdpa", "tiled", "naive", "flex", "triton") if name in can)]
    if quick:
        return [name for name in names if name != "flex"]
    if setting.device.type == "cuda" and util.find_spec("flash_attn"):
        names.append("flash-attn")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmlab bench attention", description="Time and memory of every way to compute attention, over the length."
    )
    add = parser.add_argument
    add("--lengths", type=_counts, metavar="512,1024", help="queries and keys, default 512 to 16384")
    add("--batch", type=_count, default=1)
    add("--heads", type=_count, default=8)
    add("--d", type=_count, default=64, help="size of a head, default 64")
    add("--dtype", choices=DTYPES, help="default: the course's for the device")
    add("--device", help="cpu, cuda, cuda:1; default: the course's choice")
    add("--backends", type=_names, metavar="tiled,naive", help=f"of {', '.join(NAMES)}; default: what runs here")
    add("--limit", type=_positive, default=5.0, help="seconds; what will take longer in one call is left out")
    add("--json", type=Path, metavar="FILE", help="write everything there")
    add("--figure", type=Path, metavar="FILE", help="draw time and memory there, as .png or .svg")
    add("--quick", action="store_true", help="two short lengths, three rounds: does it run at all?")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 1 or more")
    return int(text)


def _counts(text: str) -> list[int]:
    return sorted({_count(part.strip()) for part in text.split(",")})


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number of seconds")
    return value


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is unknown: expected of {', '.join(NAMES)}")
    return list(dict.fromkeys(names))
