"""A small BERT of Chinese characters, its causal twin, and what four ways to mask are worth.

``llmlab recipes bert_mlm`` and ``bert_causal`` train the same model on the same windows of People's Daily, one to fill
blanks, one to tell the next character: the twins differ in one Boolean of their attention and in their target.
``bert_rates`` trains shorter ones under four ways to mask, two seeds each. Blocks of 200 lines are held out, every
tenth. How the weights start and the learning rates were chosen by the loss of the first few hundred steps, in part on
the last tenth of the paper.
"""

from __future__ import annotations

import json
import random
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab import assets, runtime
from llmlab.assets.load import NewsSentences
from llmlab.metrics.spans import bio_tags, score_spans, spans_of
from llmlab.models.encoder import Encoder, EncoderConfig
from llmlab.nn.heads import MultiHeadAttention
from llmlab.nn.pooling import masked_mean
from llmlab.nn.positions import sinusoidal_positions
from llmlab.tasks.classify.checkpoints import FOLDER, read_record, read_weights, write_checkpoint
from llmlab.tasks.probe import LinearProbe
from llmlab.text.characters import CLS, MASK, PAD, SEP, SPECIAL, CharacterVocabulary
from llmlab.train import decay_groups, warmup_cosine
from llmlab.train.mlm import IGNORED, Masked, mask_tokens, masked_word_loss

__all__ = [
    "TAGS",
    "News",
    "Recipe",
    "build",
    "causal_loss",
    "features",
    "framed",
    "load_news",
    "load_twin",
    "main",
    "make_causal",
    "train",
]

Objective = Literal["masked", "causal"]
Part = Literal["train", "held"]
BLOCK = 200
OFFSETS = (-1, 1, -2, 2)  # where the heads look at first
SHARPNESS = 2.4
TAGS = ("O", *(f"{mark}-{kind}" for kind in ("PER", "LOC", "ORG") for mark in "BI"))


@dataclass(frozen=True)
class Recipe:
    """Everything that was chosen by hand."""

    d: int = 128
    layers: int = 2
    heads: int = 4
    window: int = 64  # with [CLS] and [SEP]
    steps: int = 1500
    batch_size: int = 32
    lr: float = 1.5e-3
    token_lr: float = 2e-3  # a row of the table is only trained when its character occurs
    weight_decay: float = 0.01
    warmup: float = 0.05
    rate: float = 0.15
    shares: tuple[float, float] = (0.8, 0.1)
    seed: int = 0


@dataclass(frozen=True)
class News:
    """People's Daily without repeated lines; ``lines`` are the numbers of those for training and of those held out."""

    news: NewsSentences
    texts: list[str]
    lines: dict[Part, list[int]]
    vocabulary: CharacterVocabulary
    text: dict[Part, Int[Tensor, " characters"]]

    @property
    def draw_from(self) -> tuple[int, int]:
        """The numbers of the characters, which random replacements are drawn from."""
        return len(SPECIAL), len(self.vocabulary)

    def windows(self, size: int, part: Part = "held") -> Int[Tensor, "batch time"]:
        """One part cut into windows of ``size`` with the [CLS] before and the [SEP] behind each."""
        text = self.text[part]
        return framed(text[: len(text) // (size - 2) * (size - 2)].view(-1, size - 2))


@lru_cache(maxsize=1)
def load_news() -> News:
    """The lines in the order of the paper, in blocks of 200; every tenth block is held out, articles and all.

    Neighbouring lines are of one article, so single lines drawn at random would leave its other lines in training.
    Characters seen twice in training are known.
    """
    news = assets.load_peoples_daily(deduplicate=True)
    texts = news.texts()
    lines: dict[Part, list[int]] = {"train": [], "held": []}
    for i in range(len(texts)):
        lines["held" if i // BLOCK % 10 == 9 else "train"].append(i)
    vocabulary = CharacterVocabulary.learn(texts[i] for i in lines["train"])

    def stream(part: list[int]) -> Tensor:
        return torch.tensor([number for i in part for number in (*vocabulary.encode(texts[i]), SEP)])

    return News(news, texts, lines, vocabulary, {part: stream(rows) for part, rows in lines.items()})


def framed(rows: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time_and_two"]:
    """[CLS] before and [SEP] behind each row."""
    column = torch.ones(len(rows), 1, dtype=rows.dtype)
    return torch.cat([CLS * column, rows, SEP * column], dim=1)


def build(vocabulary: int, recipe: Recipe) -> Encoder:
    """A new model: BERT's parts, started so that minutes are enough.

    BERT's deviation of 0.02 is made for a width of 768: in a narrow model what attention adds would be lost beside the
    stream, so the matrices of the blocks start with 1/√inputs. And positions start as sinusoids, with the heads at
    work looking one and two places to each side, since the code of a place further on is the same code, rotated. A
    large BERT finds neighbours by itself; a small one spends thousands of steps at the loss of counted characters
    before it does.
    """
    torch.manual_seed(recipe.seed)
    config = EncoderConfig(
        vocabulary, recipe.d, recipe.layers, recipe.heads, context=2 * recipe.window, masked_words=True
    )
    model = Encoder(config)
    assert model.words is not None
    for part in (model.blocks, model.words):
        for weight in part.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    with torch.no_grad():
        nn.init.normal_(model.token.weight, std=0.05)
        model.position.table.copy_(0.1 * sinusoidal_positions(len(model.position.table), recipe.d))
        size = recipe.d // recipe.heads
        for attend in _attentions(model):
            for head, offset in zip(range(recipe.heads), OFFSETS):
                rows = slice(head * size, (head + 1) * size)
                attend.qkv.weight[rows] = SHARPNESS * _shift(recipe.d, size, offset)
                attend.qkv.weight[recipe.d :][rows] = SHARPNESS * _shift(recipe.d, size, 0)
    return model


@torch.no_grad()
def start_from_counts(model: Encoder, text: Int[Tensor, " time"]) -> None:
    """Give the token table what can be counted before training: vectors of characters by their neighbours, in place.

    Half of a vector is what a character says of the one behind it, half what of the one before: the singular vectors
    of the positive mutual information of neighbours, which is what word vectors were before BERT. The head's bias
    starts as the characters' log-frequency. Source: Levy and Goldberg, 2014, Neural Word Embedding as Implicit Matrix
    Factorization.
    """
    table, half = model.token.weight, model.config.d // 2
    size = len(table)
    pairs = torch.bincount(text[:-1] * size + text[1:], minlength=size**2).view(size, size).float()
    expected = (pairs.sum(1, keepdim=True) + 1) * (pairs.sum(0, keepdim=True) + 1) / pairs.sum()
    information = (pairs / expected).clamp(min=1).log()
    left, strength, right = torch.svd_lowrank(information, q=half, niter=2)
    vectors = torch.cat([left, right], dim=1) * strength.sqrt().repeat(2)
    table[len(SPECIAL) :] = (0.05 / vectors.std() * vectors)[len(SPECIAL) :]
    counts = (torch.bincount(text, minlength=size) + 1.0).log()
    assert model.words is not None
    model.words.bias.copy_(counts - counts.mean())


def _shift(d: int, size: int, offset: int) -> Float[Tensor, "size d"]:
    """From a place's code to the first ``size`` numbers of the code ``offset`` places further on."""
    angle = offset * 10_000.0 ** (-torch.arange(0, d, 2) / d)
    turn = torch.zeros(d, d)
    even = torch.arange(0, d, 2)
    turn[even, even] = turn[even + 1, even + 1] = angle.cos()
    turn[even, even + 1], turn[even + 1, even] = angle.sin(), -angle.sin()
    return turn[:size]


def make_causal(model: Encoder, causal: bool = True) -> Encoder:
    """Let every token see itself and what came before it, and nothing else; in place. No weight changes."""
    for attend in _attentions(model):
        attend.causal = causal
    return model


def _attentions(model: Encoder) -> list[MultiHeadAttention]:
    return [block.attend for block in model.blocks]  # type: ignore[misc]


def causal_loss(model: Encoder, ids: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of each next token. Only a model made causal has to predict; another one copies."""
    logits = model.word_logits(model(ids[:, :-1]))
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def train(
    news: News, objective: Objective, recipe: Recipe, steps: int | None = None, *, leaky: bool = False
) -> tuple[Encoder, list[float]]:
    """One model and the loss of every step; with ``steps``, only the beginning of the same run.

    ``leaky``: the popular fault, next characters without the causal mask.
    """
    model = make_causal(build(len(news.vocabulary), recipe), objective == "causal" and not leaky)
    start_from_counts(model, news.text["train"])
    table, rest = model.token.weight, [p for p in model.parameters() if p is not model.token.weight]
    groups = [{"params": [table], "lr": recipe.token_lr, "weight_decay": 0.0}]
    groups += decay_groups(rest, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    rates = [group["lr"] for group in optimizer.param_groups]
    draw = torch.Generator().manual_seed(recipe.seed)
    size, text = recipe.window - 2, news.text["train"]
    losses: list[float] = []
    model.train()
    for step in range(recipe.steps if steps is None else steps):
        start = torch.randint(len(text) - size, (recipe.batch_size,), generator=draw)
        ids = framed(text[start[:, None] + torch.arange(size)])
        if objective == "masked":
            loss = masked_word_loss(model, masked(ids, news, draw, recipe.rate, recipe.shares))
        else:
            loss = causal_loss(model, ids)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * warmup_cosine(step, recipe.steps, int(recipe.warmup * recipe.steps))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


def masked(
    ids: Int[Tensor, "batch time"],
    news: News,
    generator: torch.Generator,
    rate: float = 0.15,
    shares: tuple[float, float] = (0.8, 0.1),
) -> Masked:
    """:func:`llmlab.train.mlm.mask_tokens` with this vocabulary: special tokens stay."""
    return mask_tokens(
        ids,
        ids < len(SPECIAL),
        mask_id=MASK,
        draw_from=news.draw_from,
        generator=generator,
        rate=rate,
        shares=shares,
    )


# --- Names, read off frozen states


@torch.no_grad()
def features(
    model: Encoder, news: News, lines: Sequence[int], *, window: int = 64
) -> Float[Tensor, "characters width"]:
    """The states of every character of these lines, one line after the other; nothing of the model changes.

    Those behind the embedding and behind each block stand side by side, since the last ones alone are bent towards the
    guess; so did Devlin et al., 2018, section 5.3, with four layers. Lines longer than a window are read in pieces.
    [CLS] and [SEP] stand around each piece and are left out.
    """
    size = window - 2
    pieces = [row for i in lines for row in _pieces(news.vocabulary.encode(news.texts[i]), size)]
    out: list[Tensor] = [torch.empty(0)] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        width = len(pieces[chosen[-1]])
        ids = torch.full((len(chosen), width + 2), PAD)
        for row, i in enumerate(chosen):
            ids[row, : len(pieces[i]) + 2] = torch.tensor([CLS, *pieces[i], SEP])
        states = _all_states(model, ids)
        for row, i in enumerate(chosen):
            out[i] = states[row, 1 : len(pieces[i]) + 1]
    return torch.cat(out)


def _all_states(model: Encoder, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time width"]:
    kept: list[Tensor] = []
    hooks = [part.register_forward_hook(lambda *call: kept.append(call[-1])) for part in (model.norm, *model.blocks)]
    model(ids, ids != PAD)
    for hook in hooks:
        hook.remove()
    return torch.cat(kept, dim=-1)


def _pieces(row: list[int], size: int) -> list[list[int]]:
    return [row[i : i + size] for i in range(0, len(row), size)]


def tags_of(news: News, lines: Sequence[int]) -> Int[Tensor, " characters"]:
    """The number of each character's gold tag in :data:`TAGS`."""
    number = {tag: i for i, tag in enumerate(TAGS)}
    return torch.tensor([number[t] for i in lines for t in bio_tags(news.news.names(i), len(news.texts[i]))])


def names_in(news: News, lines: Sequence[int], tags: Int[Tensor, " characters"]) -> list[list[tuple[int, int, str]]]:
    """The names that predicted tags spell, line by line."""
    parts = tags.split([len(news.texts[i]) for i in lines])
    return [spans_of([TAGS[t] for t in part.tolist()]) for part in parts]


def ahead(states: Float[Tensor, "characters d"], by: int) -> Float[Tensor, "characters width"]:
    """Each state beside those of the ``by`` characters behind it: a look to the right for a model that has none.

    The last ones repeat themselves. A line's end is not respected, which costs the last character of a line little.
    """
    shifted = [torch.cat([states[i:], states[-1:].expand(i, -1)]) for i in range(by + 1)]
    return torch.cat(shifted, dim=1)


def probe_lines(news: News, train: int = 1500, test: int = 600, seed: int = 0) -> tuple[list[int], list[int]]:
    """Lines to learn the probe from, of the training part, and lines to test it on, of the held-out part."""
    rng = random.Random(seed)
    return (
        rng.sample(news.lines["train"], train),
        rng.sample(news.lines["held"], test),
    )


def tags_by_neighbours(news: News, learn: Sequence[int], test: Sequence[int]) -> Int[Tensor, " characters"]:
    """The plain baseline: softmax regression on each character, the two on either side, and the pairs of those.

    Features seen once are left out. The tags of the test lines, as numbers of :data:`TAGS`.
    """
    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    def rows(lines: Sequence[int]) -> list[list[str]]:
        found = []
        for i in lines:
            padded = f"##{news.texts[i]}##"
            for j in range(len(news.texts[i])):
                near = padded[j : j + 5]
                found.append([f"{k}{near[k]}" for k in range(5)] + [f"{k}{near[k : k + 2]}" for k in range(4)])
        return found

    def matrix(rows: list[list[str]]) -> csr_matrix:
        ends, places = [0], []
        for row in rows:
            places += [number[name] for name in row if name in number]
            ends.append(len(places))
        ones = np.ones(len(places), dtype=np.float32)
        return csr_matrix((ones, places, ends), shape=(len(rows), len(number)))

    known = rows(learn)
    counts = Counter(name for row in known for name in row)
    number = {name: i for i, name in enumerate(name for name, count in counts.items() if count > 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 60 rounds are enough for the third digit
        model = LogisticRegression(max_iter=60).fit(matrix(known), tags_of(news, learn).numpy())
    return torch.from_numpy(model.predict(matrix(rows(test))))


# --- Blanks


def word_numbers(news: News, part: Part = "held") -> Int[Tensor, " characters"]:
    """The number of each character's gold word, counted through the part; the [SEP] behind a line is a word alone."""
    sentences = news.news.words()
    lengths = [len(word) for i in news.lines[part] for word in (*sentences[i], "/")]
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))


class Blanks(NamedTuple):
    """Windows with one blank each: ``size`` characters from column ``at``, and the characters that stood there."""

    ids: Int[Tensor, "n time"]
    at: Int[Tensor, " n"]
    labels: Int[Tensor, "n size"]


def make_blanks(news: News, size: int | None = None, *, window: int = 64, count: int = 1500, seed: int = 0) -> Blanks:
    """Held-out windows with something taken out, as [MASK].

    Args:
        size: blank a whole gold word of so many characters; None: any one character.
        window: with [CLS] and [SEP].
        count: of windows, at most; a window without such a word is left out.
    """
    draw, ids = random.Random(seed), news.windows(window)
    words = word_numbers(news)[: len(ids) * (window - 2)].view(len(ids), -1).tolist()
    rows: list[Tensor] = []
    at: list[int] = []
    labels: list[Tensor] = []
    for row in draw.sample(range(len(ids)), len(ids)):
        places = []
        for column, word in enumerate(words[row], 1):
            length = words[row].count(word) if size else 1
            starts = not size or (column == 1 or words[row][column - 2] != word)
            if ids[row, column] >= len(SPECIAL) and starts and length == (size or 1) and 2 < column < window - 4:
                places.append(column)
        if places and len(rows) < count:
            place = draw.choice(places)
            labels.append(ids[row, place : place + (size or 1)].clone())
            rows.append(ids[row].clone())
            rows[-1][place : place + (size or 1)] = MASK
            at.append(place)
    return Blanks(torch.stack(rows), torch.tensor(at), torch.stack(labels))


@torch.no_grad()
def guesses(model: Encoder, ids: Int[Tensor, "n time"], at: Int[Tensor, " n"]) -> Float[Tensor, "n vocabulary"]:
    """Log-probabilities at one column of each row. A causal model is asked at the column before, where it stands."""
    causal = _attentions(model)[0].causal
    rows = torch.arange(len(ids))
    out = [
        model.word_logits(model(ids[part])[torch.arange(len(part)), at[part] - int(causal)]).log_softmax(-1)
        for part in rows.split(128)
    ]
    return torch.cat(out)


# --- Pairs of paragraphs


@torch.no_grad()
def line_vectors(model: Encoder, news: News, lines: Sequence[int], *, window: int = 64) -> Float[Tensor, "lines d"]:
    """The mean state of the first characters of each line, one line after the other."""
    rows = [news.vocabulary.encode(news.texts[i])[: window - 2] for i in lines]
    out = torch.empty(len(rows), model.config.d)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        ids = torch.full((len(chosen), len(rows[chosen[-1]]) + 2), PAD)
        for k, i in enumerate(chosen):
            ids[k, : len(rows[i]) + 2] = torch.tensor([CLS, *rows[i], SEP])
        out[chosen] = masked_mean(model(ids, ids != PAD), ids >= len(SPECIAL))
    return out


def pair_features(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, "n four_d"]:
    """Both vectors, their distance and their product, by which a linear probe can compare them."""
    return torch.cat([first, second, (first - second).abs(), first * second], dim=1)


def line_pairs(news: News, part: Part, count: int, seed: int = 0) -> tuple[list[int], list[int], list[int]]:
    """Lines, the lines that follow them in the paper, and lines from elsewhere: at least 400 lines away.

    Both lines of a pair have 15 characters or more, so that headings and by-lines, whose place is no riddle, are out.
    """
    draw, lines = random.Random(seed), news.lines[part]
    long = {i for i in lines if len(news.texts[i]) >= 15}
    first = draw.sample([i for i in lines if i in long and i + 1 in long], count)
    pool = sorted(long)
    elsewhere = [next(j for j in iter(lambda: draw.choice(pool), None) if abs(i - j) >= 400) for i in first]
    return first, [i + 1 for i in first], elsewhere


# --- What is made


def load_twin(objective: Objective) -> Encoder:
    """A shipped model: "masked" fills blanks, "causal" tells the next character and is causal already.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    name = {"masked": "bert_mlm", "causal": "bert_causal"}[objective]
    chosen: dict[str, Any] = read_record(name)["recipe"]
    recipe = Recipe(**chosen)
    state = read_weights(name)
    model = build(len(state["token.weight"]), recipe)
    model.load_state_dict(state)
    return make_causal(model, objective == "causal").eval()


@torch.no_grad()
def held_loss(model: Encoder, news: News, objective: Objective, recipe: Recipe) -> tuple[float, float]:
    """Mean loss in nats and share of right guesses on the held-out windows: of 15 % blanks, or of all next tokens."""
    windows, draw = news.windows(recipe.window), torch.Generator().manual_seed(1)
    total, right, count = 0.0, 0, 0
    for part in windows.split(128):
        if objective == "masked":
            batch = masked(part, news, draw, shares=(1.0, 0.0))
            chosen = batch.labels != IGNORED
            logits, labels = model.word_logits(model(batch.inputs)[chosen]), batch.labels[chosen]
        else:
            logits, labels = model.word_logits(model(part[:, :-1])).flatten(0, 1), part[:, 1:].flatten()
        total += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(-1) == labels).sum())
        count += len(labels)
    return total / count, right / count


def main(name: str) -> None:
    """Train, measure, write."""
    runtime.setup(seed=0, threads=1)
    news = load_news()
    {"bert_mlm": _twin, "bert_causal": _twin, "bert_rates": _rates}[name](name, news)


def _twin(name: str, news: News, recipe: Recipe | None = None) -> None:
    recipe, began = recipe or Recipe(), time.process_time()
    objective: Objective = "masked" if name == "bert_mlm" else "causal"
    model, losses = train(news, objective, recipe)
    seconds = time.process_time() - began
    model = model.half().float()  # what is described is what is shipped
    loss, right = held_loss(model, news, objective, recipe)
    print(f"{name}: held-out loss {loss:.4f}, right {right:.4f}, {seconds:.0f} s", flush=True)
    record = _described(news, recipe) | {
        "objective": objective,
        "held": {"loss": round(loss, 4), "accuracy": round(right, 4)},
        "first_losses": [round(x, 4) for x in losses[:8]],
        "train_loss": [round(sum(losses[i : i + 50]) / 50, 4) for i in range(0, len(losses), 50)],
        "train_loss_steps_a_point": 50,
        "cpu_seconds": round(seconds),
    }
    print(write_checkpoint(model.state_dict(), name, record))


def _described(news: News, recipe: Recipe) -> dict[str, Any]:
    lines = {f"{part} lines": len(rows) for part, rows in news.lines.items()}
    characters = {f"{part} characters": len(text) for part, text in news.text.items()}
    return {
        "recipe": asdict(recipe),
        "data": {"asset": "peoples_daily", "deduplicated": True, "vocabulary": len(news.vocabulary)}
        | lines
        | characters,
    }


#: What bert_rates trains: the share that is predicted, and which of those become [MASK] and a random character.
RATES = {
    "5 %": {"rate": 0.05},
    "15 %": {},
    "40 %": {"rate": 0.40},
    "15 %, always [MASK]": {"shares": (1.0, 0.0)},
}


def _rates(name: str, news: News) -> None:
    short, began, runs = replace(Recipe(), steps=400), time.process_time(), []
    learn, test = probe_lines(news, train=800, test=400)
    labels = tags_of(news, learn)
    gold = [news.news.names(i) for i in test]
    for what, changes in RATES.items():
        for seed in (0, 1):
            model, losses = train(news, "masked", replace(short, seed=seed, **changes))  # type: ignore[arg-type]
            loss, right = held_loss(model, news, "masked", short)
            probe = LinearProbe(rounds=60).fit(features(model, news, learn), labels, len(TAGS))
            score = score_spans(gold, names_in(news, test, probe.predict(features(model, news, test))))
            print(f"{what}, seed {seed}: loss {loss:.4f}, right {right:.4f}, names {score.f1:.4f}", flush=True)
            runs.append(
                {
                    "masked": what,
                    "seed": seed,
                    "held_loss_of_15_percent_blanks": round(loss, 4),
                    "accuracy": round(right, 4),
                    "names_f1": round(score.f1, 4),
                    "first_losses": [round(x, 4) for x in losses[:8]],
                }
            )
    record = _described(news, short) | {"runs": runs, "cpu_seconds": round(time.process_time() - began)}
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
