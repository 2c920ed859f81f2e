"""Compile every kernel for GPUs that are not there, and read what it uses: registers, memory, spills, instructions.

    python -m llmlab.attention.triton.resources            prints the table
    python -m llmlab.attention.triton.resources --write F  and writes it to F, which the tests compare with

The compiler reports neither too much shared memory (the launch fails) nor spilled registers (the kernel is slow), so
both are looked for here: the first in the metadata, the second as loads and stores to local memory (LDL, STL) in the
machine code. The instruction of the tensor cores, each generation's own, shows that the products did reach them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from llmlab.attention.triton import configs, decode
from llmlab.attention.triton.backward import delta_kernel, dkdv_kernel, dq_kernel
from llmlab.attention.triton.forward import forward_kernel

__all__ = ["GPUS", "KERNELS", "Build", "Gpu", "Used", "builds", "compiled", "measure", "measure_all", "source", "table"]


class Gpu(NamedTuple):
    """What one architecture offers a kernel."""

    capability: int
    shared: int  # bytes a block may ask for: CUDA programming guide, table "technical specifications per capability"
    instruction: str  # of its tensor cores


GPUS = {
    # An A100 has 163 KB; consumer cards (8.6, 8.9, 12.0) have 99 KB and use the same lines of the table.
    "sm_80": Gpu(80, 99 * 1024, "HMMA"),
    "sm_90": Gpu(90, 227 * 1024, "HGMMA"),
    "sm_100": Gpu(100, 227 * 1024, "UTCHMMA"),
}


KERNELS = {"forward": forward_kernel, "dq": dq_kernel, "dkdv": dkdv_kernel}


class Build(NamedTuple):
    """One kernel as one call would have it compiled."""

    name: str
    kernel: Any
    arguments: dict[str, Any]  # by name: a type ("*bf16", "i32"), None, a tuple of strides, or a constant
    config: configs.Config
    instruction: str | None = None  # of the tensor cores; None is the newest that the architecture has


class Used(NamedTuple):
    """What a compiled kernel uses."""

    registers: int  # a thread
    shared: int  # bytes a block
    spills: int  # instructions that read or write local memory
    tensor_cores: int  # their instructions, as they stand in the code
    instruction: str  # which


def builds(arch: str) -> Iterator[Build]:
    """Every line of the table for ``arch``, in each type, at its largest head and with everything a call may ask for.

    That is causal, a window with sinks, and packed sequences: both loops of a kernel are there, over whole tiles and
    over edges. Padding takes the first away, and smaller heads take less of everything.
    """
    for (name, d, itemsize), lines in configs.TABLE.items():
        line = lines[configs.ARCHITECTURES.index(arch)]
        for dtype in ("bf16", "fp16") if itemsize == 2 else ("fp32",):
            values = example(dtype, d, line)
            kernel = KERNELS[name]
            yield Build(f"{name} d{d} {dtype}", kernel, {x: values[x] for x in kernel.arg_names}, line)
            if name == "dq" and dtype != "fp16":  # it multiplies in float32 whatever it reads
                yield Build(f"delta d{d} {dtype}", delta_kernel, {x: values[x] for x in delta_kernel.arg_names}, line)
    yield from decode_builds(arch)


def decode_builds(arch: str) -> Iterator[Build]:
    """The decoding kernel with as many rows as it takes, over one tensor and over pages; the merge of the most parts.

    Its rows are too few for the instructions of a whole warp group, so HMMA serves every architecture.
    """
    for (d, itemsize), lines in decode.CONFIGS.items():
        line = lines[configs.ARCHITECTURES.index(arch)]
        for dtype in ("bf16", "fp16") if itemsize == 2 else ("fp32",):
            values = example(dtype, d, line) | {name: "*fp32" for name in ("outputs", "lses")}
            values |= {"lengths": "*i32", "part": "i32", "table_strides": (64, 1)}
            for name, more in (("decode", {"table": None, "PAGE": 1}), ("paged", {"table": "*i32", "PAGE": 16})):
                arguments = {x: (values | more)[x] for x in decode.decode_kernel.arg_names}
                yield Build(f"{name} d{d} {dtype}", decode.decode_kernel, arguments, line, "HMMA")
    values = example("fp32", 128, configs.Config(1, 1)) | {"outputs": "*fp32", "lses": "*fp32", "splits": "i32"}
    values |= {"TILE_S": decode.SPLITS}
    arguments = {x: values[x] for x in decode.merge_kernel.arg_names}
    yield Build("merge d128 fp32", decode.merge_kernel, arguments, configs.Config(1, 1))


def example(dtype: str, d: int, line: configs.Config) -> dict[str, Any]:
    """What the kernels' arguments are, by name."""
    matrices = ("q", "k", "v", "output", "d_output", "dq", "dk", "dv")
    rows = ("lse", "delta", "d_lse")
    return (
        {name: f"*{dtype}" for name in matrices}
        | {name: "*fp32" for name in rows}
        | {"cu_queries": "*i32", "cu_keys": "*i32", "mask": None}
        | {f"{name}_strides": (1 << 20, 128, 1024, 1) for name in matrices}
        | {f"{name}_strides": (1 << 14, 1 << 10, 1) for name in rows}
        | {"mask_strides": (0, 0, 0, 0)}
        | {name: "i32" for name in ("queries", "keys", "group", "window", "sinks")}
        | {"scale": "fp32", "CAUSAL": True, "D": d, "D_VALUE": d, "TILE_D": d, "TILE_DV": d}
        | {"TILE_Q": line.tile_q, "TILE_K": line.tile_k}
    )


def source(build: Build) -> ASTSource:
    """What just-in-time compilation compiles for aligned tensors whose last stride is 1; the tests compare the two."""
    kernel = build.kernel
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    aligned = [["tt.divisibility", 16]]
    for place, name in enumerate(kernel.arg_names):
        value = build.arguments[name]
        if isinstance(value, tuple):  # strides: a multiple of 16 but for the last, which is 1 and becomes a constant
            signature[name] = tuple("constexpr" if x == 1 else "i32" for x in value)
            constants.update({(place, at): 1 for at, x in enumerate(value) if x == 1})
            attributes.update({(place, at): aligned for at, x in enumerate(value) if x != 1 and x % 16 == 0})
        elif isinstance(value, str):
            signature[name] = value
            if value.startswith("*"):
                attributes[place,] = aligned
        else:
            signature[name] = "constexpr"
            constants[place,] = value
    return ASTSource(kernel, signature, constants, attributes)


def compiled(build: Build, arch: str) -> Any:
    """Triton's compiled kernel."""
    options = {"num_warps": build.config.warps, "num_stages": build.config.stages}
    return triton.compile(source(build), target=GPUTarget("cuda", GPUS[arch].capability, 32), options=options)


def measure(build: Build, arch: str) -> Used:
    """Compile and count."""
    result = compiled(build, arch)
    tool = triton.knobs.nvidia
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(result.asm["cubin"])
        file.flush()
        usage = subprocess.check_output([tool.cuobjdump.path, "-res-usage", file.name], text=True)
        code = subprocess.check_output([tool.nvdisasm.path, "-c", file.name], text=True, stderr=subprocess.DEVNULL)
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None, f"{build.name}: cuobjdump printed no registers: {usage}"
    return Used(
        int(registers[1]),
        result.metadata.shared,
        len(re.findall(r"\b(?:LDL|STL)\b", code)),
        len(re.findall(rf"\b{build.instruction or GPUS[arch].instruction}\b", code)),
        build.instruction or GPUS[arch].instruction,
    )


def measure_all(architectures: tuple[str, ...] = configs.ARCHITECTURES) -> dict[str, Used]:
    """Every build for every architecture, by "architecture kernel head type"."""
    return {f"{arch} {build.name}": measure(build, arch) for arch in architectures for build in builds(arch)}


def table(used: dict[str, Used]) -> str:
    """The measurements as text, a line each."""
    head = f"{'architecture, kernel':<28}{'registers':>10}{'shared':>9}{'of':>9}{'spills':>8}{'tensor cores':>18}"
    lines = [
        f"{name:<28}{x.registers:>10}{x.shared:>9}{GPUS[name.split()[0]].shared:>9}{x.spills:>8}"
        + f"{x.tensor_cores:>9} {x.instruction}"
        for name, x in used.items()
    ]
    return "\n".join([f"triton {triton.__version__}", head, *lines])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m llmlab.attention.triton.resources", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the measurements to this JSON file")
    path = parser.parse_args(arguments).write
    used = measure_all()
    print(table(used))
    if path is not None:
        recorded = json.loads(path.read_text()) if path.exists() else {}
        recorded[triton.__version__] = {name: x._asdict() for name, x in used.items()}
        path.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
