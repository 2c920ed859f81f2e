"""A run that is killed ends where it would have ended, to the bit; what is damaged is refused and passed over."""

import random
import subprocess
import sys
from pathlib import Path

import killed_run
import numpy as np
import pytest
import torch
from torch import nn

from llmlab.train import Checkpoints, DamagedCheckpoint, optim, train_model
from llmlab.train.checkpoint import random_state, read_state, restore_random, write_state

SCRIPT = Path(killed_run.__file__)


@pytest.fixture(scope="module")
def whole():
    """The run that nobody disturbs."""
    model, history = killed_run.run()
    assert len(history.losses) == 24 and len(history.scores) > 1
    return model.state_dict(), history


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def interrupted(folder, at, every=5):
    """The same run, broken off after so many steps; whoever catches it goes on in this process."""

    def stop(step):
        if step.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed_run.run(folder, every, callbacks=[stop])


def test_killed_while_saving_and_resumed_elsewhere_is_the_whole_run_to_the_bit(tmp_path, whole):
    call = [sys.executable, str(SCRIPT), str(tmp_path)]
    dead = subprocess.run([*call, "15"], capture_output=True, text=True)
    assert dead.returncode not in (0, 1), dead.stderr  # by the signal, not by an error
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["step-00000005.ckpt", "step-00000010.ckpt", "step-00000015.ckpt.part"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    end = torch.load(tmp_path / "end.pt", weights_only=True)
    assert end["losses"] == whole[1].losses
    same(end["weights"], whole[0])
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("at", [4, 7, 12, 13, 23])
def test_broken_off_anywhere_it_goes_on_as_if_nothing_had_been(tmp_path, whole, at):
    interrupted(tmp_path, at, every=1 if at == 12 else 3)  # after 12 steps an epoch has just ended
    model, history = killed_run.run(tmp_path, 1 if at == 12 else 3)
    same(model.state_dict(), whole[0])
    assert history == whole[1]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, whole):
    interrupted(tmp_path, 13)
    newest = tmp_path / "step-00000010.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="step-00000010.ckpt is damaged: expected SHA-256"):
        model, history = killed_run.run(tmp_path)
    same(model.state_dict(), whole[0])
    assert history == whole[1]


def test_a_finished_run_called_again_ends_the_same(tmp_path, whole):
    killed_run.run(tmp_path)
    same(killed_run.run(tmp_path)[0].state_dict(), whole[0])


def test_a_run_that_had_stopped_early_stays_stopped(tmp_path):
    scores = [0.0, 1.0, 2.0]
    model, history = killed_run.run(tmp_path, 6, evaluate=iter(scores).__next__)
    again, same_history = killed_run.run(tmp_path, 6, evaluate=lambda: pytest.fail("it had stopped"))
    assert history == same_history and history.scores == scores
    same(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b[:-9] + b"x" + b[-8:]])
def test_every_change_of_the_bytes_is_refused(tmp_path, spoil):
    file = tmp_path / "a.ckpt"
    write_state({"x": torch.arange(100)}, file)
    assert torch.equal(read_state(file)["x"], torch.arange(100))
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DamagedCheckpoint, match=r"a\.ckpt is damaged: .* resume from the one before"):
        read_state(file)


def test_another_file_is_no_checkpoint_and_all_damaged_is_said(tmp_path):
    (tmp_path / "step-00000001.ckpt").write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match="is no checkpoint of llmlab"):
        read_state(tmp_path / "step-00000001.ckpt")
    with pytest.warns(UserWarning, match="no checkpoint"), pytest.raises(DamagedCheckpoint, match="all 1 checkpoints"):
        Checkpoints(tmp_path).newest()
    assert Checkpoints(tmp_path / "nothing").newest() is None


def test_only_the_newest_are_kept_and_the_order_is_that_of_steps(tmp_path):
    checkpoints = Checkpoints(tmp_path / "made", keep=2)
    for step in (1, 9, 10, 100):
        checkpoints.save(step, {"step": step})
    assert [file.name for file in checkpoints.files()] == ["step-00000010.ckpt", "step-00000100.ckpt"]
    assert checkpoints.newest() == {"step": 100}


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    write_state({"x": Path("a")}, tmp_path / "code.ckpt")
    with pytest.raises(Exception, match="[Ww]eights"):
        read_state(tmp_path / "code.ckpt")


def test_all_generators_go_back():
    state = random_state()
    drawn = torch.rand(3).tolist(), random.random(), np.random.normal()  # noqa: NPY002
    restore_random(state)
    assert drawn == (torch.rand(3).tolist(), random.random(), np.random.normal())  # noqa: NPY002


def tiny(folder, *, lr=0.1, width=3, n=8, **options):
    model = nn.Linear(width, 1)
    optimizer = optim.SGD(model.parameters(), lr=lr)
    chosen = {"batch_size": 4, "checkpoints": Checkpoints(folder, every=1), **options}
    return train_model(model, lambda b: model(torch.ones(len(b), width)).square().mean(), [1] * n, optimizer, **chosen)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 2}, "batch_size 4 there, 2 here"),
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"n": 9}, "examples 8 there, 9 here"),
        ({"lr": 0.2}, "lr=0.1.* there, .*lr=0.2.* here"),
        ({"width": 4}, "another model or optimizer"),
    ],
)
def test_another_runs_checkpoints_are_refused(tmp_path, changed, message):
    tiny(tmp_path)
    with pytest.raises(ValueError, match=message):
        tiny(tmp_path, **changed)


def test_a_longer_run_goes_on_from_the_shorter_one(tmp_path):
    assert tiny(tmp_path, epochs=3).losses[:2] == tiny(tmp_path / "b").losses
    assert len(tiny(tmp_path, epochs=5).losses) == 10


@pytest.mark.parametrize("name", ["every", "keep"])
def test_counts_below_one_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        Checkpoints(tmp_path, **{name: 0})
