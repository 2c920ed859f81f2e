"""Shares of sources, by hand and at their limits."""

import math

import pytest

from llmlab.text import effective_sources, passes, temperature_weights

SIZES = {"web": 900.0, "books": 90.0, "wiki": 10.0}


def test_temperature_goes_from_the_sizes_to_even_shares():
    assert temperature_weights(SIZES) == pytest.approx({"web": 0.9, "books": 0.09, "wiki": 0.01})
    assert temperature_weights(SIZES, 1e9) == pytest.approx(dict.fromkeys(SIZES, 1 / 3))
    assert temperature_weights({"a": 16, "b": 1}, 2) == pytest.approx({"a": 0.8, "b": 0.2})
    assert temperature_weights({"a": 1e300, "b": 1e-300})["a"] == pytest.approx(1)


def test_passes_are_those_of_gpt_3():
    """Brown et al. 2020, Table 2.2. Its shares sum to 101, and WebText2's 2.9 does not follow from them."""
    sizes = {"Common Crawl": 410, "WebText2": 19, "Books1": 12, "Books2": 55, "Wikipedia": 3}
    weights = {"Common Crawl": 60, "WebText2": 22, "Books1": 8, "Books2": 8, "Wikipedia": 3}
    found = passes(sizes, weights, 300)
    for name, printed in {"Common Crawl": 0.44, "Books1": 1.9, "Books2": 0.43}.items():
        assert found[name] == pytest.approx(printed, rel=0.06)
    assert found["WebText2"] > 3.4
    assert passes({"a": 10}, {"a": 3}, 25) == {"a": 2.5}


def test_effective_sources():
    assert effective_sources({"a": 1}) == 1 and effective_sources(dict.fromkeys("abcd", 2)) == pytest.approx(4)
    assert effective_sources({"a": 4, "b": 1}) == pytest.approx(1.6493848884661177)
    assert effective_sources({"a": 1, "b": 0}) == 1
    assert effective_sources({"a": 2, "b": 1}) == pytest.approx(
        math.exp(-(2 / 3) * math.log(2 / 3) - math.log(1 / 3) / 3)
    )


def test_bad_input_is_a_sentence():
    for sizes, temperature in (({}, 1), ({"a": 0}, 1), ({"a": 1}, 0)):
        with pytest.raises(ValueError, match="expected positive sizes and temperature"):
            temperature_weights(sizes, temperature)
    with pytest.raises(ValueError, match="weights of b, which have no positive size"):
        passes({"a": 1}, {"a": 1, "b": 1}, 3)
