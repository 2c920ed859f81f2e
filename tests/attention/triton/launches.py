"""Prints what calls of the operators would have compiled, for ``test_triton_launch.py``. Run without TRITON_INTERPRET."""

from __future__ import annotations

import json

import torch
import triton
from triton.backends.compiler import GPUTarget

from llmlab.attention.triton import ops, resources

WHERE = {"sm_80": (8, 0), "sm_90": (9, 0), "sm_100": (10, 0)}
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Driver:
    """A device that cannot compute."""

    def __init__(self, capability: tuple[int, int]) -> None:
        self.capability = capability

    def get_current_device(self) -> tuple[int, int]:
        return self.capability

    def get_current_stream(self, device) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 10 * self.capability[0] + self.capability[1], 32)


def plain(x):
    """Comparable after JSON: tuples as lists, keys as text, empty attributes left out."""
    if isinstance(x, dict):
        return {str(key): plain(value) for key, value in sorted(x.items(), key=str) if value != []}
    return [plain(y) for y in x] if isinstance(x, list | tuple) else x


def main() -> None:
    taken: dict[str, list] = {}

    def take(*, fn, compile, **rest) -> bool:
        options = {"num_warps": compile["num_warps"], "num_stages": compile["num_stages"]}
        name = fn.name.removesuffix("_kernel")
        taken[name] = plain([compile["signature"], compile["constants"], compile["configs"][0], options])
        return True  # it is taken care of: do not compile, do not launch

    triton.knobs.runtime.jit_cache_hook = take
    answer = {}
    for arch, capability in WHERE.items():
        triton.runtime.driver.set_active(Driver(capability))
        torch.cuda.get_device_capability = lambda device, capability=capability: capability
        for case in ("d64 bf16", "d128 fp16", "d128 fp32"):
            d, dtype = int(case.split()[0][1:]), case.split()[1]
            taken.clear()
            # Packed as (total, heads, d), the layout of the example in ``resources``; d_lse makes delta's call whole.
            q, k, v = torch.zeros(3, 1024, 4, d, dtype=TYPES[dtype]).unbind()
            ends = torch.tensor([0, 300, 1024])
            args = (*(x.requires_grad_() for x in (q, k, v)), ends, ends, 724, 724)
            output, lse = ops.varlen(*args, causal=True, window=9, sinks=2, scale=0.5)
            (output.sum() + lse.sum()).backward()
            called = dict(taken)
            ahead = {}
            for build in resources.builds(arch):
                kernel, size, kind = build.name.split()
                if kernel in called and (size, kind) == (f"d{d}", dtype):
                    source = resources.source(build)
                    options = {"num_warps": build.config.warps, "num_stages": build.config.stages}
                    ahead[kernel] = plain([source.signature, source.constants, source.attrs, options])
            answer[f"{arch} {case}"] = {kernel: [called[kernel], ahead[kernel]] for kernel in ahead}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
