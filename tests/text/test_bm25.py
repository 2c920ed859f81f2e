"""BM25 against its formula written out with numpy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.text.bm25 import BM25

documents = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), min_size=1, max_size=8)


@given(documents, st.lists(st.sampled_from("abcdez"), max_size=6), st.floats(0, 3), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_scores_are_the_formula(docs, query, k1, b):
    vocabulary = "abcdez"
    f = np.array([[doc.count(t) for t in vocabulary] for doc in docs], float)
    n = (f > 0).sum(0)
    idf = np.log(1 + (len(docs) - n + 0.5) / (n + 0.5))
    lengths = f.sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        share = np.where(f > 0, f * (k1 + 1) / (f + k1 * (1 - b + b * lengths / lengths.mean())), 0.0)
    asked = np.array([query.count(t) for t in vocabulary], float)
    wanted = share @ (asked * idf)
    found = BM25(docs, k1=k1, b=b).scores(query)
    for i in range(len(docs)):
        assert found.get(i, 0.0) == pytest.approx(wanted[i], rel=1e-9)
        assert (i in found) == bool(set(query) & set(docs[i]))


def test_rare_terms_count_more_and_long_documents_less():
    ranking = BM25([["cache"], ["cache", *"wxyz"], ["x"], ["cache", "rare"]])
    scores = ranking.scores(["cache"])
    assert scores[0] > scores[3] > scores[1] and 2 not in scores
    assert ranking.idf("rare") > ranking.idf("cache") > 0
    assert ranking.idf("absent") == pytest.approx(math.log(1 + 4.5 / 0.5))


def test_bad_settings_and_nothing_to_search():
    for wrong in ({"k1": -0.1}, {"b": 1.5}, {"b": -0.1}):
        with pytest.raises(ValueError, match="expected k1"):
            BM25([], **wrong)
    assert BM25([]).scores(["a"]) == {} == BM25([["a"]]).scores([])
