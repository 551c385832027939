"""EMA: the average is that of torch, evaluation sees it, training never does, and it survives a resume."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from unitrain import EMA, Callback, CheckpointError, ConfigError, TrainSpec, UnifiedTrainer


class Torch(Callback):
    """Keeps torch's own average beside ours."""

    def __init__(self, decay, every):
        self.decay, self.every = decay, every

    def on_fit_start(self, run):
        self.averaged = AveragedModel(run.model, multi_avg_fn=get_ema_multi_avg_fn(self.decay))
        self.averaged.n_averaged += 1  # it starts from the weights as they are, where torch takes the first update

    def on_optimizer_step(self, run):
        if (run.state.step) % self.every == 0:
            self.averaged.update_parameters(run.model)


@pytest.mark.parametrize("every", [1, 3])
def test_average_is_that_of_torch(framework, fit, every):
    ema, oracle = EMA(0.8, every_n_steps=every), Torch(0.8, every)
    fit(framework, ema, oracle)
    expected = dict(oracle.averaged.module.named_parameters())
    assert ema.average.keys() == expected.keys()
    assert all(torch.equal(ema.average[name], one) for name, one in expected.items())


class Watch(Callback):
    """Compares the weights that evaluation sees with the average, and those before and after."""

    def __init__(self, ema):
        self.ema, self.seen = ema, 0

    def on_batch_end(self, run):
        self.before = copy.deepcopy(run.model.state_dict())

    def on_val_batch_start(self, run):
        assert all(torch.equal(one, self.ema.average[name]) for name, one in run.model.named_parameters())
        assert not torch.equal(run.model.weight, self.before["weight"])
        self.seen += 1

    on_test_batch_start = on_predict_batch_start = on_val_batch_start

    def on_epoch_end(self, run):
        assert all(torch.equal(one, self.before[name]) for name, one in run.model.state_dict().items())


def test_evaluation_sees_the_average_and_the_weights_come_back(framework, make_spec, data):
    ema = EMA(0.7)
    watch = Watch(ema)
    spec = make_spec(callbacks=[ema, watch])
    trainer = UnifiedTrainer(framework, max_epochs=2, val_check_interval=2, enable_progress_bar=False)
    trainer.fit(spec, data(4), data(2))
    assert watch.seen == 8
    for run in (trainer.validate, trainer.test, trainer.predict):
        watch.seen = 0
        run(spec, data(2))
        assert watch.seen == 2
        assert all(torch.equal(one, watch.before[name]) for name, one in spec.model.state_dict().items())


def test_training_is_the_same_with_and_without(framework, fit, data):
    weights = [fit(framework, *callbacks, val=data(2), seed=0)[1].model.weight for callbacks in ([], [EMA(0.5)])]
    assert torch.equal(*weights)


def test_weights_come_back_after_an_error_in_validation(framework, make_spec, data):
    ema = EMA(0.5)

    class Break(Callback):
        def on_val_batch_end(self, run):
            raise RuntimeError("on purpose")

    spec = make_spec(callbacks=[ema, Break()])
    watch = Watch(ema)
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, callbacks=[watch])
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.fit(spec, data(2), data(1))
    assert torch.equal(spec.model.weight, watch.before["weight"])


def test_state_is_tensors_and_goes_on_exactly(tmp_path, fit, make_spec):
    ema, other = EMA(0.9, every_n_steps=2), EMA(0.9, every_n_steps=2)

    class Resume(Callback):
        """Gives the one's state to the other in mid-run, through a file."""

        def on_batch_end(self, run):
            if run.state.batch == 5:
                torch.save(ema.state_dict(), tmp_path / "ema.pt")
                other.load_state_dict(torch.load(tmp_path / "ema.pt", weights_only=True))

    fit("reference", ema, other, Resume())
    assert other.state_dict()["step"] == ema.state_dict()["step"] == 12
    assert all(torch.equal(other.average[name], one) for name, one in ema.average.items())


def test_a_loaded_state_is_not_started_anew(fit, make_spec):
    ema = EMA(0.9)
    run = type("Run", (), {"model": nn.Linear(2, 1), "state": type("State", (), {"step": 3})})
    ema.load_state_dict({"average": {"weight": torch.full((1, 2), 7.0), "bias": torch.zeros(1)}, "step": 3})
    ema.on_fit_start(run)
    assert ema.average["weight"].tolist() == [[7.0, 7.0]]


def test_a_second_fit_starts_anew(fit):
    ema = EMA(0.9)
    first, second = (copy.deepcopy((fit("reference", ema, seed=0), ema.average)[1]) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_half_precision_is_averaged_in_float32(data):
    torch.manual_seed(0)
    model = nn.Linear(4, 1).to(torch.bfloat16)
    ema = EMA(0.999)
    step = lambda model, batch: (model(batch[0].bfloat16()).float() - batch[1]).square().mean()  # noqa: E731
    spec = TrainSpec(model=model, training_step=step, optimizer=partial(torch.optim.SGD, lr=0.1), callbacks=[ema])
    before = model.weight.detach().float()
    UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False).fit(spec, data())
    assert ema.average["weight"].dtype == torch.float32
    assert not torch.equal(ema.average["weight"], before)


def test_average_of_another_model_is_refused():
    ema = EMA()
    ema.load_state_dict({"average": {"weight": torch.zeros(1, 2)}, "step": 0})
    with pytest.raises(CheckpointError, match="another model"):
        ema.copy_to(nn.Linear(2, 1))


@pytest.mark.parametrize("arguments", [{"decay": 1.0}, {"decay": -0.1}, {"decay": "x"}, {"every_n_steps": 0}])
def test_what_cannot_be_meant_is_refused(arguments):
    with pytest.raises(ConfigError, match="\nHint: "):
        EMA(**arguments)
