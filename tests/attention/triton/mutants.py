"""Plant one fault at a time in the kernels and see what notices: the comparison with float64, or the sanitizer.

    TRITON_INTERPRET=1 python tests/attention/triton/mutants.py [part of a name ...]

prints a line a fault and ends with 1 if one survived, did not run, or is no fault any more because the text that it
replaces is gone. A mutant is a copy of the package's files with one piece of text replaced. It is imported and tried in a
process forked for it, so that torch is loaded once.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

import pytest  # noqa: F401  (this and the next: loaded once, before the forks, and not in every mutant)
import torch
import torch._dynamo
from sanitizer import sanitized

from llmlab.attention import triton as package

SECONDS = 60  # of processor time: a mutant may loop for ever
SUBMODULES = [f"{package.__name__}.{name}" for name in ("tiles", "forward", "backward", "ops", "decode")]


class Mutant(NamedTuple):
    """One fault: what it is, where, and the text that makes it."""

    name: str
    file: str
    old: str
    new: str


F, B, T, D = "forward.py", "backward.py", "tiles.py", "decode.py"
MUTANTS = (
    # Who sees whom.
    Mutant("causal edge one key late", T, "allowed = (i >= j) |", "allowed = (i + 1 >= j) |"),
    Mutant("causal edge one key early", T, "allowed = (i >= j) |", "allowed = (i > j) |"),
    Mutant("causal aligned top-left", F, "offset = keys - queries ", "offset = 0 * keys "),
    Mutant("window one key wide of it", T, "near = j > i - window", "near = j >= i - window"),
    Mutant("window one key short, ahead", T, "near & (j < i + window)", "near & (j < i + window - 1)"),
    Mutant("one sink too many", T, "near | (j < sinks)", "near | (j <= sinks)"),
    Mutant("sinks forgotten", T, "allowed & (near | (j < sinks))", "allowed & near"),
    Mutant("no mask on the last, ragged tile", T, "real = j < keys\n", "real = j >= 0\n"),
    Mutant("padding of another sequence", T, "mask + batch * mask_strides[0] + j", "mask + j"),
    # Which tiles are visited, and which need no mask.
    Mutant("last tile of keys left out", T, "walk(sink_tiles, band, whole_start, whole_stop, tl.cdiv(stop, TILE), padded)", "walk(sink_tiles, band, whole_start, whole_stop, stop // TILE, padded)"),
    Mutant("window walked from a tile too late", T, "band = tl.maximum(start // TILE, sink_tiles)", "band = tl.maximum(tl.cdiv(start, TILE), sink_tiles)"),
    Mutant("tile on the causal edge taken for whole", T, "tl.minimum(whole_stop, tl.maximum(first + 1, 0) // TILE)", "tl.minimum(whole_stop, tl.cdiv(tl.maximum(first + 1, 0), TILE))"),
    Mutant("tile on the window's edge taken for whole", T, "whole_start = tl.cdiv(tl.maximum(last - window + 1, 0), TILE)\n        if not CAUSAL:\n            whole_stop", "whole_start = tl.maximum(last - window + 1, 0) // TILE\n        if not CAUSAL:\n            whole_stop"),
    Mutant("sinks not walked to the last query", T, "stop = tl.where(first < sinks, queries, ", "stop = tl.where(first < sinks - 2**20, queries, "),
    Mutant("walk forgets the sinks' tiles", T, "return tl.where(n < sink_tiles, n, n + skipped)", "return n + skipped"),
    Mutant("queries walked from the last key's", T, "start = tl.maximum(first, 0)", "start = tl.maximum(last, 0)"),
    Mutant("padding only on the edges", T, "        whole_start, whole_stop = stop, stop\n", "        pass\n"),
    Mutant("packed sequence runs into the next", T, "(tl.load(cu_seqlens + batch + 1) - start)", "(tl.load(cu_seqlens + batch + 1) + 1 - start)"),
    # Where things lie.
    Mutant("unmasked load of a tile", T, "tl.load(pointers, mask=inside(first + i, d, rows, D, TILE_D), other=0.0)", "tl.load(pointers)"),
    Mutant("unmasked store of a tile", T, "tile.to(x.dtype.element_ty), mask=inside(first + i, d, rows, D, TILE_D))", "tile.to(x.dtype.element_ty))"),
    Mutant("columns of the next row in a head of 24", T, "    if D != TILE_D:\n        exists = exists & (d < D)[None, :]\n", ""),
    Mutant("strides of batch and head exchanged", T, "x + batch * strides[0] + tl.cast(head, tl.int64) * strides[1]", "x + batch * strides[1] + tl.cast(head, tl.int64) * strides[0]"),
    Mutant("wrong key head", F, "k = matrix(k, k_strides, batch, head // group, start_k)", "k = matrix(k, k_strides, batch, head % group, start_k)"),
    Mutant("wrong value head", F, "v = matrix(v, v_strides, batch, head // group, start_k)", "v = matrix(v, v_strides, batch, tl.num_programs(1) // group - 1 - head // group, start_k)"),
    Mutant("values read with the strides of keys", F, "v_tile = load_tile(v, v_strides,", "v_tile = load_tile(v, k_strides,"),
    Mutant("two programs take one tile", F, "tile_q = tl.num_programs(0) - 1 - tile_q ", "tile_q = tl.maximum(tl.num_programs(0) - 2 - tile_q, 0) "),
    Mutant("lse written one row too far", F, "row_lse, mask=i < queries)", "row_lse, mask=i <= queries)"),
    # The online softmax.
    Mutant("sum not rescaled", F, "row_sum = row_sum * rescale + tl.sum(weights, 1)", "row_sum = row_sum + tl.sum(weights, 1)"),
    Mutant("output not rescaled", F, "weighted * rescale[:, None]", "weighted"),
    Mutant("rescaled the wrong way", F, "rescale = tl.exp2(row_max - new_max)", "rescale = tl.exp2(new_max - row_max)"),
    Mutant("stale maximum", F, "row_max = new_max", "row_max = row_max + 0.0"),
    Mutant("maximum of this tile only", F, "new_max = tl.maximum(row_max, tl.max(scores, 1))", "new_max = tl.maximum(LOWEST, tl.max(scores, 1))"),
    Mutant("base 2 for scores, base e for weights", F, "weights = tl.exp2(scores - new_max[:, None])", "weights = tl.exp(scores - new_max[:, None])"),
    Mutant("lse left in base 2", F, "(row_max + tl.log2(row_sum)) * LN2", "(row_max + tl.log2(row_sum))"),
    Mutant("lse without the maximum", F, "(row_max + tl.log2(row_sum)) * LN2", "tl.log2(row_sum) * LN2"),
    Mutant("row without keys divided by 0", F, "row_sum = tl.where(empty, 1.0, row_sum)", "row_sum = row_sum + 0.0"),
    Mutant("output summed in half precision", F, "weighted * rescale[:, None], input_precision", "(weighted * rescale[:, None]).to(tl.float16).to(tl.float32), input_precision"),
    # The backward.
    Mutant("delta left out of dq", B, "d_scores = weights * (d_weights - delta_rows[:, None])", "d_scores = weights * d_weights"),
    Mutant("delta left out of dk", B, "d_scores = weights * (d_weights - delta_rows[None, :])", "d_scores = weights * d_weights"),
    Mutant("gradient of lse with the wrong sign", B, "row_delta -= tl.load(", "row_delta += tl.load("),
    Mutant("scale missing in dk", B, "dk_tile * scale", "dk_tile"),
    Mutant("scale missing in dq", B, "dq_rows * scale", "dq_rows"),
    Mutant("one query head of the group in dk and dv", B, "head = kv_head * group + n // walk[edges]", "head = kv_head * group"),
    Mutant("dv of the tile before forgotten", B, "dv_tile = tl.dot(weights.to(do_rows.dtype), do_rows, dv_tile,", "dv_tile = tl.dot(weights.to(do_rows.dtype), do_rows, dv_tile * 0,"),
    Mutant("row without keys has NaN weights", B, "return tl.where(row_lse == -float(\"inf\"), float(\"inf\"), row_lse) * LOG2E", "return row_lse * LOG2E"),
    Mutant("lse taken for base 2", B, "float(\"inf\"), row_lse) * LOG2E", "float(\"inf\"), row_lse)"),
    Mutant("padding gets gradients", B, "tl.where(allowed & real[:, None], scores", "tl.where(allowed, scores"),
    Mutant("dk stored as if keys were never ragged", B, "store_tile(dk, dk_strides, j_first, keys, dk_tile", "store_tile(dk, dk_strides, j_first, j_first + TILE_K, dk_tile"),
    # Decoding.
    Mutant("decode: length of another sequence", D, "keys = tl.load(lengths + batch)", "keys = tl.load(lengths)"),
    Mutant("decode: parts overlap", D, "stop = tl.minimum(start + part, keys)", "stop = tl.minimum(start + part + 1, keys)"),
    Mutant("decode: parts run past the end", D, "stop = tl.minimum(start + part, keys)", "stop = start + part"),
    Mutant("decode: every query sees every key", D, "position = keys - queries + i", "position = keys - 1 + 0 * i"),
    Mutant("decode: queries one key short", D, "position = keys - queries + i", "position = keys - queries + i - 1"),
    Mutant("decode: query head of another group", D, "head, i = kv_head * group + r // queries", "head, i = r // queries * tl.num_programs(1) + kv_head"),
    Mutant("decode: stale maximum", D, "row_max = new_max", "row_max = row_max + 0.0"),
    Mutant("decode: sum not rescaled", D, "row_sum = row_sum * rescale +", "row_sum = row_sum +"),
    Mutant("decode: values with the strides of keys", D, "v_rows = v + block * v_strides[0] + kv_head * v_strides[1]", "v_rows = v + block * k_strides[0] + kv_head * k_strides[1]"),
    Mutant("decode: rows that are not there", D, "mask=inside(r, d, group * queries, D, TILE_D)", "mask=inside(r, d, TILE_Q, D, TILE_D)"),
    Mutant("decode: rows that are not there are stored", D, "tl.store(lses + row, row_lse, mask=r < group * queries)", "tl.store(lses + row, row_lse)"),
    Mutant("decode: parts store to one place", D, "row = row * tl.num_programs(0) + split", "row = row * tl.num_programs(0)"),
    Mutant("paged: the neighbour's table entry", D, "(j // PAGE) * table_strides[1]", "(j // PAGE + 1) * table_strides[1]"),
    Mutant("paged: another sequence's table", D, "entry = table + batch * table_strides[0]", "entry = table + 0 * batch * table_strides[0]"),
    Mutant("paged: slot not taken modulo the page", D, "tl.load(entry, mask=j < stop, other=0).to(tl.int64), j % PAGE", "tl.load(entry, mask=j < stop, other=0).to(tl.int64), j"),
    Mutant("paged: table read past its end", D, "tl.load(entry, mask=j < stop, other=0)", "tl.load(entry)"),
    Mutant("merge: every part counts the same", D, "share = tl.exp2((part_lse - top) * LOG2E)", "share = tl.exp2((part_lse - part_lse) * LOG2E)"),
    Mutant("merge: base 2 taken for base e", D, "share = tl.exp2((part_lse - top) * LOG2E)", "share = tl.exp2(part_lse - top)"),
    Mutant("merge: not divided by the sum", D, "row_output = tl.sum(share[:, None] * part_output, 0) / total", "row_output = tl.sum(share[:, None] * part_output, 0)"),
    Mutant("merge: lse of the largest part alone", D, "top + tl.log2(total) * LN2", "top"),
    Mutant("merge: a row without keys is NaN", D, "top = tl.maximum(tl.max(part_lse, 0), LOWEST)", "top = tl.max(part_lse, 0)"),
)  # fmt: skip


def suite(file: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """What the tests of these kernels do, in small: no test's size, but each kind of input, the quickest first."""
    import decode_cases
    import interpreted_kernels as kernels

    from llmlab.attention.triton import configs

    # Small tiles, not square: a short sequence then has whole tiles, edges on both sides and tiles that are skipped.
    configs.INTERPRETER.update(forward=configs.Config(32, 16), dq=configs.Config(16, 32), dkdv=configs.Config(16, 32))
    if file != D:
        draw, check = kernels.draw, kernels.check
        yield "causal", lambda: check(*draw(50, 100), causal=True)
        yield "dark rows", lambda: check(*draw(50, 23), causal=True)
        yield "head sizes", lambda: kernels.test_head_sizes(24, 40)
        yield "causal window", lambda: check(*draw(70, 70), causal=True, window=20)
        yield "sinks", lambda: check(*draw(60, 90), causal=True, window=11, sinks=5)
        yield "sinks both ways", lambda: check(*draw(75, 61), window=9, sinks=3)
        yield "groups", lambda: kernels.test_query_heads_share_key_heads(4, 2)
        yield "padding", lambda: kernels.test_padding("causal")
        yield "packed", lambda: kernels.test_packed_sequences("causal")
        yield "strided", kernels.test_strided_views_are_read_in_place
        yield "large scores", kernels.test_large_scores
        yield "half", lambda: kernels.test_half_precision_errs_at_most_twice_as_much_as_torch((17, 100), "causal")
    if file in (T, D):
        for case in decode_cases.CASES:
            yield case.__name__.replace("_", " "), case


class Kill(NamedTuple):
    """What noticed a fault."""

    by: str  # "comparison", "sanitizer", or what went wrong instead
    case: str
    message: str


def attempt(texts: dict[str, str], file: str, answer: Connection) -> None:
    """In the forked process: import the mutated copy, run the suite until something notices, say what."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    warnings.simplefilter("ignore")  # infinities and NaN are what some faults are about
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    case = "import"
    try:
        for name, text in texts.items():
            (folder / name).write_text(text)
        package.__path__[:] = [str(folder)]  # the submodules are not imported yet, and will come from here
        for case, function in suite(file):  # noqa: B007
            with sanitized():
                function()
        answer.send(None)
    except Exception as error:
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        if "AssertionError(" in message and ", program (" in message:
            answer.send(Kill("sanitizer", case, message[message.index("AssertionError(") + 16 :].rstrip("'\")")))
        else:
            by = "comparison" if isinstance(error, AssertionError) else type(error).__name__
            answer.send(Kill(by, case, message))
    finally:
        shutil.rmtree(folder)


def killers(
    texts: dict[str, str], mutants: tuple[Mutant | None, ...], processes: int
) -> Iterator[tuple[Mutant | None, Kill | None]]:
    """What noticed each mutant, as it comes; None where nothing did. ``None`` as a mutant is the package as it is."""
    assert not set(SUBMODULES) & set(sys.modules), "the kernels were imported before they could be mutated"
    fork = multiprocessing.get_context("fork")
    waiting, running = list(mutants), {}
    while waiting or running:
        while waiting and len(running) < processes:
            mutant = waiting.pop(0)
            mutated = (
                texts if mutant is None else texts | {mutant.file: texts[mutant.file].replace(mutant.old, mutant.new)}
            )
            here, there = fork.Pipe(duplex=False)
            process = fork.Process(target=attempt, args=(mutated, mutant.file if mutant else T, there))
            process.start()
            there.close()
            running[here] = mutant, process
        for here in wait(list(running)):
            mutant, process = running.pop(here)
            try:
                kill = here.recv()
            except EOFError:
                kill = Kill("no answer", "", f"it crashed, or ran for {SECONDS} s")
            process.join()
            yield mutant, kill


def main(words: list[str]) -> int:
    torch.set_num_threads(1)
    assert os.environ.get("TRITON_INTERPRET") == "1", "set TRITON_INTERPRET=1: the kernels run in triton's interpreter"
    texts = {path.name: path.read_text() for path in Path(package.__path__[0]).glob("*.py")}
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    problems = [
        f"{m.name}: its text stands {n} times in {m.file}; the kernel changed, and so must the mutant"
        for m in chosen
        if (n := texts[m.file].count(m.old)) != 1
    ]
    started = time.time()
    planted = tuple(m for m in chosen if texts[m.file].count(m.old) == 1)
    found = {}
    for mutant, kill in killers(texts, (*planted, None), processes=min(2, os.cpu_count() or 1)):
        found[mutant] = kill
        if mutant is None:
            if kill is not None:
                problems.append(f"the kernels as they are do not pass, so nothing is proven: {kill}")
            continue
        by, case, message = kill or Kill("SURVIVED", "", "")
        print(f"{mutant.file:12}{mutant.name:44}{by:12}{case}: {message[:110]}", flush=True)
        if by not in ("comparison", "sanitizer"):
            problems.append(f"{mutant.name}: {by} {message}")
    del found[None]
    by = [kill.by for kill in found.values() if kill]
    print(
        f"{len(planted)} faults planted: {by.count('comparison')} noticed by the comparison with float64, "
        f"{by.count('sanitizer')} by the sanitizer; {sum(os.times()[:4]):.0f} s of processor time, "
        f"{time.time() - started:.0f} s"
    )
    for problem in problems:
        print(f"PROBLEM {problem}")
    return len(problems)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
