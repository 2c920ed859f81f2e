"""What a call has compiled just in time is what ``resources`` compiles ahead of time.

A driver that only names its GPU stands in for CUDA's, and a hook takes each kernel away before it is compiled: the
operators choose, bind and launch as on a device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the optional extra llmlab[triton] is not installed")
SCRIPT = Path(__file__).with_name("launches.py")


@pytest.fixture(scope="module")
def launches() -> dict[str, dict[str, list]]:
    """Architecture and type -> kernel -> its (signature, constants, attributes) from the call, and from ``resources``."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("case", ["d64 bf16", "d128 fp16", "d128 fp32"])
def test_a_call_compiles_what_was_measured(arch, case, launches):
    found = launches[f"{arch} {case}"]
    assert found.keys() >= {"forward", "dq", "dkdv"} and ("delta" in found or "fp16" in case)
    for kernel, (called, ahead) in found.items():
        for what, a, b in zip(("signature", "constants", "attributes", "warps and stages"), called, ahead, strict=True):
            assert a == b, f"{kernel}: {what} differ\ncall  {a}\nahead {b}"
