"""The texts of notebook 09's runs: what is read, how often, what is spoiled, and that nothing held out is in it."""

from collections import Counter

import pytest
import torch

from llmlab.recipes.data_scaling import NOISES, WINDOW, Run, corpus, plan, text_of, train
from llmlab.tasks.classify import read_record


def rows(windows):
    return {tuple(row) for row in windows.tolist()}


def words(row):
    return Counter("".join(corpus().characters[i] for i in row.tolist()).split(" "))


def test_a_smaller_text_is_part_of_a_larger_one_and_none_of_the_held_out():
    small, large = (text_of(Run("clean", size)) for size in (2**14, 2**16))
    assert small.shape == (2**14 // WINDOW, WINDOW + 1)
    assert torch.equal(small, large[: len(small)])
    assert not torch.equal(small, text_of(Run("clean", 2**14, seed=1)))
    assert not rows(text_of(Run("clean", 2**20))) & rows(corpus().held)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_only_the_share_is_spoiled_and_only_in_its_way(noise, share):
    clean, got = text_of(Run("clean", 2**14)), text_of(Run("noise", 2**14, noise=noise, share=share))
    spoiled, articles = round(share * len(clean)), rows(corpus().newspaper)
    assert got.shape == clean.shape and torch.equal(got[spoiled:], clean[spoiled:])
    assert torch.equal(clean, text_of(Run("clean", 2**14)))  # the corpus itself stays
    changed = (got[:spoiled] != clean[:spoiled]).any(1).float().mean()
    assert changed > 0.99
    for before, after in zip(clean[:spoiled], got[:spoiled]):
        if noise == "newspaper":
            assert tuple(after.tolist()) in articles
        else:
            assert Counter(before.tolist()) == Counter(after.tolist())
        if noise == "words shuffled":
            assert words(before) == words(after)


def test_every_comparison_reads_as_much():
    runs = plan()
    assert {r.total for r in runs if r.part == "repeat"} == {2**16} and 2**16 in {
        r.unique for r in runs if r.part == "clean"
    }
    assert {r.total for r in runs if r.part == "noise"} == {2**16}
    assert {r.total for r in runs if r.part == "levers"} == {2**15, 2**16}
    assert len(set(runs)) == len(runs)
    record = read_record("data_scaling")["runs"]
    assert [(r["part"], r["unique"], r["epochs"], r["seed"], r["noise"], r["share"]) for r in record] == [
        (r.part, r.unique, r.epochs, r.seed, r.noise, r.share) for r in runs
    ]


def test_the_beginning_of_a_run_is_the_recorded_one():
    for recorded in (
        r for r in read_record("data_scaling")["runs"] if r["seed"] == 1 and r["unique"] <= 2**15 and r["epochs"] <= 2
    ):
        run = Run(**{k: recorded[k] for k in Run.__dataclass_fields__})
        model, history = train(run, max_steps=4)
        assert history.losses == pytest.approx(recorded["first_losses"][:4], abs=2e-4)
        assert sum(p.numel() for p in model.parameters()) == recorded["parameters"]
