"""Ten facts at ten depths of a novel: which of them SmolLM2 finds, and what helps beyond the window.

``python -m llmlab.recipes needles`` writes ``needles.json``: every answer at two lengths. Each document has a hay of
its own; over ten documents each name stands at each depth once. ``long_text`` puts the same questions to texts of 2,048
tokens with a window of 512. ``context_loss`` reads the novels and writes the loss of a token by how many stand before
it. Nothing is trained. The facts are made up, the hay is Jane Austen's.
"""

from __future__ import annotations

import json
import platform
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab import assets, runtime
from llmlab.text.chunk import chunk, sentence_spans, token_windows

__all__ = [
    "DEPTHS",
    "LENGTHS",
    "LONG",
    "NAMES",
    "PASSAGES",
    "WINDOW",
    "Document",
    "Reader",
    "document",
    "main",
    "nearest_chunks",
]

#: none of these stands in the novels, and each is one token
NAMES = ("Griffin", "Holmes", "Parker", "Sullivan", "Porter", "Hopkins", "Bennett", "Foster", "Murphy", "Nelson")
DEPTHS = len(NAMES)
LENGTHS = {512: 30, 1024: 20}  # tokens -> how many documents; 2,048 stands in long_text.json
LONG, LONG_DOCUMENTS, WINDOW = 2048, 12, 512
PASSAGES = 24
LONGEST = 60  # tokens: a longer sentence of the hay is left out, or a tenth of a short document might be one sentence


@dataclass(frozen=True)
class Document:
    """``text`` with ten facts; ``order[d]`` is the name at depth d, ``numbers`` every name's digit."""

    text: str
    order: tuple[int, ...]
    numbers: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        """The name at each depth."""
        return [NAMES[name] for name in self.order]

    @property
    def at_depth(self) -> tuple[int, ...]:
        """The digit that stands at each depth."""
        return tuple(self.numbers[name] for name in self.order)


def fact(name: int, number: int | str) -> str:
    """The sentence that is hidden."""
    return f"The magic number of {NAMES[name]} is {number}."


def question(name: str) -> str:
    """What is asked behind the text; the next token is the digit."""
    return f"\n\nQuestion: What is the magic number of {name}?\nAnswer: The magic number of {name} is "


def hay(novels: dict[str, str], place: int) -> str:
    """The text of one of the novels from one of 72 places on: the novels in turn, each at every twelfth of it."""
    novel = list(novels.values())[place % len(novels)]
    start = novel.index(". ", len(novel) * (place // len(novels)) // 13 + 1000)
    return novel[start + 2 :]


def document(tokenizer: Any, text: str, tokens: int, turn: int) -> Document:
    """About ``tokens`` tokens of ``text`` in whole sentences, and the ten facts in the middle of its ten tenths.

    Over ten turns every name stands at every depth once, and has another digit each time.
    """
    draw = random.Random(1000 * tokens + turn)
    numbers = tuple(draw.sample(range(10), DEPTHS))
    order = tuple((depth + turn) % DEPTHS for depth in range(DEPTHS))
    facts = [fact(name, numbers[name]) for name in order]
    room = tokens - sum(len(tokenizer(" " + one).input_ids) for one in facts)
    said, used = [], 0.0
    for start, end in sentence_spans(text[: 12 * tokens]):
        while facts and used >= (DEPTHS - len(facts) + 0.5) / DEPTHS * room:
            said.append(facts.pop(0))
        sentence = " ".join(text[start:end].split())
        size = len(tokenizer(" " + sentence).input_ids)
        if size > LONGEST:
            continue
        used += size
        if used > room and not facts:  # the last sentence would be one too many
            break
        said.append(sentence)
    return Document(" ".join(said), order, numbers)


class Reader:
    """Asks SmolLM2: one reading of a text, then every question behind its cache."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.digits = torch.tensor([tokenizer(str(digit)).input_ids[0] for digit in range(10)])

    @torch.inference_mode()
    def ask(self, ids: Sequence[int], names: Sequence[str]) -> Float[Tensor, "questions digits"]:
        """Log-probabilities of the ten digits as the next token, for each name asked after the same text."""
        cache = self.model.model(torch.tensor([list(ids)]), use_cache=True).past_key_values if len(ids) else None
        rows = []
        for name in names:
            asked = torch.tensor([self.tokenizer(question(name)).input_ids])
            state = self.model.model(asked, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
            rows.append(self.model.lm_head(state)[0].float().log_softmax(-1)[self.digits])
            if cache is not None:
                cache.crop(-asked.shape[1])
        return torch.stack(rows)

    def ids(self, text: str) -> list[int]:
        """Token numbers, without a warning for a long text."""
        found: list[int] = self.tokenizer(text, verbose=False).input_ids
        return found

    @torch.inference_mode()
    def summary(self, text: str, new_tokens: int = 48) -> str:
        """What SmolLM2 writes, greedily, when told to summarise and keep names and numbers."""
        said = [{"role": "user", "content": f"Summarise in one sentence. Keep names and numbers.\n\n{text}"}]
        prompt = self.tokenizer.apply_chat_template(
            said, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = self.model.generate(**prompt, max_new_tokens=new_tokens, do_sample=False, pad_token_id=2)
        written: str = self.tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        return " ".join(written.split())


def nearest_chunks(encode: Any, pieces: Sequence[str], asked: str, count: int) -> list[int]:
    """The numbers of the ``count`` pieces whose vectors are nearest to the question's, in the order of the text."""
    vectors = encode([asked, *pieces])
    return sorted((vectors[1:] @ vectors[0]).topk(min(count, len(pieces))).indices.tolist())


def sentence_encoder() -> Any:
    """``encode(texts)``: MiniLM's unit vectors, one a text."""
    from llmlab.nn.pooling import masked_mean

    model, tokenizer = assets.load_minilm()

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Float[Tensor, "texts d"]:
        batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        states = model(**batch).last_hidden_state
        return torch.nn.functional.normalize(masked_mean(states, batch.attention_mask.bool()), dim=-1)

    return encode


def ways(reader: Reader, encode: Any, doc: Document) -> dict[str, tuple[list[int], int]]:
    """Six ways to answer the ten questions: the digit given for each depth, and the tokens read for one question."""
    ids, names = reader.ids(doc.text), doc.names

    def answers(logs: Tensor) -> list[int]:
        return logs.argmax(-1).tolist()

    found = {
        "whole text": (answers(reader.ask(ids, names)), len(ids)),
        "no text": (answers(reader.ask([], names)), 0),
        "first 512": (answers(reader.ask(ids[:WINDOW], names)), WINDOW),
        "last 512": (answers(reader.ask(ids[-WINDOW:], names)), WINDOW),
    }
    spans = token_windows(len(ids), WINDOW, 64)
    windows = torch.stack([reader.ask(ids[a:b], names) for a, b in spans])
    surest = windows.amax(-1).argmax(0)  # for each question the window that is surest of its digit
    found["sliding window"] = answers(windows[surest, torch.arange(DEPTHS)]), sum(b - a for a, b in spans)
    pieces = [p.text for p in chunk(doc.text, 96, 24, count=lambda part: len(reader.ids(part)))]
    got, read = [], 0
    for name in names:
        near = nearest_chunks(encode, pieces, f"What is the magic number of {name}?", 2)
        some = reader.ids(" ".join(pieces[i] for i in near))
        got += answers(reader.ask(some, [name]))
        read += len(some)
    found["chunk and retrieve"] = got, round(read / DEPTHS)
    notes = " ".join(reader.summary(p.text) for p in chunk(doc.text, 400, count=lambda part: len(reader.ids(part))))
    found["summarise"] = answers(reader.ask(reader.ids(notes), names)), len(ids) + len(reader.ids(notes))
    return found


def passages(tokenizer: Any, count: int, tokens: int = 512) -> list[list[int]]:
    """Passages of ``tokens`` tokens from the six novels in turn, spread over each."""
    novels = assets.load_novels()
    texts = [" ".join(hay(novels, place)[: 8 * tokens].split()) for place in range(count)]
    found = [tokenizer(text, verbose=False).input_ids[:tokens] for text in texts]
    return found


def _write(name: str, record: dict[str, Any], began: float) -> None:
    from llmlab.tasks.classify.checkpoints import FOLDER

    record |= {"model": "smollm2", "dtype": "bfloat16", "cpu_seconds": round(time.process_time() - began)}
    record["made_with"] = {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]}
    file = FOLDER / f"{name}.json"
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")
    print(file)


def main(name: str = "needles") -> None:
    """Read, ask, write. bfloat16: on this kind of work it is four times as fast."""
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    reader = Reader(*assets.load_smollm2(dtype=torch.bfloat16))
    novels = assets.load_novels()
    record: dict[str, Any]
    if name == "context_loss":
        record = _context_loss(reader)
    elif name == "needles":
        record = _needles(reader, novels)
    else:
        record = _long_text(reader, novels)
    _write(name, record, began)


def _context_loss(reader: Reader) -> dict[str, Any]:
    from llmlab.models.rope_hooks import token_losses

    texts = passages(reader.tokenizer, PASSAGES)
    losses = [[round(x, 3) for x in token_losses(reader.model, torch.tensor(ids)).tolist()] for ids in texts]
    return {"loss_by_tokens_before": losses}


def _needles(reader: Reader, novels: dict[str, str]) -> dict[str, Any]:
    runs = []
    for tokens, documents in LENGTHS.items():
        right = torch.zeros(DEPTHS)
        for turn in range(documents):
            doc = document(reader.tokenizer, hay(novels, turn), tokens, turn)
            ids = reader.ids(doc.text)
            digits = reader.ask(ids, doc.names).argmax(-1).tolist()
            given = [doc.at_depth.index(digit) for digit in digits]  # the depth whose digit was given
            runs.append({"length": tokens, "turn": turn, "tokens": len(ids), "given": given})
            right += torch.tensor(given) == torch.arange(DEPTHS)
        print(tokens, [f"{x:.2f}" for x in (right / documents).tolist()], flush=True)
    return {"runs": runs}


def _long_text(reader: Reader, novels: dict[str, str]) -> dict[str, Any]:
    encode, runs = sentence_encoder(), []
    for turn in range(LONG_DOCUMENTS):
        doc = document(reader.tokenizer, hay(novels, turn), LONG, turn)
        for way, (given, read) in ways(reader, encode, doc).items():
            right = [int(digit == want) for digit, want in zip(given, doc.at_depth)]
            print(turn, way, sum(right), flush=True)
            runs.append({"way": way, "turn": turn, "right": right, "tokens_read": read})
    return {"length": LONG, "window": WINDOW, "runs": runs}


if __name__ == "__main__":
    main()
