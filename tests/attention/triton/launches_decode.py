"""Prints what decoding would have compiled, for ``test_triton_decode_launch.py``. Run without TRITON_INTERPRET."""

from __future__ import annotations

import json

import torch
import triton
from launches import TYPES, WHERE, Driver, plain

from llmlab.attention.triton import decode, resources


def main() -> None:
    taken = {}

    def take(*, fn, compile, **rest) -> bool:
        options = {"num_warps": compile["num_warps"], "num_stages": compile["num_stages"]}
        name = fn.name.removesuffix("_kernel")
        taken[name] = plain([compile["signature"], compile["constants"], compile["configs"][0], options])
        return True

    triton.knobs.runtime.jit_cache_hook = take
    answer = {}
    for arch, capability in WHERE.items():
        triton.runtime.driver.set_active(Driver(capability))
        torch.cuda.get_device_capability = lambda device, capability=capability: capability
        for build in resources.decode_builds(arch):
            kernel, size, kind = build.name.split()
            if kernel == "merge":
                continue
            d, dtype = int(size[1:]), TYPES[kind]
            q = torch.zeros(2, 8, 4, d, dtype=dtype).transpose(1, 2)  # 4 heads of one group x 8 queries: 32 rows
            k = (
                torch.zeros(200, 1, 16, d, dtype=dtype)
                if kernel == "paged"
                else torch.zeros(2, 1, 1024, d, dtype=dtype)
            )
            table = torch.zeros(2, 64, dtype=torch.int32) if kernel == "paged" else None
            taken.clear()
            decode.decode_op(q, k, k, torch.tensor([3, 64], dtype=torch.int32), table, 0.1, 1024, 64)
            assert set(taken) == {"decode", "merge"}, taken.keys()
            source = resources.source(build)
            options = {"num_warps": build.config.warps, "num_stages": build.config.stages}
            ahead = plain([source.signature, source.constants, source.attrs, options])
            answer[f"{arch} {build.name}"] = [taken["decode"], ahead]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
