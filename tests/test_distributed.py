"""What several processes agree on; whole trainings in two processes are in test_pretrain.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import spread_out
import torch

from xlxmert_core.train import loop
from xlxmert_core.train.distributed import mean, processes, share, total
from xlxmert_core.train.optimisers import adamw


def test_alone_it_is_the_plain_mean():
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    assert processes() == 1 and total(torch.tensor(4)) == 4
    assert mean(values).item() == 3.0
    mean(values).backward()
    assert torch.equal(values.grad, torch.full((3,), 1 / 3))


def test_the_mean_of_nothing_is_nought_and_has_a_gradient_of_nought():
    weight = torch.ones(2, requires_grad=True)
    loss = mean(weight[:0] * 5)
    loss.backward()
    assert loss.item() == 0 and torch.equal(weight.grad, torch.zeros(2))


def test_shares_put_together_are_the_batch():
    batch = {"words": torch.arange(12).view(6, 2), "masked": torch.arange(6) > 2, "task": "visual"}
    parts = [share(batch, rank, 3) for rank in range(3)]
    assert {part["task"] for part in parts} == {"visual"}
    for name in ("words", "masked"):
        assert torch.equal(torch.cat([part[name] for part in parts]), batch[name])
    assert share(batch, 0, 1) is batch
    with pytest.raises(ValueError, match="A batch of 6 does not divide into 4 equal shares: choose a multiple of 4"):
        share(batch, 0, 4)


def test_a_batch_taken_in_parts_gives_the_gradient_of_the_whole():
    def history(accumulate):
        toy = spread_out.Toy()

        class Even(torch.nn.Module):  # every row counts, so that the parts weigh alike
            def __init__(self):
                super().__init__()
                self.net = toy.net

            def forward(self, batch):
                loss = (self.net(batch["x"])[:, 0] - batch["y"]).square().mean()
                return loss, {"loss": loss.detach()}

        objective = Even()
        rows = loop.fit(
            objective, adamw(objective, 0.05), lambda s, g: spread_out.batch_at(s), 5, accumulate=accumulate
        )
        return [row["loss"] for row in rows]

    assert history(4) == pytest.approx(history(1), rel=1e-4)


def test_networks_that_take_turns_are_not_taken_in_parts():
    toy = spread_out.Toy()
    turns = {name: adamw(toy, 0.1) for name in ("generator", "discriminator")}
    with pytest.raises(ValueError, match="accumulate=1 is all"):
        loop.fit(toy, turns, lambda s, g: spread_out.batch_at(s), 1, accumulate=2)


def test_the_first_version_of_fsdp_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="add --fsdp_version 2"):
        loop.accelerate()


@pytest.mark.nightly
def test_a_model_spread_by_fsdp_trains_stops_and_goes_on_as_if_whole(tmp_path):
    path, script = tmp_path / "checkpoint.pt", Path(spread_out.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script, path]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.load(path.with_suffix(".losses"), weights_only=True)
    assert found["spread"]
    toy = spread_out.Toy()
    alone = spread_out.practise(toy, adamw(toy, 0.05), range(spread_out.STEPS))
    assert found["losses"] == pytest.approx(alone, rel=1e-4)
    kept = torch.load(path, weights_only=True)["objective"]  # whole, so one process can read it
    assert {name: tuple(value.shape) for name, value in kept.items()} == {
        name: tuple(value.shape) for name, value in toy.state_dict().items()
    }
