"""What decoding has compiled just in time is what ``resources`` compiles ahead of time; see ``test_triton_launch.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_call_compiles_what_was_measured():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("launches_decode.py")
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    found = json.loads(run.stdout)
    assert len(found) == 36, f"3 architectures x 2 kernels x 2 heads x 3 types, not {len(found)}"
    for name, (called, ahead) in found.items():
        for what, a, b in zip(("signature", "constants", "attributes", "warps and stages"), called, ahead, strict=True):
            assert a == b, f"{name}: {what} differ\ncall  {a}\nahead {b}"
