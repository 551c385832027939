"""What Lightning offers beside the plain loop: iterators, combined loaders, profilers, barebones, searches, variables.

Each is compared call by call with the untouched Trainer, on each backend.
"""

from __future__ import annotations

import os
from itertools import count
from unittest.mock import patch

import pytest
import torch
from torch.utils.data import DataLoader

from tests.bridges.lightning_subject import Steps, Stream, in_order, parted, samples, shuffled, told
from tests.bridges.lightning_ways import Combined, Manual, by_mode, dict_of_loaders, fitted
from tests.bridges.test_lightning_same import BACKENDS, compared
from unitrain import UnsupportedFeatureError
from unitrain_bridges.lightning import arguments, epoch, evaluation, fit, prediction, trainer
from unitrain_bridges.lightning.bridge import LightningBridge

pytestmark = pytest.mark.filterwarnings("ignore")


# --- steps that read their iterator -----------------------------------------------------------------------------------


class Iterating(Steps):
    def training_step(self, dataloader_iter):
        batch, batch_idx, _ = next(dataloader_iter)
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True, batch_size=len(batch[0]))
        self.log("index", float(batch_idx), batch_size=1)
        return loss

    def validation_step(self, dataloader_iter):
        batch, batch_idx, dataloader_idx = next(dataloader_iter)
        self.log("val_loss", self.loss(batch), batch_size=len(batch[0]))
        return batch_idx, dataloader_idx

    test_step = predict_step = validation_step
    on_train_epoch_end = on_validation_epoch_end = lambda self: None  # a value that is logged needs a batch size


class IteratingTwice(Iterating):
    """Two batches a step, as long as there are any."""

    def training_step(self, dataloader_iter):
        loss = super().training_step(dataloader_iter)
        return loss + super().training_step(dataloader_iter)

    def validation_step(self, dataloader_iter):
        return [super(IteratingTwice, self).validation_step(dataloader_iter) for _ in range(2)]


class IteratingWithoutSize(Iterating):
    """Logs without a batch size too, which Lightning refuses in a step that reads its iterator, each time."""

    def training_step(self, dataloader_iter):
        loss = super().training_step(dataloader_iter)
        try:
            self.log("loss", loss, on_step=True, on_epoch=True)
        except Exception as error:  # noqa: BLE001 - of the package in use
            self.log(f"refused {type(error).__name__}", 1.0, batch_size=1)
        return loss


class SkippingAmongProcesses(Steps):
    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            self.trainer.strategy.world_size = 2  # as far as a step can see
            return None
        return self.loss(batch)


def unknown_argument(package, tools):
    return package.Trainer(abcdefg=1)


class IteratingByHand(Iterating):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, dataloader_iter):
        optimizer = self.optimizers()
        loss = super().training_step(dataloader_iter)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class IteratingToTrain(Iterating):
    validation_step = Steps.validation_step


def iterating_evaluations(package, tools):
    class Predicting(Iterating):
        def predict_step(self, dataloader_iter):
            batch, batch_idx, _ = next(dataloader_iter)
            return self(batch[0]), batch_idx

    trainer, module = tools.trainer(), tools.module(Predicting)
    found = [trainer.validate(module, in_order(), verbose=False), trainer.test(module, in_order(), verbose=False)]
    return [*found, trainer.predict(module, in_order())]


def stream():
    return DataLoader(Stream(14), batch_size=4)


ITERATORS = {
    "iterators": fitted(Iterating, max_epochs=2),
    "iterators, two a step": fitted(IteratingTwice, (lambda: shuffled(28), lambda: in_order(16)), max_epochs=2),
    "iterators, two a step of an odd number": fitted(IteratingTwice, (lambda: shuffled(20), in_order), max_epochs=2),
    "iterators without a size": fitted(IteratingWithoutSize, max_epochs=2),
    "iterators by hand": fitted(IteratingByHand, max_epochs=2),
    "iterators to train": fitted(IteratingToTrain, max_epochs=2, accumulate_grad_batches=2),
    "iterators of streams": fitted(Iterating, (stream, stream), max_epochs=2),
    "iterators, limited": fitted(Iterating, max_epochs=2, limit_train_batches=3, limit_val_batches=1),
    "iterators, several to validate": fitted(Iterating, (shuffled, lambda: [in_order(), in_order(6)]), max_epochs=1),
    "iterators, within": fitted(Iterating, max_epochs=2, val_check_interval=3),
    "iterators, evaluations": iterating_evaluations,
}

# --- combined loaders in evaluations ----------------------------------------------------------------------------------


class Paired(Combined):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        given = batch if isinstance(batch, dict) else {"one": batch}
        for name, one in given.items():
            if one is not None:
                self.log(f"val_{name}", self.loss(one), on_step=True, on_epoch=True, batch_size=4)

    test_step = validation_step


def combined_evaluations(mode):
    def work(package, tools):
        trainer, module = tools.trainer(limit_test_batches=4), tools.module(Paired)
        return [trainer.validate(module, by_mode(mode)()), trainer.test(module, by_mode(mode)(), verbose=False)]

    return work


MODES = ("min_size", "max_size", "max_size_cycle", "sequential")
COMBINED = {
    **{f"{mode} to validate": fitted(Paired, (dict_of_loaders, by_mode(mode)), max_epochs=2) for mode in MODES},
    **{f"{mode} to evaluate": combined_evaluations(mode) for mode in MODES},
}

# --- profilers --------------------------------------------------------------------------------------------------------


def profiler_of(package, log):
    class Listening(package.profilers.Profiler):
        def start(self, action_name):
            log.append(("profiler", "start", action_name))

        def stop(self, action_name):
            log.append(("profiler", "stop", action_name))

        def setup(self, stage, local_rank=None, log_dir=None):
            super().setup(stage, local_rank, log_dir)
            log.append(("profiler", "setup", str(stage), local_rank, type(self._lightning_module).__name__))

        def teardown(self, stage):
            super().teardown(stage)
            log.append(("profiler", "teardown", str(stage)))

        def __del__(self):
            """Do nothing: Lightning's calls teardown() whenever the collector comes by."""

    return Listening()


def profiled(steps=Steps, **options):
    def work(package, tools):
        trainer = tools.trainer(max_epochs=2, profiler=profiler_of(package, tools.log), **options)
        module = tools.module(steps)
        trainer.fit(module, shuffled(12), in_order())
        found = [trainer.test(module, in_order(), verbose=False)]
        if steps is not IteratingToTrain:  # its steps log, which a prediction does not allow
            found += trainer.predict(module, in_order())
        trainer.save_checkpoint(tools.folder / "by hand.ckpt")
        return found

    return work


class BreakingInProfile(Steps):
    def training_step(self, batch, batch_idx):
        if self.global_step == 4:
            raise KeyError("a broken batch")
        return super().training_step(batch, batch_idx)


def shipped(name):
    """Return a work with one of Lightning's own profilers, which tells which actions it has seen, and how often."""

    def work(package, tools):
        made = getattr(package.profilers, name)(dirpath=tools.folder, filename="seen")
        trainer = tools.trainer(max_epochs=1, profiler=made, logger=False, enable_checkpointing=False)
        trainer.fit(tools.module(listens=False), shuffled(12), in_order())
        seen = getattr(made, "recorded_durations", None) or getattr(made, "profiled_actions", None) or {}
        tools.log.append([(action, len(one) if isinstance(one, list) else 1) for action, one in seen.items()])
        tools.log.append(sorted(one.name.partition(".")[0] for one in tools.folder.iterdir()))
        for one in tools.folder.iterdir():
            one.unlink()
        return [trainer.global_step]

    return work


def by_name(package, tools):
    trainer = tools.trainer(max_epochs=1, profiler="simple")
    trainer.fit(tools.module(), shuffled(12), in_order())
    return [(name, len(times)) for name, times in trainer.profiler.recorded_durations.items()]


PROFILERS = {
    "profiler": profiled(),
    "profiler, by hand": profiled(Manual),
    "profiler of an error": profiled(BreakingInProfile),
    "profiler, iterators": profiled(IteratingToTrain),
    "profiler by name": by_name,
    "profiler that is unknown": fitted(Steps, profiler="nothing"),
    "simple profiler": shipped("SimpleProfiler"),
    "advanced profiler": shipped("AdvancedProfiler"),
}

# --- barebones, variables, loading ------------------------------------------------------------------------------------


def barebones(**options):
    def work(package, tools):
        given = {"logger": None, "log_every_n_steps": None, "enable_progress_bar": None, "enable_model_summary": None}
        trainer = tools.trainer(**given, max_epochs=2, barebones=True, **options)
        trainer.fit(tools.module(), shuffled(12), in_order())
        told = (trainer.barebones, trainer.loggers, trainer.log_every_n_steps, trainer.num_sanity_val_steps)
        return [*told, trainer.checkpoint_callback is None, {**trainer.callback_metrics}]

    return work


def loosely(package, tools):
    """Read a file without a part of the module, which says that this is fine."""

    class Loose(Steps):
        def __init__(self, strict=False):
            super().__init__()
            self.strict_loading = strict
            self.more = torch.nn.Linear(1, 1)

        def on_save_checkpoint(self, checkpoint):
            checkpoint["state_dict"].pop("more.bias")

    trainer, module = tools.trainer(max_epochs=1), tools.module(Loose, listens=False)
    trainer.fit(module, shuffled(), in_order())
    trainer.save_checkpoint(tools.folder / "loose.ckpt")
    found = [trainer.test(module, in_order(), ckpt_path=tools.folder / "loose.ckpt", verbose=False)]
    again = tools.trainer(max_epochs=2)
    again.fit(tools.module(Loose, listens=False), shuffled(), in_order(), ckpt_path=tools.folder / "loose.ckpt")
    found += [again.global_step]
    trainer.test(tools.module(Loose, strict=True, listens=False), in_order(), ckpt_path=tools.folder / "loose.ckpt")
    return found  # never: the last line raises


BAREBONES = {
    "barebones": barebones(),
    "barebones, several epochs": barebones(accumulate_grad_batches=2, gradient_clip_val=0.1),
    "barebones against a logger": fitted(Steps, barebones=True, logger=True),
    "barebones against checkpoints": barebones(enable_checkpointing=True),
    "barebones against a profiler": barebones(profiler="simple"),
    "barebones against a sanity check": barebones(num_sanity_val_steps=1),
    "barebones against a development run": barebones(fast_dev_run=True),
    "barebones against the search of anomalies": barebones(detect_anomaly=True),
    "strict_loading": loosely,
}

# --- searches ---------------------------------------------------------------------------------------------------------


class Rated(Steps):
    """Has what the searches set, and brings its data, which has the batch size."""

    def __init__(self):
        super().__init__()
        self.lr, self.batch_size = 0.003, 2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self):
        return DataLoader(samples(60), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(samples(12, 1), batch_size=self.batch_size)

    test_dataloader = predict_dataloader = val_dataloader


def found_of(module, finder):
    return [module.lr, module.batch_size, finder and (finder.results, finder.suggestion(skip_begin=1))]


def rate_found(package, tools, **options):
    """Search by the Tuner, then fit."""
    trainer, module = tools.trainer(max_epochs=2), tools.module(Rated)
    finder = package.tuner.Tuner(trainer).lr_find(module, num_training=18, **options)
    found = found_of(module, finder)
    trainer.fit(module)
    return [*found, trainer.global_step, {**trainer.callback_metrics}]


def rate_found_linearly(package, tools):
    return rate_found(package, tools, mode="linear", early_stop_threshold=None, min_lr=1e-4, max_lr=0.5)


def rate_diverging(package, tools):
    return rate_found(package, tools, max_lr=1e4, early_stop_threshold=1.01)


def rate_by_callback(package, tools):
    finder = package.callbacks.LearningRateFinder(num_training_steps=18)
    trainer, module = tools.trainer(max_epochs=2, callbacks=[finder]), tools.module(Rated)
    trainer.fit(module)
    return [*found_of(module, finder.optimal_lr), trainer.global_step]


def rate_within(package, tools):
    class Again(package.callbacks.LearningRateFinder):
        def on_fit_start(self, *given):
            return

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch in (0, 2):
                self.lr_find(trainer, pl_module)

    trainer, module = tools.trainer(max_epochs=3, callbacks=[Again(num_training_steps=18)]), tools.module(Rated)
    trainer.fit(module)
    return [module.lr, trainer.global_step]


def size_found(method="fit", **options):
    def work(package, tools):
        trainer, module = tools.trainer(max_epochs=1), tools.module(Rated)
        size = package.tuner.Tuner(trainer).scale_batch_size(module, method=method, max_trials=3, **options)
        found = [size, module.batch_size]
        trainer.fit(module)
        return [*found, trainer.global_step]

    return work


def size_by_callback(package, tools):
    finder = package.callbacks.BatchSizeFinder(max_trials=3, steps_per_trial=2)
    trainer, module = tools.trainer(max_epochs=2, callbacks=[finder]), tools.module(Rated)
    trainer.fit(module)
    return [finder.optimal_batch_size, trainer.global_step]


def size_of_too_much(package, tools):
    class Small(Rated):
        def training_step(self, batch, batch_idx):
            if len(batch[0]) > 8:
                raise RuntimeError("CUDA out of memory.")  # what it takes for one
            return super().training_step(batch, batch_idx)

    trainer, module = tools.trainer(max_epochs=1), tools.module(Small)
    size = package.tuner.Tuner(trainer).scale_batch_size(module, max_trials=6, mode="binsearch")
    trainer.fit(module)
    return [size, module.batch_size, trainer.global_step]


def no_field(package, tools):
    tuner = package.tuner.Tuner(tools.trainer(max_epochs=1))
    tuner.scale_batch_size(tools.module(), shuffled())


SEARCHES = {
    "learning rate": rate_found,
    "learning rate, linear": rate_found_linearly,
    "learning rate that diverges": rate_diverging,
    "learning rate by a callback": rate_by_callback,
    "learning rate within the fit": rate_within,
    "batch size": size_found(),
    "batch size, binsearch": size_found(mode="binsearch"),
    "batch size to validate": size_found("validate"),
    "batch size to test": size_found("test"),
    "batch size to predict": size_found("predict"),
    "batch size by a callback": size_by_callback,
    "batch size that is too much": size_of_too_much,
    "batch size of no field": no_field,
}

# --- compiled ---------------------------------------------------------------------------------------------------------


class Plain(Steps):
    """Logs nothing: self.log within a compiled step is beyond torch."""

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.seen = self.loss(batch)

    test_step = validation_step


def compiled(package, tools):
    trainer = tools.trainer(max_epochs=2)
    module = torch.compile(tools.module(Plain, listens=False), backend="eager")
    trainer.fit(module, shuffled(), in_order())
    return [trainer.global_step, trainer.test(module, in_order(), verbose=False), trainer.predict(module, in_order())]


# --- arguments from the environment -----------------------------------------------------------------------------------


def with_variables(work, **variables):
    def within(package, tools):
        with patch.dict(os.environ, {f"PL_TRAINER_{name.upper()}": value for name, value in variables.items()}):
            return work(package, tools)

    return within


VARIABLES = {
    "variables": with_variables(
        fitted(max_epochs=2), max_epochs="9", accumulate_grad_batches="2", limit_val_batches="1", precision="64-true"
    ),
    "variables that are empty": with_variables(fitted(), max_steps="", val_check_interval="3", strategy="auto"),
    "variables that are wrong": with_variables(fitted(), limit_train_batches="half"),
}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("strategy", "ddp", "the environment variable PL_TRAINER_STRATEGY='ddp' only works on 'lightning'"),
        ("num_nodes", "2", "the environment variable PL_TRAINER_NUM_NODES=2"),
        ("model_registry", "a", "the environment variable PL_TRAINER_MODEL_REGISTRY='a'"),
        ("devices", "2", r"devices=2 and strategy='auto' select DDPStrategy.*\n.*PL_TRAINER_\*"),
    ],
)
def test_a_variable_that_acts_on_lightning_only_is_refused(name, value, said, monkeypatch):
    import pytorch_lightning as pl

    monkeypatch.setenv(f"PL_TRAINER_{name.upper()}", value)
    with LightningBridge().redirected("ignite"), pytest.raises(UnsupportedFeatureError, match=said):
        pl.Trainer(accelerator="cpu", logger=False)


def by_a_clock(package, tools):
    """Validate by time, with a clock that goes on by a second whenever it is read."""
    seconds = count()
    with patch("time.monotonic", side_effect=seconds.__next__):
        found = fitted(max_epochs=4, val_check_interval="00:00:00:03", check_val_every_n_epoch=2)(package, tools)
    return [*found, next(seconds)]


OTHERS = {
    "compiled": compiled,
    "a skip among processes": fitted(SkippingAmongProcesses, max_epochs=1),
    "an unknown argument": unknown_argument,
}
CLOCKS = {"validation by a clock": by_a_clock}
WORKS = {**CLOCKS, **ITERATORS, **COMBINED, **PROFILERS, **BAREBONES, **SEARCHES, **VARIABLES, **OTHERS}
FAST = {
    "iterators",
    "iterators, evaluations",
    "max_size to validate",
    "profiler",
    "barebones",
    "learning rate",
    "variables",
    *CLOCKS,
}


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in WORKS])
def test_the_same(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    differences, wanted = compared(WORKS[name], tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")
    assert wanted.error is None or name in RAISING, wanted.error


RAISING = {
    "profiler of an error",
    "profiler that is unknown",
    "strict_loading",
    "batch size of no field",
    "variables that are wrong",
    *OTHERS.keys() - {"compiled"},
    *(name for name in BAREBONES if "against" in name),
}


# --- that a fault is seen ---------------------------------------------------------------------------------------------


def nothing(*_, **__):
    return None


def before_last(fetcher):
    """Return what the step has read last, a batch too early."""
    batch, index, loader = fetcher._batch, fetcher._batch_idx, fetcher._dataloader_idx
    return batch, index and index - 1, loader


def in_sequence(given, source, mode, stage, function, original=evaluation.combined):
    loader = original(given, source, mode, stage, function)
    loader._mode = "sequential"
    return loader


def always_the_same_run():
    """Let a search train in the very run that it is called from."""
    return property(lambda self: None, nothing)


FAULTS = {
    "the step's batch is not its hooks'": ("iterators", epoch, "taken", before_last),
    "the evaluated batch is not its hooks'": ("iterators, evaluations", evaluation, "taken", before_last),
    "the predicted batch is not its hooks'": ("iterators, evaluations", prediction, "taken", before_last),
    "nobody sees that a step reads its iterator": ("iterators to train", epoch, "iterates", lambda *_: False),
    "loaders are not combined as they say": ("max_size to validate", evaluation, "combined", in_sequence),
    "fetches are not profiled": ("profiler", epoch, "profile_fetching", nothing),
    "an epoch is not profiled": ("profiler", fit.FitLoop, "_profile_epoch", nothing),
    "nothing is turned off": ("barebones", trainer, "without_extras", lambda _, given: given),
    "a search has no loop of its own": ("learning rate by a callback", fit.FitLoop, "_driven", always_the_same_run()),
    "a state is not put back": ("learning rate", fit.FitLoop, "load_state_dict", nothing),
    "variables are not read": ("variables", arguments, "vars", lambda _: {}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault, tmp_path, monkeypatch):
    work, where, name, wrong = FAULTS[fault]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(where, name, wrong, raising=False)
    wanted = told(None, WORKS[work], tmp_path / "trainer")
    assert parted(wanted, told("ignite", WORKS[work], tmp_path / "ignite"))
