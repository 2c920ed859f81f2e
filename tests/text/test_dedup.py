"""Duplicates against brute force over exact Jaccard similarities."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import assets
from llmlab.text import MinHash, exact_duplicates, jaccard, near_duplicates, shingles
from llmlab.text.dedup import UnionFind, candidate_pairs, clusters, estimated_jaccard, lsh_threshold, s_curve


@cache
def reviews():
    try:
        return assets.load_reviews(deduplicate=False).texts
    except assets.AssetMissing as error:
        pytest.skip(str(error))


@cache
def edited(texts=24, steps=12):
    """Texts and ever more edited copies: similarities of every size."""
    rng = np.random.default_rng(1)
    letters = [chr(c) for c in range(0x4E00, 0x4E00 + 500)]
    out = []
    for _ in range(texts):
        text = list(rng.choice(letters, 60))
        for _ in range(steps):
            out.append("".join(text))
            text[rng.integers(60)] = str(rng.choice(letters))
    return out


def test_exact_duplicates():
    assert exact_duplicates(["a", "b", " a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
    assert exact_duplicates(["A", "a"], key=str.lower) == [[0, 1]] and exact_duplicates(["A", "a"]) == []


def test_shingles_by_hand():
    assert shingles("abcd", 3) == {"abc", "bcd"} and shingles("ab", 3) == {"ab"} and shingles("", 3) == set()
    assert shingles("abab", 1) == {"a", "b"} and shingles("abcdefg") == {"abcde", "bcdef", "cdefg"}
    assert jaccard(shingles("abcd", 3), shingles("abce", 3)) == 1 / 3
    assert jaccard(frozenset(), frozenset()) == 1 and jaccard(frozenset("a"), frozenset()) == 0
    with pytest.raises(ValueError, match="n=0"):
        shingles("abc", 0)


def test_signatures_estimate_the_similarity_without_bias():
    texts = edited()
    signatures = MinHash(256, 3, seed=5).signatures(texts)
    pairs = [(i, j) for i, j in combinations(range(len(texts)), 2) if j - i < 12]
    exact = np.array([jaccard(shingles(texts[i], 3), shingles(texts[j], 3)) for i, j in pairs])
    estimate = np.array([estimated_jaccard(signatures[i], signatures[j]) for i, j in pairs])
    inside = (exact > 0.02) & (exact < 0.98)
    error = (estimate - exact)[inside] / np.sqrt(exact * (1 - exact) / 256)[inside]
    assert inside.sum() > 500
    assert abs(error.mean()) < 0.3 and 0.8 < error.std() < 1.2, (error.mean(), error.std())


def test_signatures_are_the_same_everywhere():
    """In every process and on every system, or a signature that was kept is worth nothing: so these are written down."""
    known = [[1956367642, 180282522, 1962360668, 846474088], [2**32 - 1] * 4]
    assert MinHash(4, 3, seed=0).signatures(["中文文本", ""]).tolist() == known
    rows = MinHash(64, 3).signatures(["", "", "x"])
    assert rows.dtype == np.uint32, "half the memory of what numpy takes by itself"
    assert (rows[0] == rows[1]).all() and not (rows[0] == rows[2]).any()


def test_pairs_meet_as_often_as_the_s_curve_says():
    """Same texts, 60 seeds: the share of seeds in which a pair meets, against 1 - (1 - s^r)^b."""
    texts = edited(6, 12)
    pairs = [(i, j) for i, j in combinations(range(len(texts)), 2) if j - i < 12]
    met = dict.fromkeys(pairs, 0)
    for seed in range(60):
        for pair in candidate_pairs(MinHash(24, 3, seed).signatures(texts), bands=8) & met.keys():
            met[pair] += 1
    exact = np.array([jaccard(shingles(texts[i], 3), shingles(texts[j], 3)) for i, j in pairs])
    share, curve = np.array(list(met.values())) / 60, s_curve(exact, 8, 3)
    for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)):
        inside = (exact >= low) & (exact < high)
        assert inside.sum() > 5
        assert abs(share[inside].mean() - curve[inside].mean()) < 0.06, (
            low,
            share[inside].mean(),
            curve[inside].mean(),
        )


def test_the_s_curve_by_hand():
    assert s_curve(0.5, 2, 1) == pytest.approx(0.75) and s_curve(0.5, 1, 2) == pytest.approx(0.25)
    assert lsh_threshold(16, 4) == pytest.approx(0.5)
    assert s_curve(0.7, 32, 4) == pytest.approx(1 - 0.0002, abs=1e-4)


def brute_force(texts, threshold, n):
    grams = [shingles(text, n) for text in texts]
    return {(i, j): s for i, j in combinations(range(len(texts)), 2) if (s := jaccard(grams[i], grams[j])) >= threshold}


@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_near_duplicates_are_those_of_brute_force(threshold):
    texts = list(dict.fromkeys(edited(20, 10)))
    wanted = brute_force(texts, threshold, 3)
    found = near_duplicates(texts, threshold, n=3, bands=64, rows=3)
    assert len(wanted) > 50
    assert found.pairs == wanted and found.candidates >= len(wanted)
    assert found.clusters == clusters(len(texts), wanted)


def test_near_duplicates_of_real_reviews_are_those_of_brute_force():
    texts = list(dict.fromkeys(text.strip() for text in reviews() if text.strip()))[:300]
    texts += [text[:-2] + "。" for text in texts if len(text) > 60][:50]
    wanted = brute_force(texts, 0.7, 5)
    found = near_duplicates(texts)
    assert len(wanted) >= 30 and found.pairs == wanted


@pytest.mark.slow
def test_the_reviews_hold_what_the_notes_say():
    found = near_duplicates(reviews())
    assert (found.texts, found.distinct, len(found.pairs)) == (35124, 17411, 68)
    assert len(found.kept()) == 17347


def test_short_texts_are_not_eaten():
    """Different words are different texts, however short; a deduplicator that gives them no shingles joins them all."""
    found = near_duplicates(["好", "差", "不错", "很好", "好", "", " ", "不错!"])
    assert found.clusters == [[0, 4], [5, 6]] and found.distinct == 6
    assert found.kept() == [0, 1, 2, 3, 5, 7]


def test_a_threshold_of_one_keeps_what_has_all_shingles_in_common():
    """The same set in another number or order is similar to 1, and no pair of equal texts is one of these."""
    found = near_duplicates(["abababab", "ababababab", "ababababx", "abababab"], 1, n=2)
    assert found.clusters == [[0, 1, 3]] and found.pairs == {(0, 1): 1.0}


def test_a_key_decides_what_is_equal_and_the_first_stays():
    found = near_duplicates(["Good Book, very good", "x", "good book, very good!"], key=str.lower)
    assert found.clusters == [[0, 2]] and list(found.pairs) == [(0, 2)]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.data())
def test_clusters_are_connected_components(size, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=40))
    group = list(range(size))
    for _ in range(size):
        for a, b in pairs:
            group[a] = group[b] = min(group[a], group[b])
    wanted = [[i for i in range(size) if group[i] == g] for g in range(size)]
    assert clusters(size, pairs) == [members for members in wanted if len(members) > 1]


def test_union_find_of_a_long_chain():
    groups = UnionFind(50_000)
    for i in reversed(range(49_999)):
        groups.union(i, i + 1)
    assert groups.find(49_999) == groups.find(0) == 0


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="threshold=1.5: expected a similarity"):
        near_duplicates(["a"], 1.5)
    with pytest.raises(ValueError, match="bands=3: expected a divisor of the 8 places"):
        candidate_pairs(MinHash(8).signatures(["abc"]), 3)
    with pytest.raises(ValueError, match="size=0"):
        MinHash(0)
