"""The benchmarks of whole tasks run, their ratios belong to their times, and a file holds all of it. No time is judged."""

from __future__ import annotations

import json
import statistics
import sys

import pytest
import torch

from llmlab.bench import BENCHES, contest, decode, encode, main, measure, train
from llmlab.models.fast import FastDecoder
from llmlab.models.load import decoder_from

torch.set_num_threads(1)
TASKS = ("decode", "train", "encode", "bpe")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("bench"), {}
    for name in TASKS:
        words = [name, "--quick", "--json", str(folder / f"{name}.json")]
        assert main(words + ["--ablate"] * (name == "decode")) == 0
        said[name] = json.loads((folder / f"{name}.json").read_text())
    return said


def rows(report):
    return report.get("rows") or report["learning"] + report["cutting"]


@pytest.mark.parametrize("name", TASKS)
def test_a_report_says_what_it_was_measured_on_and_its_goals(reports, name):
    report = reports[name]
    assert report["bench"] == name and report["setting"]
    assert report["stamp"]["versions"]["torch"] == torch.__version__ and report["stamp"]["threads"] == 1
    assert report["goals"] and all(set(g) == {"goal", "limit", "value", "met"} for g in report["goals"])
    for row in rows(report):
        assert len(row["rounds"]["cpu"]) == len(row["rounds"]["wall"]) == 2 and row["per_cpu_second"] > 0


@pytest.mark.parametrize("name", TASKS)
def test_ratios_are_medians_of_the_rounds(reports, name):
    report = reports[name]
    for part in ("rows", "learning", "cutting"):
        base = None
        for row in report.get(part, []):
            if row["ratio"] == 1:
                base = row["rounds"]["cpu"]
            expected = statistics.median(b / own for b, own in zip(base, row["rounds"]["cpu"]))
            assert row["ratio"] == pytest.approx(expected)


def test_contestants_do_the_same_work(reports):
    by = {row["name"]: row for row in reports["decode"]["rows"]}
    for name in ("ours, readable", "ours, fast, float32"):
        assert by[name]["same"] == 64 and by[name]["agree"] == 1
    assert {"transformers float32", "ours, fast, float16", "ours, fast, int8"} < set(by)
    assert by["ours, fast, float16"]["mb"] * 2 == pytest.approx(by["ours, fast, float32"]["mb"])
    assert by["ours, fast, int8"]["mb"] < by["ours, fast, float16"]["mb"]
    for size in train.TOY:
        losses = [row["first_loss"] for row in reports["train"]["rows"] if row["size"] == size.name]
        assert len(losses) == 3 and max(losses) - min(losses) < (1e-5 if size.dtype == torch.float32 else 1e-3)
    assert all(row["least"] > 0.999 for row in reports["encode"]["rows"] if "int8" not in row["name"])
    assert all(row["same"] == 1 for row in reports["bpe"]["cutting"])
    assert [g["met"] for g in reports["bpe"]["goals"] if "same" in g["goal"]] == [True, True]


def test_every_plain_step_gives_the_fast_decoders_logits():
    theirs, ids = decode._toy()
    ours = decoder_from(theirs.config.to_dict(), theirs.state_dict())
    text = torch.tensor([ids[:9], ids[9:18]])
    mask = torch.arange(9) >= torch.tensor([[0], [3]])
    for kind, variant in decode.PLAIN.values():
        fast, plain = FastDecoder.from_decoder(ours, kind), variant.from_decoder(ours, kind)
        for x, m in ((text, None), (text, mask), (text[:1], None)):
            a, b = fast.new_cache(), plain.new_cache()
            for start, end in ((0, 6), (6, 7), (7, 9)):
                part = None if m is None else m[:, :end]
                found, expected = plain(x[:, start:end], part, b), fast(x[:, start:end], part, a)
                chosen = slice(None) if part is None else part[:, start:]
                torch.testing.assert_close(found[chosen], expected[chosen], rtol=1e-3, atol=1e-4)


def test_ablation_names_each_step_with_its_spread(reports):
    steps = reports["decode"]["ablation"]
    assert [step["put_back"] for step in steps] == list(decode.PLAIN)
    assert all(step["least"] <= step["costs_ms"] <= step["most"] for step in steps)


def test_the_peer_is_the_same_model():
    size = train.TOY[0]
    model = train.ours(65, size)
    plain = train.copied(model, 65, size)
    windows = torch.randint(0, 65, (3, size.time + 1))
    mine, other = model.loss(windows), plain(windows[:, :-1], windows[:, 1:])
    mine.backward()
    other.backward()
    torch.testing.assert_close(mine, other)
    theirs = {name.replace("position.weight", "position.table"): p.grad for name, p in plain.named_parameters()}
    assert theirs.keys() == dict(model.named_parameters()).keys()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, theirs[name], rtol=1e-4, atol=1e-6)


def test_a_peer_that_is_not_installed_is_named(monkeypatch, capsys):
    real = contest.versions
    monkeypatch.setattr(contest, "versions", lambda *names: real(*names) | {n: None for n in names if "onnx" in n})
    assert encode.main(["--quick"]) == 0
    said = capsys.readouterr().out
    assert "ONNX Runtime is left out: onnxruntime, onnx, onnxscript not installed" in said and "int8" not in said


def test_turns_alternate_and_the_first_round_does_not_count():
    calls = []
    times = measure.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert all(len(t.cpu) == len(t.wall) == 3 for t in times.values())


def test_faster_is_the_median_of_the_rounds_ratios():
    slow, quick = measure.Times([6.0, 8.0, 90.0], [0.0] * 3), measure.Times([2.0, 4.0, 3.0], [0.0] * 3)
    assert quick.faster_than(slow) == 3 and slow.faster_than(quick) == 1 / 3


def test_goals_are_met_at_the_limit(capsys):
    goals = contest.Goals()
    goals.add("speed", 1.4, 1.4)
    goals.add("speed", 1.39, 1.4)
    goals.add("time", 2.0, 2, most=True)
    goals.add("time", 2.01, 2, most=True)
    assert [g["met"] for g in goals.all] == [True, False, True, False]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "  met     speed: 1.4, goal at least 1.4" and said[3] == "  not met time: 2.01, goal at most 2"


def test_words_that_are_wrong_are_named(capsys, tmp_path):
    for words, why in (
        (["decode", "--new", "0"], "'0': expected a whole number of 1 or more"),
        (["train", "--rounds", "two"], "'two': expected a whole number"),
        (["bpe", "--json", str(tmp_path / "no" / "a.json")], "there is no folder"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2 and why in capsys.readouterr().err
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHES) and "onnxruntime" not in sys.modules
