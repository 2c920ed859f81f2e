"""Device, seeds and threads are decided in one place."""

import random

import numpy as np
import pytest
import torch

from llmlab import runtime


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_the_same_seed_draws_the_same_numbers_everywhere():
    runtime.setup(seed=3)
    first = draw()
    runtime.setup(seed=3)
    assert draw() == first
    runtime.setup(seed=4)
    assert all(a != b for a, b in zip(draw(), first))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_numpy_refuses_get_a_sentence(seed):
    with pytest.raises(ValueError, match="expected an integer from 0"):
        runtime.seed_everything(seed)


def test_one_thread_unless_asked(monkeypatch):
    monkeypatch.delenv("LLMLAB_THREADS", raising=False)
    assert runtime.setup().threads == 1 == torch.get_num_threads()
    monkeypatch.setenv("LLMLAB_THREADS", "2")
    assert runtime.setup().threads == 2
    monkeypatch.setenv("LLMLAB_THREADS", "many")
    with pytest.raises(ValueError, match="whole number"):
        runtime.setup()


def test_a_device_that_is_not_there_gets_a_sentence(monkeypatch):
    monkeypatch.setenv("LLMLAB_DEVICE", "cuda:99")
    with pytest.raises(ValueError, match="cannot be used here"):
        runtime.device()
    monkeypatch.setenv("LLMLAB_DEVICE", "cpu")
    assert runtime.device().type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts the CPU's allocations; this machine has a GPU")
def test_peak_memory_counts_what_is_held_at_one_time():
    mebibyte = 2**18  # float32 numbers

    def two_then_one():
        a, b = torch.empty(mebibyte), torch.empty(mebibyte)
        del a, b
        torch.empty(mebibyte)

    assert runtime.peak_memory(two_then_one) == 2 * 2**20
