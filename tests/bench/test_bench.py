"""The benchmark runs, its numbers belong together, and its file says what it was measured on. No time is judged."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest
import torch

from llmlab.bench import attention as bench
from llmlab.bench import main, measure

NUMBER = {"type": "number", "exclusiveMinimum": 0}
ROW = {
    "type": "object",
    "properties": {
        "length": {"type": "integer"}, "causal": {"type": "boolean"}, "direction": {"enum": ["forward", "backward"]},
        "backend": {"enum": [*bench.BASELINES, *bench.NAMES]}, "seconds": NUMBER, "first_seconds": NUMBER, "peak_bytes": NUMBER,
        "matmul_share": NUMBER, "time_ratio": NUMBER, "memory_ratio": NUMBER, "skipped": {"type": "string", "minLength": 10},
    },
    "required": ["length", "causal", "direction", "backend"],
    "oneOf": [{"required": ["seconds", "first_seconds", "peak_bytes", "matmul_share", "time_ratio", "memory_ratio"]}, {"required": ["skipped"]}],
    "additionalProperties": False,
}  # fmt: skip
REPORT = {
    "type": "object",
    "properties": {
        "bench": {"const": "attention"},
        "stamp": {
            "type": "object",
            "required": ["device", "type", "instructions", "threads", "processors", "load", "versions", "date"],
            "properties": {"versions": {"type": "object", "required": ["python", "torch", "triton", "flash-attn", "llmlab"]}},
        },
        "setting": {"type": "object", "required": ["batch", "heads", "d", "dtype"]},
        "matmul": {"type": "object", "properties": {"size": {"type": "integer"}, "flops": NUMBER}, "required": ["size", "flops"]},
        "rows": {"type": "array", "items": ROW, "minItems": 1},
        "fits": {"type": "array", "items": {"type": "object", "required": ["backend", "causal", "direction", "time_exponent", "memory_exponent"]}},
        "goals": {"type": "array", "items": {"type": "object", "required": ["goal", "limit", "value", "met"]}},
    },
    "required": ["bench", "stamp", "setting", "matmul", "rows", "fits", "goals"],
    "additionalProperties": False,
}  # fmt: skip
TINY = [
    "attention",
    "--quick",
    "--lengths",
    "32,64",
    "--heads",
    "2",
    "--d",
    "16",
    "--device",
    "cpu",
    "--dtype",
    "float32",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    assert main([*TINY, "--json", str(folder / "a.json"), "--figure", str(folder / "a.png")]) == 0
    return json.loads((folder / "a.json").read_text()), (folder / "a.png").read_bytes()


def test_the_file_says_everything(tiny):
    report, figure = tiny
    jsonschema.validate(report, REPORT)
    assert report["stamp"]["type"] == "cpu" and report["stamp"]["versions"]["torch"] == torch.__version__
    assert figure.startswith(b"\x89PNG")
    rows = report["rows"]
    cases = {(r["length"], r["causal"], r["direction"]) for r in rows}
    assert len(cases) == 8
    for name in ("torch", "auto", "sdpa", "tiled", "naive"):
        assert {(r["length"], r["causal"], r["direction"]) for r in rows if r["backend"] == name} == cases
    assert [aim["goal"] for aim in report["goals"]] == ["auto, time to torch's, the median of all cases"]


def test_ratios_are_to_torch_in_the_same_case(tiny):
    rows = tiny[0]["rows"]
    own = {(r["length"], r["causal"], r["direction"]): r for r in rows if r["backend"] == "torch"}
    for row in rows:
        torchs = own[row["length"], row["causal"], row["direction"]]
        assert math.isclose(row["time_ratio"], row["seconds"] / torchs["seconds"])
        assert math.isclose(row["memory_ratio"], row["peak_bytes"] / torchs["peak_bytes"])


def test_operations_are_the_papers():
    setting = bench.Setting(2, 3, 64, torch.float32, torch.device("cpu"), 1.0, 2)
    full = bench.Case(1000, False, "forward").operations(setting)
    assert full == 4 * 1000**2 * 64 * 6
    assert bench.Case(1000, True, "forward").operations(setting) / full == pytest.approx(0.5, rel=2e-3)
    assert bench.Case(1000, False, "backward").operations(setting) / full == 2.5


def test_what_cannot_run_is_a_row_with_a_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.psutil, "virtual_memory", type("Memory", (), {"available": 10**5}))
    words = [*TINY, "--backends", "naive,triton,flash-attn", "--json", str(tmp_path / "a.json")]
    assert main(words) == 0
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    reasons = {(r["backend"], r["length"], r["direction"]): r.get("skipped") for r in rows}
    assert reasons["naive", 64, "backward"] == "5 tables of scores would need 0.0 GB, and 0.0 GB are free"
    assert reasons["naive", 32, "forward"] is None and reasons["torch", 64, "forward"] is None
    assert all(reasons["flash-attn", 32, d] for d in ("forward", "backward"))
    assert "skipped: " in capsys.readouterr().out


def test_what_takes_too_long_is_not_tried():
    setting = bench.Setting(1, 1, 8, torch.float32, torch.device("cpu"), 3.0, 2)
    case = bench.Case(4096, True, "forward")
    assert bench._foreseen(setting, case, "tiled", {"length": 2048, "seconds": 1.0}) == (
        "it would take about 4 s a call, and --limit is 3 s"
    )
    assert bench._foreseen(setting, case, "tiled", {"length": 2048, "seconds": 0.7}) is None
    assert bench._foreseen(setting, case, "tiled", None) is None


def test_goals_are_read_off_the_rows():
    def row(backend, ratio, memory=1.0, length=4096, **more):
        return {
            "backend": backend,
            "time_ratio": ratio,
            "memory_ratio": memory,
            "length": length,
            "direction": "forward",
        } | more

    cpu = bench.Setting(1, 8, 64, torch.float32, torch.device("cpu"), 1.0, 2)
    rows = [
        row("auto", 1.0),
        row("auto", 1.01),
        row("auto", 1.9),
        row("tiled", 2.4),
        row("tiled", 2.6, 1.4),
        row("tiled", 9, 9, length=512),
    ]
    assert [(aim["value"], aim["met"]) for aim in bench.goals(cpu, rows)] == [(1.01, True), (2.6, False), (1.4, True)]
    gpu = cpu._replace(device=torch.device("cuda"))
    rows = [
        row("triton", 1.25),
        row("triton", 1.0),
        row("triton", 1.3, direction="backward"),
        row("triton", 9, length=512),
    ]
    assert [(aim["value"], aim["met"]) for aim in bench.goals(gpu, rows)] == [(0.8, False), (1 / 1.3, False)]
    rows = [row("triton", 1.1), row("triton", 1.2, direction="backward")]
    assert [aim["met"] for aim in bench.goals(gpu, rows)] == [True, True]


def test_turns_exponents_and_rates():
    order = []
    found = measure.best_times(
        {name: lambda name=name: order.append(name) for name in "ab"}, torch.device("cpu"), rounds=3
    )
    assert "".join(order) == "ababab" and set(found) == {"a", "b"} and all(s > 0 for s in found.values())
    assert measure.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    with pytest.raises(ValueError, match=r"sizes \[1\], values \[2\]: expected two or more pairs"):
        measure.exponent([1], [2])
    with pytest.raises(ValueError, match="expected two or more pairs of positive"):
        measure.exponent([1, 2], [0, 1])
    assert measure.matmul_rate(torch.float32, torch.device("cpu"), size=64, rounds=2) > 0


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["speed"], "invalid choice: 'speed'"),
        (["attention", "--lengths", "64,no"], "'no': expected a whole number of 1 or more"),
        (["attention", "--d", "0"], "'0': expected a whole number of 1 or more"),
        (["attention", "--backends", "tiled,fast"], "'fast' is unknown: expected of auto, sdpa"),
        (["attention", "--limit", "-1"], "'-1': expected a positive number of seconds"),
        (["attention", "--device", "gpu9"], "name another with --device"),
        (["attention", "--json", "no/such/folder/a.json"], "there is no folder no/such/folder to write a.json into"),
    ],
)
def test_bad_words_get_a_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and sentence in capsys.readouterr().err


def test_without_a_name_it_lists(capsys):
    assert main([]) == 0
    assert "attention   time and memory" in capsys.readouterr().out
