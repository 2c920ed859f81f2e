"""What the steps of a cleaning pipeline do to a small language model: the records of notebook 42.

``python -m llmlab.recipes.data_pipeline NAME`` writes one of two JSON files into the package:

- ``data_pipeline``: one small model, trained on as many characters of a dirty mixture after each step alone, after all
  of them, and after all with fresh text put in (about 3 minutes, one thread);
- ``data_mixing``: the same model on reviews and news in five proportions, and on few reviews, repeated or augmented
  (about 2 minutes).

What is real in the mixture: the reviews with all their repeats, the English, the news. What is made up: the templates
of the web pages around them, the damage, and the leak.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from llmlab import assets, runtime
from llmlab.models.decoder import Decoder, DecoderConfig
from llmlab.tasks.classify.checkpoints import FOLDER
from llmlab.text import NgramBayes, NgramIndex, failures, near_duplicates
from llmlab.text.dedup import exact_duplicates
from llmlab.text.quality import SHORT_CHINESE
from llmlab.train import History, fit

__all__ = ["STEPS", "Document", "augmented", "dirty_mixture", "kept_by", "language_model", "train_on", "vocabulary"]

CONTEXT, BUDGET, SEEDS = 64, 200_000, 3
POOL, HELD, LEAKED, COPIES = 1800, 500, 150, 6


@dataclass(frozen=True)
class Document:
    """A text and where it came from: "review", "leak", "english", "template" or "damage"."""

    text: str
    origin: str


# --- the mixture

_TEMPLATES = (
    "版权所有 © {year} 某某旅行网 保留一切权利 备案号 {number} 关于我们 | 联系我们 | 招聘信息 | 网站地图 | 友情链接",
    "您的位置：首页 > 酒店 > 城市{number} > 点评列表 第{small}页 上一页 下一页 尾页 共{page}页 每页显示10条",
    "本网站使用Cookie以改善您的体验，继续浏览即表示您同意我们于{year}年{small}月更新的隐私政策。编号{number}",
    "订单{number}已于{year}年{small}月{day}日发货，请注意查收。如有疑问请致电客服，工作时间9:00至18:00。",
    "【促销】{year}年{small}月大促，全场满{page}减{day}，先到先得，点击立即抢购！活动编号{number}",
    "该用户于{year}-{small}-{day}发表了点评 有用({page}) 回复({day}) 举报 收藏 分享到微博 楼层{small}",
)


def _template(rng: random.Random) -> str:
    pattern = rng.choice(_TEMPLATES)
    return pattern.format(
        year=rng.randint(2003, 2009),
        small=rng.randint(1, 12),
        day=rng.randint(1, 28),
        page=rng.randint(10, 999),
        number=rng.randint(10_000, 99_999),
    )


def _damaged(text: str, rng: random.Random) -> str:
    """What happens to text on the way: wrong decoding, entities, a stuck key, a column of figures."""
    kind = rng.randrange(4)
    if kind == 0:
        return text.encode().decode("latin-1")
    if kind == 1:
        return "".join(f"&#{ord(c)};" for c in text[:30])
    if kind == 2:
        return text[:4] * 15
    return " ".join(f"{rng.randint(1, 99999)}.{rng.randint(0, 99):02d}" for _ in range(12)) + " ￥ | "


@lru_cache(maxsize=1)
def review_parts() -> dict[str, list[str]]:
    """Distinct reviews, shuffled: ``held`` (never trained on), ``leaked`` (planted), ``pool``, ``fresh`` (the rest)."""
    texts = list(dict.fromkeys(text.strip() for text in assets.load_reviews(deduplicate=False).texts))
    texts = [text for text in texts if 12 <= len(text) <= 300]
    random.Random(0).shuffle(texts)
    cuts = [0, HELD, HELD + LEAKED, HELD + LEAKED + POOL, len(texts)]
    return {name: texts[a:b] for name, a, b in zip(("held", "leaked", "pool", "fresh"), cuts, cuts[1:])}


@lru_cache(maxsize=1)
def dirty_mixture() -> tuple[Document, ...]:
    """The raw corpus, shuffled: what a crawl of a review site might bring, made of real texts and made-up dirt.

    The reviews come as often as they really stand in the files. To them are added English snippets, pages made from six
    templates, damaged reviews, and every leaked test review in six copies, half of them with a character changed.
    """
    rng = random.Random(1)
    parts = review_parts()
    times = Counter(text.strip() for text in assets.load_reviews(deduplicate=False).texts)
    out = [Document(text, "review") for text in parts["pool"] for _ in range(times[text])]
    english = [*assets.load_vader("amazon").texts, *assets.load_vader("movies").texts]
    out += [Document(text, "english") for text in rng.sample(english, 700)]
    out += [Document(_template(rng), "template") for _ in range(1100)]
    out += [Document(_damaged(rng.choice(parts["pool"]), rng), "damage") for _ in range(550)]
    for text in parts["leaked"]:
        place = rng.randrange(len(text))
        edited = text[:place] + "的" + text[place + 1 :]
        out += [Document(copy, "leak") for copy in (text, edited) for _ in range(COPIES // 2)]
    rng.shuffle(out)
    return tuple(out)


# --- the steps


@lru_cache(maxsize=1)
def language_model() -> NgramBayes:
    """Chinese against ten other languages: 2,000 lines of news, and the conversations."""
    news = assets.load_peoples_daily().texts()[:2000]
    texts, labels = list(news), ["chinese"] * len(news)
    for language, lines in assets.load_conversations().items():
        texts += lines
        labels += [language] * len(lines)
    return NgramBayes(low=1, high=2).fit(texts, labels)


def _language(texts: Sequence[str]) -> list[int]:
    labels = language_model().predict(texts)
    return [i for i, label in enumerate(labels) if label == "chinese"]


def _quality(texts: Sequence[str]) -> list[int]:
    return [i for i, text in enumerate(texts) if not failures(text, SHORT_CHINESE, "characters")]


def _exact(texts: Sequence[str]) -> list[int]:
    later = {i for group in exact_duplicates(texts) for i in group[1:]}
    return [i for i in range(len(texts)) if i not in later]


def _near(texts: Sequence[str]) -> list[int]:
    return near_duplicates(texts, 0.6, n=3).kept()


def _decontaminated(texts: Sequence[str]) -> list[int]:
    """Without what shares 13 characters in a row with a test text."""
    test = NgramIndex([*review_parts()["leaked"], *review_parts()["held"]], n=13, unit="characters")
    return [i for i, text in enumerate(texts) if not test.overlap(text).longest]


#: name -> the numbers of the texts that stay.
STEPS: dict[str, Callable[[Sequence[str]], list[int]]] = {
    "language": _language,
    "quality": _quality,
    "exact": _exact,
    "near": _near,
    "decontaminate": _decontaminated,
}


def kept_by(steps: Sequence[str], documents: Sequence[Document] | None = None) -> list[list[Document]]:
    """The corpus before and after each of ``steps``, one after another.

    Raises:
        ValueError: no such step.
    """
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise ValueError(f"steps {unknown}: expected some of {', '.join(STEPS)}")
    stages = [list(dirty_mixture() if documents is None else documents)]
    for step in steps:
        now = stages[-1]
        stages.append([now[i] for i in STEPS[step]([document.text for document in now])])
    return stages


# --- the model


@lru_cache(maxsize=1)
def vocabulary() -> dict[str, int]:
    """Character -> number, the same for all runs: what occurs 30 times or more in the mixture, reviews and news."""
    texts = [document.text for document in dirty_mixture()] + review_parts()["fresh"][:3000]
    counts = Counter("".join(texts + assets.load_peoples_daily().texts()[:4000]))
    return {c: i + 2 for i, c in enumerate(sorted(c for c, n in counts.items() if n >= 30))}


def windows(texts: Sequence[str]) -> Int[Tensor, "windows time_and_one"]:
    """The texts one after another, 1 between them and 0 for rare characters, cut into windows of 65."""
    number = vocabulary()
    ids = [i for text in texts for i in (1, *(number.get(c, 0) for c in text))]
    return torch.tensor(ids[: (len(ids) - 1) // CONTEXT * CONTEXT + 1]).unfold(0, CONTEXT + 1, CONTEXT)


def stream(texts: Sequence[str], seed: int, budget: int = BUDGET) -> list[str]:
    """``budget`` characters of ``texts`` in random order, all of them before any comes again."""
    rng, out, length = random.Random(seed), [], 0
    while length < budget:
        order = list(texts)
        rng.shuffle(order)
        for text in order:
            out.append(text)
            length += len(text) + 1
            if length >= budget:
                break
    return out


def train_on(
    texts: Sequence[str], seed: int, *, budget: int = BUDGET, max_steps: int | None = None
) -> tuple[Decoder, History, list[str]]:
    """A new model (a layer of width 64) on ``budget`` characters of ``texts``; what it has read comes back too."""
    read = stream(texts, seed, budget)
    rows = windows(read)
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"d": 64, "layers": 1, "heads": 4, "hidden": 128, "context": CONTEXT, "tied": False}
    model = Decoder(DecoderConfig(len(vocabulary()) + 2, **sizes))
    history = fit(
        model,
        lambda batch: model.loss(rows[batch]),
        [CONTEXT] * len(rows),
        epochs=1,
        batch_size=4,
        lr=2e-3,  # at 5e-3 the seeds differ by more than the corpora
        seed=seed,
        max_steps=max_steps,
    )
    return model, history, read


@torch.inference_mode()
def loss_on(model: Decoder, texts: Sequence[str]) -> float:
    """Mean loss in nats a character."""
    rows = windows(texts)
    return float(sum(model.loss(part) * len(part) for part in rows.split(128)) / len(rows))


def corpora() -> dict[str, list[str]]:
    """What each run reads: the mixture as it is, after each step alone, after the steps one by one in their order, and
    after all with as many fresh reviews as it can read, which stand for a crawl that goes on."""
    found = {"raw": dirty_mixture()} | {step: tuple(kept_by([step])[-1]) for step in STEPS}
    stages = kept_by(list(STEPS))
    names = ("language + quality", "... + exact", "... + near", "all")
    found |= {name: tuple(stage) for name, stage in zip(names, stages[2:], strict=True)}
    texts = {name: [document.text for document in documents] for name, documents in found.items()}
    return texts | {"all + fresh": texts["all"] + review_parts()["fresh"]}


def record_pipeline() -> dict[str, Any]:
    """Every corpus, three seeds each; losses on clean held-out reviews, and on the leaked ones.

    ``review_share`` is what part of the characters read are reviews, repeats and leaked ones among them.
    """
    parts, runs = review_parts(), []
    reviews = {document.text for document in dirty_mixture() if document.origin in ("review", "leak")}
    reviews |= set(parts["fresh"])
    for name, texts in corpora().items():
        for seed in range(SEEDS):
            model, history, read = train_on(texts, seed)
            run = {
                "corpus": name,
                "seed": seed,
                "held": round(loss_on(model, parts["held"]), 4),
                "leaked": round(loss_on(model, parts["leaked"]), 4),
                "review_share": round(sum(len(t) for t in read if t in reviews) / sum(map(len, read)), 4),
                "different_review_characters": sum(map(len, reviews & set(read))),
                "first_losses": [round(x, 4) for x in history.losses[:8]],
            }
            print(run, flush=True)
            runs.append(run)
    sizes = {name: {"texts": len(texts), "characters": sum(map(len, texts))} for name, texts in corpora().items()}
    return {"runs": runs, "sizes": sizes, "budget": BUDGET, "vocabulary": len(vocabulary()) + 2}


# --- mixtures, and what is called diversity

SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)
FEW = 400


def augmented(text: str, rng: random.Random, share: float = 0.1) -> str:
    """A tenth of the characters swapped with a neighbour, deleted or doubled, as augmenters for classifiers do it.

    Source: Wei and Zou, 2019, EDA (arXiv:1901.11196), with characters for words and without synonyms.
    """
    out = list(text)
    for _ in range(max(1, round(share * len(text)))):
        place = rng.randrange(len(out))
        action = rng.randrange(3)
        if action == 0 and place + 1 < len(out):
            out[place], out[place + 1] = out[place + 1], out[place]
        elif action == 1 and len(out) > 1:
            del out[place]
        else:
            out.insert(place, out[rng.randrange(len(out))])
    return "".join(out)


def mixed(share: float, seed: int) -> list[str]:
    """``BUDGET`` characters, ``share`` of them reviews and the rest news, shuffled."""
    news = [text for text in dict.fromkeys(assets.load_peoples_daily().texts()[1000:]) if len(text) >= 12]
    reviews = review_parts()["fresh"]
    texts: list[str] = []
    for source, part in ((reviews, share), (news, 1 - share)):
        if part > 0:
            texts += stream(source, seed, round(part * BUDGET))
    random.Random(seed).shuffle(texts)
    return texts


def news_held() -> list[str]:
    """News that no run reads: the first 300 lines."""
    return [text for text in assets.load_peoples_daily().texts()[:300] if len(text) >= 12]


def repeated(kind: str, seed: int) -> list[str]:
    """``FEW`` reviews again and again: "repeated" as they are, or "augmented" anew each time."""
    few, rng = review_parts()["fresh"][:FEW], random.Random(seed)
    return [augmented(text, rng) if kind == "augmented" else text for text in stream(few, seed)]


def _mixing_runs() -> Iterator[tuple[str, float, int, list[str]]]:
    for share in SHARES:
        for seed in range(SEEDS if share == 1 else 2):
            yield "mixture", share, seed, mixed(share, seed)
    for kind in ("repeated", "augmented"):
        for seed in range(SEEDS):
            yield kind, 1.0, seed, repeated(kind, seed)


def record_mixing() -> dict[str, Any]:
    """Every proportion with two seeds (reviews alone with three), both ways to repeat with three."""
    runs = []
    for kind, share, seed, texts in _mixing_runs():
        model, history, read = train_on(texts, seed)
        run = {
            "kind": kind,
            "reviews": share,
            "seed": seed,
            "held_reviews": round(loss_on(model, review_parts()["held"]), 4),
            "held_news": round(loss_on(model, news_held()), 4),
            "distinct_texts": len(set(read)),
            "train": round(sum(history.losses[-100:]) / 100, 4),
        }
        print(run, flush=True)
        runs.append(run)
    return {"runs": runs, "budget": BUDGET, "few": FEW}


def main(name: str) -> None:
    """Make one of the two."""
    made = {"data_pipeline": record_pipeline, "data_mixing": record_mixing}
    if name not in made:
        raise SystemExit(f"{name!r}: expected one of {', '.join(made)}")
    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    record = made[name]()
    record["cpu_seconds"] = round(time.process_time() - began)
    record["made_with"] = {"torch": torch.__version__.partition("+")[0]}
    (FOLDER / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
