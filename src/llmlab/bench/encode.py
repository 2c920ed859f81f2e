"""``llmlab bench encode``: sentence vectors a second from MiniLM, and how near each is to float32's.

Contestants: transformers and our encoder in float32 and bfloat16, and, where ``onnx`` and ``onnxruntime`` are
installed, ONNX Runtime in float32 and int8 (``quantize_dynamic``, per channel). They are no part of the course: without
them the benchmark says so and goes on.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlab.attention.short import short_attention
from llmlab.bench import contest
from llmlab.bench.measure import in_turns, matmul_rate
from llmlab.models.load import encoder_from
from llmlab.nn.heads import compute_with
from llmlab.nn.onednn import with_onednn
from llmlab.nn.pooling import masked_mean

__all__ = ["main"]

Encode = Callable[[], Tensor]
PEERS = ("onnxruntime", "onnx", "onnxscript")
THEIRS = "transformers float32"


def main(argv: Sequence[str]) -> int:
    """Measure, print, and write what was asked for. Returns the exit status."""
    made = contest.parser("encode", "Sentence vectors a second from MiniLM, and how near they are to float32's.", 7)
    made.add_argument("--batch", type=contest.count, default=32, help="sentences at once, default 32")
    made.add_argument("--length", type=contest.count, default=64, help="tokens of a sentence, default 64")
    args, on = contest.begin(made, argv)
    theirs, ids, mask = _toy() if args.quick else _minilm(args.batch, args.length)
    on["versions"] |= contest.versions("transformers", *PEERS)
    ways: dict[str, Encode] = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        ways[f"transformers {name}"] = partial(_theirs, _cast(theirs, dtype), ids, mask)
        make = partial(encoder_from, theirs.config.to_dict(), theirs.state_dict(), dtype)
        fast = make()
        compute_with(fast, short_attention)
        with_onednn(fast)
        ways[f"ours {name}"] = partial(_ours, make(), ids, mask)
        ways[f"ours, fast {name}"] = partial(_ours, fast, ids, mask)
    absent = [peer for peer in PEERS if on["versions"][peer] is None]
    with tempfile.TemporaryDirectory() as folder:
        if absent:
            print(f"ONNX Runtime is left out: {', '.join(absent)} not installed")
        else:
            ways |= _onnx(theirs, ids, mask, Path(folder))
        vectors = {name: way().float() for name, way in ways.items()}
        times = in_turns(ways, args.rounds)
    rows = []
    for name, took in times.items():
        cosine = F.cosine_similarity(vectors[name], vectors[THEIRS])
        rows.append(
            contest.row(name, took, times[THEIRS], len(ids), cosine=float(cosine.mean()), least=float(cosine.min()))
        )
    peers = ", ".join(
        f"{peer} {version}" for peer, version in contest.versions("transformers", *PEERS).items() if version
    )
    print(f"{len(ids)} sentences of {ids.shape[1]} tokens at most, {int(mask.sum())} real ones; {peers}")
    contest.table(rows, "sentences/s", more={"cosine": ".5f", "least": ".5f"})
    cpu, size = torch.device("cpu"), 64 if args.quick else 1024
    rates = {str(d).removeprefix("torch."): matmul_rate(d, cpu, size) for d in (torch.float32, torch.bfloat16)}
    flops = _operations(theirs, ids)
    for name, rate in rates.items():
        speed = next(r for r in rows if r["name"] == f"ours, fast {name}")["per_cpu_second"] / len(ids)
        share = f"{flops * speed / rate:.0%} of the {rate / 1e9:.0f} that one large product reaches"
        print(f"  ours, fast {name}: {flops * speed / 1e9:.0f} GFLOP/s, {share}")
    ours, goals = times["ours, fast bfloat16"], contest.Goals()
    if not absent:
        ratio = ours.faster_than(times["ONNX Runtime int8"])
        goals.add("ours, fast bfloat16, speed to ONNX Runtime's int8", ratio, 1.5)
        best = ratio * rates["bfloat16"] * statistics.median(ours.cpu) / flops
        print(f"          (all of it at the rate of one large bfloat16 product would be {best:.2f})")
    ratio = ours.faster_than(times["transformers bfloat16"])
    goals.add("ours, fast bfloat16, speed to transformers' bfloat16", ratio, 1.0)
    least = next(r for r in rows if r["name"] == "ours, fast bfloat16")["least"]
    goals.add("ours, fast bfloat16, the least cosine to float32", least, 0.999)
    setting = {"batch": len(ids), "length": ids.shape[1]}
    return contest.finish(args, "encode", on, setting=setting, rows=rows, goals=goals.all, matmul=rates)


def _minilm(batch: int, length: int) -> tuple[Any, Tensor, Tensor]:
    """MiniLM of transformers, and paragraphs of a novel, cut at ``length`` tokens: real text has no padding to skip."""
    from llmlab.assets import load_minilm, load_novels

    theirs, tokenizer = load_minilm()
    paragraphs = [p for p in load_novels()["Persuasion"].split("\n\n") if len(p) > 200][:batch]
    made = tokenizer(paragraphs, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return theirs, made["input_ids"], made["attention_mask"].bool()


def _toy() -> tuple[Any, Tensor, Tensor]:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    theirs = BertModel(BertConfig(vocab_size=99, max_position_embeddings=32, **sizes)).eval()
    ids = torch.randint(1, 99, (4, 12))
    return theirs, ids, torch.arange(12) < torch.tensor([[12], [9], [5], [12]])


def _cast(theirs: Any, dtype: torch.dtype) -> Any:
    """A copy of the model in ``dtype``."""
    if dtype == theirs.dtype:
        return theirs
    copy = type(theirs)(theirs.config)
    copy.load_state_dict(theirs.state_dict())
    return copy.to(dtype).eval()


@torch.inference_mode()
def _theirs(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    return masked_mean(model(ids, attention_mask=mask.long()).last_hidden_state, mask)


@torch.inference_mode()
def _ours(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    return masked_mean(model(ids, mask), mask)


class _States(nn.Module):
    """What is exported: tokens and mask in, last states out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states


def _onnx(theirs: Any, ids: Tensor, mask: Tensor, folder: Path) -> dict[str, Encode]:
    """ONNX Runtime's two sessions, on as many threads as torch has."""
    import onnxruntime as ort
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, small = folder / "plain.onnx", folder / "int8.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["ids", "mask"], "output_names": ["states"]}
        example = ids, mask.long()
        torch.onnx.export(_States(theirs).eval(), example, str(plain), dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
    quantize_dynamic(str(plain), str(small), per_channel=True, weight_type=QuantType.QInt8)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = torch.get_num_threads(), 1
    settings.log_severity_level = 3
    made: dict[str, Encode] = {}
    for name, file in (("float32", plain), ("int8", small)):
        session = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        made[f"ONNX Runtime {name}"] = partial(_run, session, ids, mask)
    return made


def _run(session: Any, ids: Tensor, mask: Tensor) -> Tensor:
    states = session.run(["states"], {"ids": ids.numpy(), "mask": mask.long().numpy()})[0]
    return masked_mean(torch.from_numpy(states), mask)


def _operations(theirs: Any, ids: Tensor) -> float:
    """FLOP of one pass: two a weight of the matrices and token, and the two products of attention."""
    c, (batch, time) = theirs.config, ids.shape
    weights = c.num_hidden_layers * (4 * c.hidden_size**2 + 2 * c.hidden_size * c.intermediate_size)
    return batch * time * (2 * weights + 4 * c.num_hidden_layers * c.hidden_size * time)
