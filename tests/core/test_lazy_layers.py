"""Lazy layers train, are saved and resumed to the same bits; what needs their values before is refused with the way out."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

from unitrain import EMA, CheckpointError, Event, ModelCheckpoint, SpecError, TrainSpec, UnifiedTrainer
from unitrain.testing.trace import differences

FRAMEWORKS = ["reference", "lightning", "ignite"]


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(8, 3))


def eager():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def spec(made=None):
    optimizer = partial(SGD, lr=0.1, momentum=0.9)
    return TrainSpec(model=model() if made is None else made, loss=nn.CrossEntropyLoss(), optimizer=optimizer)


def data():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(5, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1])) for _ in range(4)]


def trainer(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 2, "seed": 0, "enable_progress_bar": False, **options})


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("resumed", FRAMEWORKS)
def test_a_run_with_lazy_layers_is_resumed_to_the_same_bits(framework, resumed, tmp_path):
    whole = spec()
    trainer(framework).fit(whole, data())
    by_hand = spec()  # the bare loop, as a user would write it
    torch.manual_seed(0)
    optimizer = by_hand.optimizer(list(by_hand.model.parameters()))
    for inputs, target in data() * 2:
        optimizer.zero_grad()
        by_hand.loss(by_hand.model(inputs), target).backward()
        optimizer.step()
    assert not differences(dict(by_hand.model.state_dict()), dict(whole.model.state_dict()))

    first, path = trainer(framework), tmp_path / "mid.ckpt"
    first.on(Event.BATCH_END(once=3), lambda run: (run.save_checkpoint(path), run.stop()))
    first.fit(spec(), data())
    for fresh in (model(), eager()):
        other = spec(fresh)
        trainer(resumed).fit(other, data(), ckpt_path=path)
        assert not differences(dict(other.model.state_dict()), dict(whole.model.state_dict()))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_evaluation_takes_the_weights_of_a_checkpoint(framework, tmp_path):
    made, run = (
        spec(),
        trainer(framework, callbacks=[ModelCheckpoint(tmp_path, save_last=True, save_on_exception=True)]),
    )
    run.fit(made, data())
    expected = run.validate(made, data())
    assert trainer(framework).validate(spec(), data(), ckpt_path=tmp_path / "last.ckpt") == expected


class Own(nn.Module):
    """Has a lazy layer and a state of its own, which it returns itself, not a copy, and may refuse after a change."""

    strict = False

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.own = nn.LazyLinear(8), nn.Linear(8, 3), {"version": 1}

    def forward(self, inputs):
        return self.last(self.first(inputs))

    def get_extra_state(self):
        return self.own

    def set_extra_state(self, state):
        self.own.update(state)
        if self.strict:
            raise ValueError("too old")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_lazy_layer_beside_a_state_of_its_own(framework, tmp_path):
    made, run = spec(Own()), trainer(framework)
    made.model.own["version"] = 2
    run.fit(made, data())
    expected = run.validate(made, data())
    run.save_checkpoint(tmp_path / "run.ckpt")
    assert trainer(framework).validate(spec(Own()), data(), ckpt_path=tmp_path / "run.ckpt") == expected
    more = spec(Own())
    trainer(framework, max_epochs=3).fit(more, data(), ckpt_path=tmp_path / "run.ckpt")
    assert more.model.own == {"version": 2}

    strict = spec(Own())
    strict.model.strict = True
    last = strict.model.last.weight.detach().clone()
    for evaluate in (trainer(framework).validate, trainer(framework, max_epochs=3).fit):
        with pytest.raises(CheckpointError, match=r"does not fit Own.*too old"):
            evaluate(strict, data(), ckpt_path=tmp_path / "run.ckpt")
        assert strict.model.own == {"version": 1}
        assert torch.equal(strict.model.last.weight, last)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_moving_average_needs_values_first(framework):
    with pytest.raises(
        SpecError, match=r"EMA needs initialized parameters[\s\S]*0\.weight[\s\S]*Hint: .*model\(example\)"
    ):
        trainer(framework, callbacks=[EMA(decay=0.9)]).fit(spec(), data())
    made, average = spec(), EMA(decay=0.9)
    made.model(data()[0][0])
    trainer(framework, callbacks=[average]).fit(made, data())
    assert average.average["0.weight"].shape == (8, 4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_moving_average_is_resumed_with_lazy_layers(framework, tmp_path):
    def fit(made, epochs, path=None):
        average = EMA(decay=0.9)
        run = trainer(framework, max_epochs=epochs, callbacks=[average])
        run.fit(spec(made), data(), ckpt_path=path)
        return run, average.average

    def started():
        made = model()
        made(data()[0][0])
        return made

    run, _ = fit(started(), 1)
    run.save_checkpoint(tmp_path / "run.ckpt")
    assert not differences(fit(model(), 2, tmp_path / "run.ckpt")[1], fit(started(), 2)[1])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_checkpoint_before_the_first_batch_is_refused(framework, tmp_path):
    run = trainer(framework)
    run.on(Event.EPOCH_START(once=1), lambda run: run.write_saves())
    run.on(Event.FIT_START, lambda run: run.save_checkpoint(tmp_path / "early.ckpt"))
    with pytest.raises(CheckpointError, match=r"state_dict\['model\.0\.weight'\][\s\S]*Hint: run one batch"):
        run.fit(spec(), data())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_fit_that_fails_in_its_first_batch_says_why(framework, tmp_path):
    def fail(run):
        raise ZeroDivisionError

    run = trainer(framework, callbacks=[ModelCheckpoint(tmp_path, save_on_exception=True)])
    run.on(Event.BATCH_START, fail)
    with pytest.warns(UserWarning, match="was not written"), pytest.raises(ZeroDivisionError):
        run.fit(spec(), data())
