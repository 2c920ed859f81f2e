"""``llmlab estimate [MODEL]``: one published model by part and what it needs, or the whole table."""

from __future__ import annotations

import argparse
import sys

from llmlab.estimate.compute import training_flops
from llmlab.estimate.memory import cache_bytes, training_memory
from llmlab.estimate.parameters import active_parameters, parameters, total_parameters
from llmlab.estimate.published import PUBLISHED, find

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Print the estimate. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="llmlab estimate", description=__doc__)
    parser.add_argument("model", nargs="?", help="such as llama3-8b; without it, all published models")
    name = parser.parse_args(argv).model
    if name is None:
        _table()
        return 0
    try:
        _one(name)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _table() -> None:
    print(f"{'model':18}{'published':>16}{'estimated':>20}{'difference':>12}  source")
    for name, p in PUBLISHED.items():
        total = total_parameters(p.architecture)
        print(f"{name:18}{p.count:>16,.0f}{total:>20,}{total / p.count - 1:>+12.2%}  {p.source}")
        if p.off:
            print(f"{'':18}{p.off}")
        elif abs(total - p.count) > 0.01 * p.count:
            print(f"{'':18}the published figure is rounded to {2 * p.rounding:,.0f}")


def _one(name: str) -> None:
    p = find(name)
    a, total = p.architecture, total_parameters(p.architecture)
    print(f"{name}: {p.source}")
    for part, count in parameters(a).items():
        if count:
            print(f"  {part:14}{count:>20,}{count / total:>8.1%}")
    print(f"  {'all':14}{total:>20,}  published {p.count:,.0f} ({total / p.count - 1:+.2%})")
    active, state = active_parameters(a), sum(training_memory(total).values())
    print(f"  {'active':14}{active:>20,}  multiplied with every token")
    print(f"  weights in bfloat16 {2 * total / 1e9:.2f} GB; training state with AdamW {state / 1e9:.1f} GB")
    print(f"  training on 1 T tokens: 6ND = {training_flops(active, 1e12):.2e} FLOPs")
    if a.kind == "decoder":
        print(f"  cache: {cache_bytes(a, tokens=1):,} bytes a token in bfloat16")
