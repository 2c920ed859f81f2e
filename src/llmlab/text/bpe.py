"""Byte-pair encoding: learn merges from text, cut text into tokens, put tokens together again.

Training starts from the 256 bytes and joins, again and again, the pair of neighbours that occurs most often. Encoding
repeats the merges in the order in which they were learned. Nothing is ever unknown: what was never seen stays bytes.

Each half has a version to read and a fast one that gives the same: :func:`train_readable` and :func:`train`,
:func:`encode_piece_readable` and :func:`encode_piece`.
"""

from __future__ import annotations

import base64
import gc
import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Literal

import numpy as np

from llmlab.assets.load import load_vocabulary, read_tiktoken
from llmlab.text.pretokenize import BYTE_ORDER, count_pieces, pieces, utf8

__all__ = ["BPE", "Merge", "encode_piece", "encode_piece_readable", "load_bpe", "ranks_of", "train", "train_readable"]

Merge = tuple[bytes, bytes]
Pair = tuple[int, int]
Neighbours = defaultdict[int, list[int]]


# --- training -------------------------------------------------------------------------------------------------------


def train_readable(words: Mapping[bytes, int], merges: int) -> list[Merge]:
    """Learn up to ``merges`` merges from ``words`` (piece -> how often): the version to read.

    A tie goes to the pair with the smaller token numbers, the left one first; bytes have GPT-2's order, later tokens
    the order of their birth. So does the ``tokenizers`` package.

    Cost: O(merges · bytes in ``words``). Source: Sennrich, Haddow and Birch, 2016 (arXiv:1508.07909), algorithm 1.
    """
    number = {token: i for i, token in enumerate(BYTE_ORDER)}
    split = {word: [bytes([byte]) for byte in word] for word in words}
    learned: list[Merge] = []
    while len(learned) < merges:
        counts: Counter[Merge] = Counter()
        for word, tokens in split.items():
            for pair in zip(tokens, tokens[1:]):
                counts[pair] += words[word]
        if not counts:
            break  # every word is one token
        best = min(counts, key=lambda pair: (-counts[pair], number[pair[0]], number[pair[1]]))
        learned.append(best)
        number.setdefault(best[0] + best[1], len(number))
        split = {word: _merged(tokens, best) for word, tokens in split.items()}
    return learned


def _merged(tokens: list[bytes], pair: Merge) -> list[bytes]:
    """Every occurrence of ``pair`` joined, from left to right."""
    out: list[bytes] = []
    for token in tokens:
        if out and (out[-1], token) == pair:
            out[-1] += token
        else:
            out.append(token)
    return out


def train(words: Mapping[bytes, int], merges: int) -> list[Merge]:
    """The merges of :func:`train_readable`, without counting everything again after each.

    A merge changes only the pairs beside it, so counts are kept and corrected, once for each different neighbour and
    not for each place, and a heap hands out the best pair. An entry whose count has changed since is put back with its
    present count when it comes up.

    Cost: O(n log n) for n bytes in ``words``, almost whatever the number of merges; memory of one list entry a byte.
    """
    collecting = gc.isenabled()
    gc.disable()  # many small lists and no cycles: looking for cycles took a third of the time
    try:
        return _train(words, merges)
    finally:
        if collecting:
            gc.enable()


def _train(words: Mapping[bytes, int], merges: int) -> list[Merge]:
    number, token_of = {token: i for i, token in enumerate(BYTE_ORDER)}, list(BYTE_ORDER)
    of_byte = [number[bytes([byte])] for byte in range(256)]
    split, often = [[of_byte[byte] for byte in word] for word in words], list(words.values())
    where = _places(split)  # pair -> its words, one entry an occurrence
    counts = defaultdict(int, {pair: sum(map(often.__getitem__, places)) for pair, places in where.items()})
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    learned: list[Merge] = []
    while heap and len(learned) < merges:
        count, pair = heapq.heappop(heap)
        if counts[pair] != -count:
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        left, right = token_of[pair[0]], token_of[pair[1]]
        learned.append((left, right))
        new = number.setdefault(left + right, len(number))  # the same bytes by another way keep their number
        token_of += [left + right] if new == len(token_of) else []
        before, behind = _join(split, where.pop(pair), pair, new)
        changed = [((token, pair[0]), (token, new), places) for token, places in before.items()]
        changed += [((pair[1], token), (new, token), places) for token, places in behind.items()]
        for lost, gained, places in changed:
            moved = sum(map(often.__getitem__, places))
            counts[lost] -= moved
            counts[gained] += moved
            where[gained] += places
        counts[pair] = 0
        for gained in {gained for _, gained, _ in changed}:
            if counts[gained] > 0:
                heapq.heappush(heap, (-counts[gained], gained))
    return learned


def _places(split: list[list[int]]) -> defaultdict[Pair, list[int]]:
    """Pair of bytes -> the words it stands in, one entry an occurrence, found by sorting all pairs at once."""
    sizes = np.fromiter(map(len, split), np.int64, len(split))
    flat = np.fromiter(chain.from_iterable(split), np.int64, sizes.sum())
    word = np.repeat(np.arange(len(split)), sizes)
    inside = word[1:] == word[:-1]
    code, word = (flat[:-1] * 256 + flat[1:])[inside], word[1:][inside]
    order = np.argsort(code.astype(np.uint16), kind="stable")
    found, start = np.unique(code[order], return_index=True)
    parts = np.split(word[order], start[1:])
    return defaultdict(list, {divmod(int(pair), 256): part.tolist() for pair, part in zip(found, parts)})


def _join(split: list[list[int]], words: Iterable[int], pair: Pair, new: int) -> tuple[Neighbours, Neighbours]:
    """Join every ``pair`` in these words, in place. Returns the tokens before and behind it -> words, one a place."""
    first, second = pair
    before: Neighbours = defaultdict(list)
    behind: Neighbours = defaultdict(list)
    for index in dict.fromkeys(words):
        tokens, place = split[index], -1
        tokens.append(-1)  # an end that equals no token
        left = tokens.count(first)
        while left > 0:
            place = tokens.index(first, place + 1)
            left -= 1
            if tokens[place + 1] == second:
                tokens[place] = new
                del tokens[place + 1]
                if place:
                    before[tokens[place - 1]].append(index)
                if tokens[place + 1] >= 0:
                    behind[tokens[place + 1]].append(index)
                left -= first == second  # the one that was joined is not looked for again
        del tokens[-1]
    return before, behind


def ranks_of(merges: Iterable[Merge]) -> dict[bytes, int]:
    """Token -> number: the 256 bytes in GPT-2's order, then what each merge makes, in the order of the merges."""
    ranks = {token: i for i, token in enumerate(BYTE_ORDER)}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks))
    return ranks


# --- encoding one piece ---------------------------------------------------------------------------------------------


def encode_piece_readable(piece: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The tokens of one piece: join the neighbours whose union was learned first, until no union is a token.

    Cost: O(bytes²).
    """
    tokens = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        unions = [ranks.get(left + right, len(ranks)) for left, right in zip(tokens, tokens[1:])]
        if not unions or min(unions) == len(ranks):
            return [ranks[token] for token in tokens]
        best = unions.index(min(unions))
        tokens[best : best + 2] = [tokens[best] + tokens[best + 1]]


def encode_piece(piece: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The tokens of :func:`encode_piece_readable`; a heap hands out the union learned first.

    ``end[i]`` is where the token that begins at byte i ends (0: none begins there). A heap entry is a union: its rank,
    where it begins, ends, and meets in the middle; it is stale when its halves are no longer what they were.

    Cost: O(bytes · log bytes), so a line of 100,000 equal letters does no harm.
    """
    size = len(piece)
    end, start = [*range(1, size + 1)], [*range(-1, size)]  # start[i]: where the token before byte i begins
    heap = [(rank, i, i + 2, i + 1) for i in range(size - 1) if (rank := ranks.get(piece[i : i + 2])) is not None]
    heapq.heapify(heap)
    while heap:
        _, i, behind, middle = heapq.heappop(heap)
        if end[i] != middle or end[middle] != behind:
            continue
        end[i], end[middle] = behind, 0
        if behind < size:
            start[behind] = i
            if (rank := ranks.get(piece[i : end[behind]])) is not None:
                heapq.heappush(heap, (rank, i, end[behind], behind))
        if i and (rank := ranks.get(piece[start[i] : behind])) is not None:
            heapq.heappush(heap, (rank, start[i], behind, i))
    out, i = [], 0
    while i < size:
        out.append(ranks[piece[i : end[i]]])
        i = end[i]
    return out


# --- texts ----------------------------------------------------------------------------------------------------------


class BPE:
    """A byte-level tokenizer: text -> token numbers -> the same text.

    Args:
        ranks: token -> number; the order is that of the merges. All 256 single bytes must be there.
        special: control token -> number, as ``{"<|endoftext|>": 50256}``.
        pattern: how text is cut before merging, see :data:`llmlab.text.pretokenize.PATTERNS`.

    A merge is known by what it makes, as in tiktoken; ``tokenizers`` knows it by its halves.

    Raises:
        ValueError: a byte is missing, or two tokens share a number.
    """

    def __init__(self, ranks: Mapping[bytes, int], special: Mapping[str, int] | None = None, pattern: str = "gpt2"):
        self.ranks, self.special, self.pattern = dict(ranks), dict(special or {}), pattern
        missing = [byte for byte in BYTE_ORDER if byte not in self.ranks]
        if missing:
            raise ValueError(
                f"{len(missing)} of 256 bytes have no token ({missing[0]!r}), and text with them no tokens"
            )
        self._bytes = {number: token for token, number in self.ranks.items()}
        self._bytes |= {number: utf8(token) for token, number in self.special.items()}
        if len(self._bytes) < len(self.ranks) + len(self.special):
            raise ValueError("two tokens share a number: give every token, special ones too, a number of its own")
        self._special = re.compile("|".join(map(re.escape, sorted(self.special, key=len, reverse=True))) or "(?!)")
        self._known: dict[str, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int, special: Iterable[str] = (), pattern: str = "gpt2") -> BPE:
        """Learn ``vocabulary`` tokens from ``texts``: 256 bytes, then merges, then the ``special`` ones at the end.

        Fewer come out if the texts have no more pairs to join.

        Raises:
            ValueError: ``vocabulary`` has no room for the bytes and the special tokens.
        """
        control = list(special)
        merges = vocabulary - 256 - len(control)
        if merges < 0:
            raise ValueError(
                f"vocabulary={vocabulary}: expected at least {256 + len(control)}, bytes and special tokens"
            )
        if isinstance(texts, str):
            raise TypeError("texts is one string, expected several: put it into a list")
        ranks = ranks_of(train(count_pieces(texts, pattern), merges))
        return cls(ranks, {token: len(ranks) + i for i, token in enumerate(control)}, pattern)

    def __len__(self) -> int:
        """Number of tokens, special ones included."""
        return len(self._bytes)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The token numbers of ``text``; none for the empty text.

        ``special`` False reads ``<|endoftext|>`` in a text as the thirteen characters it is, so that no user can forge
        a control token; True makes it the one token, which is for texts that you wrote yourself.

        Raises:
            TypeError: no string. ValueError: half a surrogate pair, which is no text.
        """
        utf8(text)  # raises, and says where, if it is no text
        if not special or not self.special:
            return self._encode(text)
        out, at = [], 0
        for found in self._special.finditer(text):
            out += [*self._encode(text[at : found.start()]), self.special[found.group()]]
            at = found.end()
        return out + self._encode(text[at:])

    def _encode(self, text: str) -> list[int]:
        out: list[int] = []
        known, ranks = self._known, self.ranks
        for piece in pieces(text, self.pattern):
            numbers = known.get(piece)
            if numbers is None:
                if len(known) > 200_000:  # words repeat, but not all that ever come are worth their memory
                    known.clear()
                numbers = known[piece] = encode_piece(utf8(piece), ranks)
            out += numbers
        return out

    def decode_bytes(self, numbers: Iterable[int]) -> bytes:
        """The bytes of the tokens, joined: a token may be a part of a character, so only the whole is text.

        Raises:
            ValueError: no token has that number.
        """
        try:
            return b"".join([self._bytes[number] for number in numbers])
        except KeyError as error:
            raise ValueError(f"no token has the number {error.args[0]!r}; there are {len(self)}") from None

    def decode(self, numbers: Iterable[int], errors: Literal["replace", "strict", "ignore"] = "replace") -> str:
        """The text of the tokens. Where they cut a character in half, ``errors`` "replace" shows \ufffd."""
        return self.decode_bytes(numbers).decode("utf-8", errors)

    def tokens(self, text: str, *, special: bool = False) -> list[bytes]:
        """The tokens of ``text`` as bytes."""
        return [self._bytes[number] for number in self.encode(text, special=special)]

    def merges(self) -> list[Merge]:
        """The two halves of every token longer than a byte, in order: what ``tokenizers`` and transformers ask for.

        Found by encoding each token with the tokens before it.

        Raises:
            ValueError: a token does not come from two earlier ones.
        """
        earlier: dict[bytes, int] = {}
        found = []
        for token, number in sorted(self.ranks.items(), key=lambda item: item[1]):
            if len(token) > 1:
                halves = [self._bytes[half] for half in encode_piece(token, earlier)]
                if len(halves) != 2:
                    raise ValueError(f"token {token!r} is not the union of two earlier tokens, but of {len(halves)}")
                found.append((halves[0], halves[1]))
            earlier[token] = number
        return found

    def dumps(self) -> str:
        """The tokens in tiktoken's format: a line each, base64 and number. Special tokens are not part of it."""
        return "".join(f"{base64.b64encode(token).decode()} {number}\n" for token, number in self.ranks.items())

    @classmethod
    def loads(cls, text: str, special: Mapping[str, int] | None = None, pattern: str = "gpt2") -> BPE:
        """Back from :meth:`dumps`."""
        return cls(read_tiktoken(text), special, pattern)


def load_bpe(name: Literal["gpt2", "whisper", "qwen"]) -> BPE:
    """The tokenizer of GPT-2, of multilingual Whisper or of Qwen, from its published vocabulary.

    Whisper cuts text as GPT-2 does. Qwen's reference code brings text to Unicode's form C first; this one does not.

    Raises:
        ValueError: another name.
        AssetMissing: it was not fetched; the message names the command.
    """
    vocabulary = load_vocabulary(name)
    return BPE(vocabulary.ranks, vocabulary.special, "qwen" if name == "qwen" else "gpt2")
