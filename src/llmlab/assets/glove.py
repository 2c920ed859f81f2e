"""GloVe: from the package's files to 50,000 words, and into memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["KEPT", "WordVectors", "load_glove", "prepare"]

#: how many of GloVe's 400,000 words are kept, the most frequent first
KEPT = 50_000


@dataclass(frozen=True)
class WordVectors:
    """One vector a word: ``vectors[i]`` is that of ``words[i]``, the most frequent word first."""

    words: list[str]
    vectors: Float[Tensor, "words d"]
    place: dict[str, int]

    def __getitem__(self, word: str) -> Float[Tensor, " d"]:
        """The vector of ``word``, in lower case as GloVe's words are. KeyError: it is not among them."""
        if word.lower() not in self.place:
            raise KeyError(f"{word!r} is not among the {len(self.words):,} words")
        return self.vectors[self.place[word.lower()]]

    def nearest(self, vector: Float[Tensor, " d"], count: int = 10) -> list[tuple[str, float]]:
        """The words with the largest cosine to ``vector``, and their cosines. Cost: one pass over the table."""
        table = self.vectors / self.vectors.norm(dim=1, keepdim=True)
        best = (table @ (vector / vector.norm())).topk(count)
        return [(self.words[i], value) for value, i in zip(best.values.tolist(), best.indices.tolist())]


def load_glove() -> WordVectors:
    """GloVe 6B: 50,000 words, 50 numbers each, in float32 (kept in half precision: a relative rounding of 2**-11).

    Trained on 6 billion words of Wikipedia 2014 and Gigaword 5, in lower case (Pennington, Socher and Manning, 2014,
    EMNLP, "GloVe: Global Vectors for Word Representation").

    Raises:
        AssetMissing: it was not fetched; the message names the command.
    """
    import numpy as np
    import torch

    from llmlab.assets.store import path  # the table of assets, which the store reads, names this module

    folder = path("glove")

    words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")
    vectors = torch.from_numpy(np.load(folder / "vectors.npy").astype(np.float32))
    return WordVectors(words, vectors, {word: i for i, word in enumerate(words)})


def prepare(taken: Path, ready: Path) -> None:
    """The most frequent words of GloVe in half precision, and the list of them: 5 MB of 80.

    The words stand in a parquet file whose first page is a dictionary. Every word is new, so the dictionary has them in
    their order; of the file's 95,360 first words we take the first 50,000, and need no parquet reader.
    """
    import numpy as np

    words = _first_dictionary((taken / "words.parquet").read_bytes())[:KEPT]
    vectors = np.load(taken / "vectors.npy", mmap_mode="r")[: len(words)]
    np.save(ready / "vectors.npy", np.ascontiguousarray(vectors, dtype=np.float16))
    (ready / "words.txt").write_text("\n".join(words), encoding="utf-8", newline="\n")
    (taken / "LICENSE").rename(ready / "LICENSE")


def _first_dictionary(file: bytes) -> list[str]:
    """The strings of the dictionary page that a parquet file begins with (page type 2, plain encoding, Snappy).

    Source: the Apache Parquet format, "Data Pages" and "Plain encoding"; the header is Thrift's compact protocol.
    """
    kind, at = _varint(file, 5)  # "PAR1" and the first field's tag are before it
    if not file.startswith(b"PAR1") or kind != 2 * 2:  # Thrift writes a number n >= 0 as 2 n
        raise ValueError("the word list does not begin with the dictionary of a parquet file")
    unpacked, at = _varint(file, at + 1)
    packed, at = _varint(file, at + 1)
    count, at = _varint(file, at + 2)  # inside the header of the dictionary: its first field
    at += 5  # the encoding, plain, and the ends of the two structures
    page = _unsnappy(file[at : at + packed // 2])
    words, place = [], 0
    while place < len(page):
        size = int.from_bytes(page[place : place + 4], "little")
        words.append(page[place + 4 : place + 4 + size].decode())
        place += 4 + size
    if len(page) != unpacked // 2 or len(words) != count // 2 or len(set(words)) != len(words):
        raise ValueError(f"the word list has {len(words)} words, its header says {count // 2}")
    return words


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _unsnappy(data: bytes) -> bytes:
    """Snappy's format: literal bytes, and copies of what came before. Source: google/snappy, format_description.txt."""
    size, at = _varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        extra = (0, 1, 2, 4)[tag & 3]
        if tag & 3 == 0:
            length = (tag >> 2) + 1
            if length > 60:  # the length stands in the next one to four bytes
                more = length - 60
                length, at = int.from_bytes(data[at : at + more], "little") + 1, at + more
            out += data[at : at + length]
            at += length
            continue
        back = int.from_bytes(data[at : at + extra], "little")
        length = (tag >> 2) + 1
        if tag & 3 == 1:
            length, back = (tag >> 2 & 7) + 4, back | (tag >> 5) << 8
        at += extra
        for _ in range(length):  # one by one: a copy may reach into itself
            out.append(out[-back])
    if len(out) != size:
        raise ValueError(f"a Snappy block of {size} bytes gave {len(out)}")
    return bytes(out)
