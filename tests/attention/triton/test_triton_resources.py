"""Every line of the table compiled for GPUs that are not here: it fits, spills nothing, and uses the tensor cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the optional extra llmlab[triton] is not installed")
RECORD = Path(__file__).parent / "resources.json"
COMMAND = f"python -m llmlab.attention.triton.resources --write tests/attention/triton/{RECORD.name}"


@pytest.fixture(scope="module")
def measured(request) -> dict[str, dict[str, int]]:
    """By a process of its own, since one that interprets kernels cannot compile them. What did not change is not rebuilt."""
    cache = request.config.cache.mkdir("triton")
    path = cache / "measured.json"
    path.unlink(missing_ok=True)
    environment = os.environ | {"TRITON_CACHE_DIR": str(cache)}
    environment.pop("TRITON_INTERPRET", None)
    run = subprocess.run(
        [sys.executable, "-m", "llmlab.attention.triton.resources", "--write", str(path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f"the kernels do not compile:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}"
    print(run.stdout)
    return json.loads(path.read_text())[version("triton")]


def test_every_kernel_size_and_type_was_built(measured):
    names = {tuple(name.split()) for name in measured}
    kernels = {kernel for _, kernel, _, _ in names}
    assert {"forward", "dq", "dkdv", "delta"} <= kernels
    for arch in ("sm_80", "sm_90", "sm_100"):
        for kernel in ("forward", "dq", "dkdv"):
            built = {(d, dtype) for a, k, d, dtype in names if (a, k) == (arch, kernel)}
            assert {("d64", "bf16"), ("d64", "fp16"), ("d128", "bf16"), ("d128", "fp16"), ("d128", "fp32")} <= built


def test_shared_memory_is_within_what_a_block_may_ask_for(measured):
    """The compiler does not check it: the launch would fail. sm_80's lines serve consumer cards, which have 99 KB."""
    limits = {"sm_80": 99 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}
    over = {name: used["shared"] for name, used in measured.items() if used["shared"] > limits[name.split()[0]]}
    assert not over, f"too much shared memory: {over}; the limits are {limits}"


def test_no_register_is_spilled(measured):
    spilled = {name: used["spills"] for name, used in measured.items() if used["spills"]}
    assert not spilled, f"instructions on local memory (LDL, STL): {spilled}"


def test_products_in_half_precision_run_on_the_tensor_cores(measured):
    for name, used in measured.items():
        expected = not ("fp32" in name or "delta" in name)
        assert (used["tensor_cores"] > 0) == expected, f"{name}: {used['tensor_cores']} tensor-core instructions"
    newest = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA"}
    for name, used in measured.items():
        arch, kernel = name.split()[:2]
        if kernel in ("forward", "dq", "dkdv"):
            assert used["instruction"] == newest[arch], f"{name}: counted {used['instruction']}, not {newest[arch]}"


def test_resources_are_those_recorded(measured):
    """A change here is not a fault, but it is to be seen: look at it, then record it anew."""
    recorded = json.loads(RECORD.read_text()).get(version("triton"))
    assert recorded is not None, f"nothing is recorded for triton {version('triton')}; run {COMMAND}"
    changed = {
        name: f"{recorded.get(name)} is now {measured.get(name)}"
        for name in measured.keys() | recorded.keys()
        if measured.get(name) != recorded.get(name)
    }
    assert not changed, f"{len(changed)} kernels use other resources than recorded; {COMMAND} records these: {changed}"
