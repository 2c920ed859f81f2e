"""``llmlab bench bpe``: learning merges from a megabyte of a novel, and cutting text by GPT-2's vocabulary.

``--chinese`` takes People's Daily instead: without spaces a piece is a clause, few come twice, and a megabyte leaves a
trainer twelve times as many bytes to look at.

Peers are ``tokenizers``, which comes with transformers, and, where it is installed, ``tiktoken``; both are compiled.
All learn from and cut the same text, with the same pattern, and must give the same merges and the same tokens. Before
each round of cutting our memory of pieces is emptied, as a new tokenizer's is.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llmlab.bench import contest
from llmlab.bench.measure import in_turns
from llmlab.text.bpe import BPE
from llmlab.text.pretokenize import PATTERNS, as_printed

__all__ = ["main"]

THEIRS = "tokenizers"


def main(argv: Sequence[str]) -> int:
    """Measure, print, and write what was asked for. Returns the exit status."""
    made = contest.parser("bpe", "Learning merges and cutting text, against tokenizers and tiktoken.", 5)
    made.add_argument("--vocabulary", type=contest.count, default=1024, help="tokens to learn, default 1024")
    made.add_argument("--megabytes", type=contest.count, default=1, help="of text, at most 4; default 1")
    made.add_argument("--chinese", action="store_true", help="of People's Daily instead of Austen's novels")
    args, on = contest.begin(made, argv)
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # one thread each, as ours
    on["versions"] |= contest.versions("tokenizers", "tiktoken")
    text, tokenizer = _toy() if args.quick else _text(args.megabytes, args.chinese)
    args.vocabulary = min(args.vocabulary, 300) if args.quick else args.vocabulary
    size = len(text.encode())
    print(
        f"{size / 1e6:.2f} MB; "
        + ", ".join(f"{p} {v or 'not installed'}" for p, v in contest.versions("tokenizers", "tiktoken").items())
    )
    goals = contest.Goals()

    runs: dict[str, Callable[[], Any]] = {
        THEIRS: partial(_train_theirs, text, args.vocabulary),
        "ours": lambda: BPE.train([text], args.vocabulary),
    }
    same = _merges(runs[THEIRS]()) == [(as_printed(a), as_printed(b)) for a, b in runs["ours"]().merges()]
    times = in_turns(runs, args.rounds)
    learned = [contest.row(name, took, times[THEIRS], size) for name, took in times.items()]
    print(f"\n{args.vocabulary - 256} merges learned, {'the same' if same else 'NOT the same'} by both")
    contest.table(learned, "MB/s", 1e-6)
    slower = statistics.median(o / t for o, t in zip(times["ours"].cpu, times[THEIRS].cpu))
    goals.add("learning, time to tokenizers'", slower, 2, most=True)
    goals.add("learning, the same merges", float(same), 1)

    ways: dict[str, Callable[[], list[int]]] = {
        THEIRS: _theirs(tokenizer, text),
        "ours": partial(_encode, tokenizer, text),
    }
    if on["versions"]["tiktoken"]:
        ways["tiktoken"] = _tiktoken(tokenizer, text)
    tokens = {name: way() for name, way in ways.items()}
    times = in_turns(ways, args.rounds)
    cut = [
        contest.row(
            name, took, times[THEIRS], size, tokens=len(tokens[name]), same=float(tokens[name] == tokens["ours"])
        )
        for name, took in times.items()
    ]
    print(f"\ncut by {len(tokenizer.ranks)} tokens; same: the tokens are those of ours, 1 is yes")
    contest.table(cut, "MB/s", 1e-6, more={"tokens": "d", "same": ".0f"})
    ours = next(r for r in cut if r["name"] == "ours")
    goals.add("cutting, MB a second of processor", ours["per_cpu_second"] / 1e6, 3)
    goals.add("cutting, peers with the same tokens", sum(r["same"] for r in cut) / len(cut), 1)
    setting = {"bytes": size, "vocabulary": args.vocabulary, "chinese": args.chinese}
    return contest.finish(args, "bpe", on, setting=setting, learning=learned, cutting=cut, goals=goals.all)


def _text(megabytes: int, chinese: bool) -> tuple[str, BPE]:
    """The first so many megabytes of Austen or of People's Daily, and GPT-2's vocabulary."""
    from llmlab.assets import load_novels, load_peoples_daily
    from llmlab.text.bpe import load_bpe

    text = "\n".join(load_peoples_daily().texts()) if chinese else "\n\n".join(load_novels().values())
    return text.encode()[: megabytes * 10**6].decode(errors="ignore"), load_bpe("gpt2")


def _toy() -> tuple[str, BPE]:
    text = " ".join(f"the {word} of {number}" for number in range(40) for word in ("cat", "hat", "café", "中文"))
    return text, BPE.train([text], 300)


def _encode(tokenizer: BPE, text: str) -> list[int]:
    return BPE(tokenizer.ranks, pattern=tokenizer.pattern).encode(text)


def _gpt2(model: Any) -> Any:
    """A tokenizer of ``tokenizers`` that cuts text by GPT-2's pattern."""
    from tokenizers import Tokenizer, pre_tokenizers

    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return made


def _train_theirs(text: str, vocabulary: int) -> Any:
    from tokenizers import models, pre_tokenizers, trainers

    made = _gpt2(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def _merges(tokenizer: Any) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def _theirs(tokenizer: BPE, text: str) -> Callable[[], list[int]]:
    """A new one a round, so that its memory of pieces is empty too; making it is part of no round's time."""
    from tokenizers import models

    vocabulary = {as_printed(token): number for token, number in tokenizer.ranks.items()}
    merges = [(as_printed(a), as_printed(b)) for a, b in tokenizer.merges()]
    made = _gpt2(models.BPE(vocabulary, merges))

    def encode() -> list[int]:
        made.model._clear_cache()
        ids: list[int] = made.encode(text).ids
        return ids

    return encode


def _tiktoken(tokenizer: BPE, text: str) -> Callable[[], list[int]]:
    import tiktoken

    made = tiktoken.Encoding("as ours", pat_str=PATTERNS["gpt2"], mergeable_ranks=tokenizer.ranks, special_tokens={})
    return lambda: made.encode_ordinary(text)
