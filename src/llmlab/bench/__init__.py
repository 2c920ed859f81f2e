"""Benchmarks of this machine: ``llmlab bench`` lists them, ``llmlab bench attention`` runs one."""

from __future__ import annotations

import argparse
import importlib

__all__ = ["main"]

#: name -> (module with ``main(argv) -> int``, what it measures). Imported only when called.
BENCHES = {
    "attention": ("llmlab.bench.attention", "time and memory of every attention backend over the length"),
    "decode": (
        "llmlab.bench.decode",
        "tokens a second from SmolLM2, and whether they are the same, against transformers",
    ),
    "train": ("llmlab.bench.train", "tokens a second through a training step, against a plain loop of torch's modules"),
    "encode": ("llmlab.bench.encode", "sentences a second from MiniLM, against transformers and ONNX Runtime"),
    "bpe": ("llmlab.bench.bpe", "learning merges and cutting text, against tokenizers and tiktoken"),
}


def main(argv: list[str]) -> int:
    """List the benchmarks, or hand the words after the first to the one it names. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="llmlab bench", description="Measure this machine.")
    parser.add_argument("name", nargs="?", choices=BENCHES, help="which; none lists them")
    name = parser.parse_args(argv[:1]).name
    if name is None:
        print("\n".join(f"  {bench:12}{what}" for bench, (_, what) in BENCHES.items()))
        return 0
    status: int = importlib.import_module(BENCHES[name][0]).main(argv[1:])
    return status
