"""The fit loop: it learns, alternates turns, and a killed run repeats itself to the bit."""

import errno
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from xlxmert_core.train.loop import Track, fit, save_atomically, step_seed
from xlxmert_core.train.optimisers import adamw, constant, muon, warmup_linear

TRUTH = torch.tensor([[2.0], [-1.0], [0.5]])
STEPS = 12


class Regression(nn.Module):
    """Fit TRUTH with a small network; its dropout makes every step random."""

    def __init__(self, dropout: float = 0.3):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.LayerNorm(16), nn.Dropout(dropout), nn.Linear(16, 1))

    def forward(self, batch):
        loss = (self.net(batch["x"]) - batch["y"]).square().mean()
        return loss, {"loss": loss.detach()}


def batch_at(step, generator):
    x = torch.randn(16, 3, generator=generator)
    return {"x": x, "y": x @ TRUTH}


def toy(dropout: float = 0.3) -> tuple[Regression, torch.optim.Optimizer]:
    torch.manual_seed(7)
    objective = Regression(dropout)
    return objective, adamw(objective, lr=0.02)


def run(objective, optimiser, steps=STEPS, **options) -> list[dict]:
    return fit(objective, optimiser, batch_at, steps, **options)


def say_step(step, values):
    print(step, flush=True)
    time.sleep(0.2 if step >= 6 else 0)  # time to be killed in


def run_slowly(checkpoint: str) -> None:
    """What the killed process of the test below does."""
    run(*toy(), track=Track(checkpoint, seconds=0, on_step=say_step))


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def whole(tmp_path):
    """The state that an uninterrupted run leaves in its checkpoint."""
    run(*toy(), track=Track(tmp_path / "whole.pt"))
    return torch.load(tmp_path / "whole.pt", weights_only=True)


class StopError(Exception):
    """Stands for Ctrl-C."""


def stop_at(step):
    def stop(now, values):
        if now == step:
            raise StopError

    return stop


def test_fit_learns_and_returns_one_row_a_step_in_eval_mode():
    objective, optimiser = toy(dropout=0.0)
    history = run(objective, optimiser, steps=150, schedule=constant)
    assert [h["step"] for h in history] == list(range(150))
    assert history[-1]["loss"] < 0.1 * history[0]["loss"]
    assert isinstance(history[0]["loss"], float) and not objective.training


def test_an_interrupted_run_resumes_to_the_same_bits(whole, tmp_path):
    path = tmp_path / "part.pt"
    with pytest.raises(StopError):
        run(*toy(), track=Track(path, seconds=0, on_step=stop_at(5)))
    assert torch.load(path, weights_only=True)["step"] == 5
    torch.manual_seed(999)  # the resumed process has another global state
    objective = Regression()
    optimiser = adamw(objective, lr=0.02)
    steps = []
    history = run(objective, optimiser, track=Track(path, on_step=lambda step, values: steps.append(step)))
    assert steps == list(range(5, STEPS))
    assert same(torch.load(path, weights_only=True), whole)
    assert history == whole["history"]
    assert same(objective.state_dict(), whole["objective"])
    assert same(optimiser.state_dict()["state"], whole["optimisers"]["all"][0]["state"])


@pytest.mark.slow
def test_a_process_killed_in_the_middle_resumes_to_the_same_bits(whole, tmp_path):
    path, here = tmp_path / "killed.pt", Path(__file__).resolve().parent
    code = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\n"
    code += "import test_loop; test_loop.run_slowly(sys.argv[1])"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert any(line.strip() == "6" for line in child.stdout)  # step 6 is done, perhaps not yet saved
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert child.returncode == -9
    assert 6 <= torch.load(path, weights_only=True)["step"] < STEPS
    run(*toy(), track=Track(path))
    assert same(torch.load(path, weights_only=True), whole)


def test_a_finished_run_is_not_trained_again(whole, tmp_path):
    objective, optimiser = toy()
    steps = []
    history = run(objective, optimiser, track=Track(tmp_path / "whole.pt", on_step=lambda *now: steps.append(now)))
    assert steps == [] and history == whole["history"]
    assert same(objective.state_dict(), whole["objective"])


def test_another_seed_gives_another_run(whole):
    objective, optimiser = toy()
    history = run(objective, optimiser, seed=1)
    assert history[0] != whole["history"][0] and not same(objective.state_dict(), whole["objective"])


class Game(nn.Module):
    """Two networks, each with one parameter; ``log`` keeps (turn, generator, discriminator)."""

    def __init__(self, broken: str | None = None):
        super().__init__()
        self.generator, self.discriminator = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        self.broken, self.log = broken, []

    def forward(self, batch, turn):
        self.log.append((turn, *(p.detach().clone() for p in self.parameters())))
        loss = (self.generator(batch["x"]) + self.discriminator(batch["x"])).square().mean()
        if turn == self.broken:
            loss = loss * float("nan")
        return loss, {turn: loss.detach()}


def play(game, lr=0.1, steps=3, **options):
    turns = ("generator", "discriminator")
    optimisers = {turn: torch.optim.SGD(getattr(game, turn).parameters(), lr=lr) for turn in turns}
    batches = lambda step, generator: {"x": torch.ones(4, 2)}  # noqa: E731
    return fit(game, optimisers, batches, steps, schedule=constant, **options)


def test_two_turns_alternate_and_each_moves_only_its_own_network():
    torch.manual_seed(0)
    game = Game()
    history = play(game)
    assert [turn for turn, *_ in game.log] == ["generator", "discriminator"] * 3
    assert all(set(h) == {"step", "generator", "discriminator"} for h in history)
    first, second, third = game.log[:3]
    assert not torch.equal(first[1], second[1]) and torch.equal(first[2], second[2])
    assert torch.equal(second[1], third[1]) and not torch.equal(second[2], third[2])


def test_what_a_turn_hands_on_is_in_the_batch_of_the_next_and_of_no_later_step():
    class Relay(Game):
        def forward(self, batch, turn):
            seen.append((turn, batch.get("painted")))
            return *super().forward(batch, turn), {"painted": len(seen)} if turn == "generator" else {}

    seen = []
    play(Relay(), steps=2)
    assert seen == [("generator", None), ("discriminator", 1), ("generator", None), ("discriminator", 3)]


@pytest.mark.parametrize("turn", ["generator", "discriminator"])
def test_a_loss_that_is_no_number_names_the_turn(turn):
    with pytest.raises(FloatingPointError, match=f"'{turn}' turn became nan"):
        play(Game(broken=turn))


def test_gradients_are_clipped_to_the_given_norm():
    def moved(clip):
        torch.manual_seed(0)
        game = Game()
        before = game.generator.weight.detach().clone()
        play(game, lr=1.0, steps=1, clip=clip)
        return (game.generator.weight.detach() - before).norm().item()

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(None) > 0.1


def test_learning_rates_follow_the_schedule_also_after_resuming(tmp_path):
    def rates(checkpoint=None):
        objective, optimiser = toy()
        seen = []
        run(
            objective,
            optimiser,
            track=Track(checkpoint, on_step=lambda *_: seen.append(optimiser.param_groups[0]["lr"])),
        )
        return seen

    want = [0.02 * warmup_linear(step, STEPS) for step in range(STEPS)]
    assert rates() == want
    with pytest.raises(StopError):
        run(*toy(), track=Track(tmp_path / "c.pt", seconds=0, on_step=stop_at(8)))
    assert rates(tmp_path / "c.pt") == want[8:]


def test_warm_up_rises_to_one_and_falls_to_zero():
    factors = [warmup_linear(step, 1000) for step in range(1001)]
    assert factors[0] == pytest.approx(0.02) and factors[-1] == 0.0
    assert max(factors) == pytest.approx(1, abs=2e-3) and abs(factors.index(max(factors)) - 50) <= 1
    assert factors[999] == pytest.approx(0.001 / 0.95) and factors[525] == pytest.approx(0.5)
    assert warmup_linear(9, 100, warmup=0.2) == pytest.approx(0.5)
    assert warmup_linear(0, 1) > 0  # a run of one step still learns
    assert warmup_linear(2000, 1000) == 0.0


def test_biases_and_norms_do_not_decay_and_frozen_values_are_left_out():
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2), nn.Embedding(5, 4))
    net[2].weight.requires_grad_(False)
    decay, plain = adamw(net, lr=0.1, weight_decay=0.3, betas=(0.5, 0.6)).param_groups
    assert {id(p) for p in decay["params"]} == {id(net[0].weight), id(net[3].weight)}
    assert {id(p) for p in plain["params"]} == {id(p) for p in (net[0].bias, *net[1].parameters(), net[2].bias)}
    assert decay["weight_decay"] == 0.3 and plain["weight_decay"] == 0
    assert decay["lr"] == plain["lr"] == 0.1 and plain["betas"] == (0.5, 0.6)


def test_a_save_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "new folder" / "state.pt"
    save_atomically({"value": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="lambda"):
        save_atomically({"value": torch.zeros(100_000), "bad": lambda: None}, path)
    assert path.read_bytes() == before
    save_atomically({"value": torch.zeros(3)}, path)
    assert torch.load(path, weights_only=True)["value"].tolist() == [0, 0, 0]


def test_every_step_of_every_run_has_its_own_seed():
    edge = (0, 1, 2, 2**31 - 1)
    seeds = {step_seed(seed, step) for seed in (0, 1, 2, 2**20 - 1) for step in edge}
    assert len(seeds) == 16
    assert torch.Generator().manual_seed(max(seeds)).initial_seed() == max(seeds)


def test_the_log_holds_each_step_once_also_after_a_resumption(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(step, values):
        if step == 7:
            raise KeyboardInterrupt

    track = Track(tmp_path / "c.pt", tmp_path / "log", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        run(*toy(), track=replace(track, on_step=stop))
    history = run(*toy(), track=track)
    events = EventAccumulator(str(tmp_path / "log")).Reload().Scalars("loss")
    assert [e.step for e in events] == list(range(STEPS))
    assert [e.value for e in events] == pytest.approx([values["loss"] for values in history])


def test_muon_takes_the_inner_matrices_and_adamw_the_rest():
    model = nn.ModuleDict({"encoder": nn.Linear(4, 6), "transform": nn.Linear(6, 6), "head": nn.Linear(6, 2)})
    matrices, rest = (
        {id(p) for g in o.param_groups for p in g["params"]} for o in muon(nn.ModuleDict({"model": model}))
    )
    assert matrices == {id(model["encoder"].weight), id(model["transform"].weight)}
    assert matrices | rest == {id(p) for p in model.parameters()} and not matrices & rest


def test_two_optimisers_of_one_turn_both_move_and_resume_to_the_same_bits(tmp_path):
    def several(objective):
        halves = list(objective.parameters())
        return [torch.optim.SGD(halves[:1], 0.05, momentum=0.9), torch.optim.AdamW(halves[1:], 0.02)]

    once, _ = toy()
    run(once, several(once), track=Track(tmp_path / "once.pt"))
    stopped, _ = toy()
    with pytest.raises(StopError):
        run(stopped, several(stopped), track=Track(tmp_path / "twice.pt", seconds=0, on_step=stop_at(4)))
    torch.manual_seed(999)
    resumed = Regression()
    run(resumed, several(resumed), track=Track(tmp_path / "twice.pt"))
    assert same(once.state_dict(), resumed.state_dict())
    fresh = toy()[0].state_dict()
    assert not any(torch.equal(once.state_dict()[name], fresh[name]) for name in dict(once.named_parameters()))


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"

    def fill(state, file):
        file.write(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(torch, "save", fill)
        with pytest.raises(OSError, match="c.pt cannot be written .*No space left.*free some space; there is none yet"):
            run(*toy(), track=Track(path))
    with pytest.raises(StopError):
        run(*toy(), track=Track(path, seconds=0, on_step=stop_at(6)))
    before = path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(torch, "save", fill)
        with pytest.raises(OSError, match="the last one is kept"):
            run(*toy(), track=Track(path))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert run(*toy(), track=Track(path)) == run(*toy())
