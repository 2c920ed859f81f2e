"""Chinese words against jieba, against brute force, and against the hand-cut People's Daily."""

import math
import re
import warnings
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import assets
from llmlab.text import UnigramSegmenter, count_words, maximum_match, score_segmentation
from llmlab.text.segment import Score, disagreements

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jieba
jieba.setLogLevel("ERROR")

COUNTS = {"研究": 5, "研究生": 3, "生命": 4, "起源": 2, "的": 20, "生": 1, "命": 1}


@cache
def news():
    """(training, test) sentences of gold words: nine tenths and one tenth, each sentence once."""
    try:
        words = assets.load_peoples_daily(deduplicate=True).words()
    except assets.AssetMissing as error:
        pytest.skip(str(error))
    return words[: len(words) * 9 // 10], words[len(words) * 9 // 10 :]


def test_maximum_matching_from_both_sides():
    assert maximum_match("研究生命的起源", COUNTS) == ["研究生", "命", "的", "起源"]
    assert maximum_match("研究生命的起源", COUNTS, backward=True) == ["研究", "生命", "的", "起源"]
    assert maximum_match("研究生", COUNTS, longest=2) == ["研究", "生"]
    assert maximum_match("", COUNTS) == [] and maximum_match("abc", set()) == ["a", "b", "c"]


def test_the_best_path_beats_the_longest_word():
    assert UnigramSegmenter(COUNTS).segment("研究生命的起源") == ["研究", "生命", "的", "起源"]
    assert UnigramSegmenter(COUNTS).segment("") == []


def cuts(text):
    """Every way to cut ``text``."""
    for ends in product([False, True], repeat=len(text) - 1):
        words, start = [], 0
        for place, end in enumerate([*ends, True], 1):
            if end:
                words.append(text[start:place])
                start = place
        yield words


@settings(max_examples=80, deadline=None)
@given(st.text("研究生命的x", min_size=1, max_size=9), st.dictionaries(st.text("研究生命的", min_size=1, max_size=4), st.integers(1, 50), min_size=1))  # fmt: skip
def test_no_cut_is_more_probable(text, counts):
    total = sum(counts.values())

    def log_probability(words):
        if any(len(word) > 1 and word not in counts for word in words):
            return -math.inf
        return sum(math.log(counts.get(word, 1) / total) for word in words)

    found = UnigramSegmenter(counts).segment(text)
    assert "".join(found) == text
    assert log_probability(found) == pytest.approx(max(map(log_probability, cuts(text))))


def test_with_jiebas_dictionary_it_cuts_as_jieba():
    _, test = news()
    jieba.initialize()
    ours = UnigramSegmenter(jieba.dt.FREQ)
    blocks = [block for row in test[:300] for block in re.findall("[\u4e00-\u9fd5]+", "".join(row))]
    assert len(blocks) > 2000
    assert [ours.segment(block) for block in blocks] == [jieba.lcut(block, HMM=False) for block in blocks]


def test_scores_on_peoples_daily():
    """Each step of the dictionary's use gains, and jieba, of another convention, is behind a dictionary of this paper."""
    train, test = news()
    counts, test = count_words(train), test[:400]
    texts = ["".join(row) for row in test]
    ours, longest = UnigramSegmenter(counts), max(map(len, counts))
    scores = {
        "characters": score_segmentation(test, list(map(list, texts)), counts),
        "forward": score_segmentation(test, [maximum_match(t, counts, longest=longest) for t in texts], counts),
        "unigram": score_segmentation(test, [ours.segment(t) for t in texts], counts),
        "jieba": score_segmentation(test, [jieba.lcut(t) for t in texts], counts),
    }
    f1 = {name: score.f1 for name, score in scores.items()}
    assert f1["characters"] < 0.45 and 0.75 < f1["jieba"] < 0.85, f1
    assert f1["jieba"] + 0.05 < f1["forward"] < f1["unigram"] - 0.005, f1
    unseen = {name: score.unseen_recall for name, score in scores.items()}
    assert unseen["unigram"] < 0.05 and unseen["jieba"] > 0.5, "ours knows no new words"
    assert score_segmentation(test, test, counts).f1 == 1


def test_the_score_by_hand():
    score = score_segmentation([["ab", "c"], ["d", "e"]], [["a", "b", "c"], ["de"]], known={"c", "d", "e"})
    assert (score.precision, score.recall, score.f1) == (1 / 4, 1 / 4, 1 / 4)
    assert (score.unseen_recall, score.unseen) == (0, 1 / 4)
    assert score_segmentation([["ab"]], [["ab"]], known=()) == Score(1, 1, 1, 1, 1), "one word, unseen and right"
    one = score_segmentation([["ab", "c", "d"]], [["ab", "cd"]])
    assert (one.precision, one.recall) == (1 / 2, 1 / 3) and one.f1 == pytest.approx(2 / 5)
    assert math.isnan(one.unseen_recall)


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="1 gold sentences, 2 found"):
        score_segmentation([["a"]], [["a"], ["b"]])
    with pytest.raises(ValueError, match="sentence 1 is 'bc' in gold, 'b' found"):
        score_segmentation([["a"], ["bc"]], [["a"], ["b"]])
    with pytest.raises(ValueError, match="counts is empty"):
        UnigramSegmenter({})
    assert UnigramSegmenter({"a": 1, "bb": 0}).segment("bba") == ["b", "b", "a"]


def test_disagreements_by_hand():
    gold, found = ["研究", "生命", "的", "起源", "一", "年"], ["研究生", "命", "的", "起", "源", "一年"]
    assert [(d.text, d.kind) for d in disagreements(gold, found)] == [
        ("研究生命", "crosses"),
        ("起源", "joins"),
        ("一年", "splits"),
    ]
    assert disagreements(gold, found)[0].second == ("研究生", "命")
    assert disagreements(gold, gold) == [] == disagreements([], [])
    with pytest.raises(ValueError, match="not the same sentence"):
        disagreements(["a"], ["b"])


@settings(max_examples=100, deadline=None)
@given(st.text("研究生命x", min_size=1, max_size=8), st.data())
def test_a_disagreement_is_what_the_score_does_not_count(text, data):
    """Words that both have, and the words within disagreements, are all words."""
    first, second = (data.draw(st.sampled_from(list(cuts(text)))) for _ in range(2))
    found = disagreements(first, second)
    right = round(score_segmentation([first], [second]).recall * len(first))
    assert right == len(first) - sum(len(d.first) for d in found)
    assert all("".join(d.first) == "".join(d.second) == d.text for d in found)
    assert all((d.first == (d.text,)) == (d.kind == "joins") for d in found)
