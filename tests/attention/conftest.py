"""Says at the end of every run what the tests that need a GPU would have shown."""

from __future__ import annotations

UNPROVEN = "bfloat16 numerics on the device, races inside a program, and speed"


def pytest_terminal_summary(terminalreporter, config):
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "gpu" in report.keywords]
    if not skipped:
        return
    reasons = sorted({report.longrepr[2].removeprefix("Skipped: ") for report in skipped})
    terminalreporter.section("GPU")
    terminalreporter.line(
        f"{len(skipped)} gpu-marked tests were not executed ({'; '.join(reasons)}). This leaves unproven: {UNPROVEN}. "
        "What the interpreter and ahead-of-time compilation can show of the kernels, the other tests did show."
    )
