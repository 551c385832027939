"""A run that stops and goes on, on any backend, is the run that never stopped: in every bit."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from unitrain import Event, UnifiedTrainer
from unitrain.checkpoint import io, restore
from unitrain.checkpoint.layout import KEY
from unitrain.testing import cases, cases_loaders
from unitrain.testing.models import loader, tensors
from unitrain.testing.trace import SEED, Case, Tape, Trace, differences, record

FRAMEWORKS = ["reference", "lightning", "ignite"]
PAIRS = [(writer, reader) for writer in FRAMEWORKS for reader in FRAMEWORKS]

BATCHES = 6
POSITIONS = {"epoch boundary": BATCHES, "mid-epoch": BATCHES + 2, "mid-accumulation": BATCHES + 4, "first batch": 1}
"""The batch of the run, counted from 1, after which the checkpoint is written."""


class Counting(IterableDataset):
    """A stream that keeps its own position and its own random numbers, which go on over the epochs."""

    def __init__(self, samples=22):
        self.at, self.samples = 0, samples
        self.generator = torch.Generator().manual_seed(5)

    def __iter__(self):
        while self.at < self.samples:
            self.at += 1
            yield torch.randn(36, generator=self.generator), torch.randint(0, 5, (), generator=self.generator)
        self.at = 0

    def state_dict(self):
        return {"at": self.at, "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.at = state["at"]
        self.generator.set_state(state["generator"])


class OwnLoader:
    """A loader that is no DataLoader and keeps its position; its batches differ from epoch to epoch."""

    def __init__(self):
        self.batch = 0

    def __iter__(self):
        for _ in range(BATCHES):
            self.batch += 1
            generator = torch.Generator().manual_seed(self.batch)
            yield torch.randn(4, 36, generator=generator), torch.randint(0, 5, (4,), generator=generator)
            if self.batch % BATCHES == 0:
                return

    def state_dict(self):
        return {"batch": self.batch}

    def load_state_dict(self, state):
        self.batch = state["batch"]


def stateful(dataset, workers=0, shuffle=True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls what torch deprecates
        from torchdata.stateful_dataloader import StatefulDataLoader

        return StatefulDataLoader(dataset(), batch_size=4, num_workers=workers, shuffle=shuffle or None)


def counted(workers=0):
    return DataLoader(Counting(), batch_size=4, num_workers=workers)


def samples():
    return TensorDataset(*tensors())


def case_of(position: str, **changes) -> Case:
    made = partial(cases.spec, "cnn", "adamw", "step")
    options = {"accumulate_grad_batches": 3} if "accumulation" in position else {}
    base = {"name": position, "spec": made, "train": loader, "val": partial(loader, samples=10), "options": options}
    return Case(**{**base, **changes})


CASES = {
    **{position: (case_of(position), after) for position, after in POSITIONS.items()},
    "noisy, workers 0": (case_of("", train=cases.DATA["noisy"], val=cases.DATA["noisy"]), BATCHES + 3),
    "noisy, workers 2": (case_of("", train=cases.DATA["noisy-workers"]), BATCHES + 3),
    "stream": (case_of("", train=cases.DATA["stream"], options={"accumulate_grad_batches": 4}), BATCHES + 2),
    "stream with dropout": (case_of("", spec=cases.spec, train=cases.DATA["stream"]), BATCHES + 2),
    "stream, workers 2": (case_of("", train=cases.DATA["stream-workers"]), BATCHES + 2),
    "list": (case_of("", train=cases.DATA["list"]), BATCHES + 5),
    "dropout": (case_of("", spec=partial(cases.spec, "transformer", "groups", "plateau")), BATCHES + 2),
    "momentum, epoch schedule": (case_of("", spec=partial(cases.spec, "mlp", "sgd", "epoch")), BATCHES * 2),
    "lbfgs": (case_of("", spec=partial(cases.spec, "mlp", "lbfgs", "step")), BATCHES + 1),
    "two optimizers": (case_of("", spec=cases.adversarial, val=None), BATCHES + 3),
    "own generator": (case_of("", train=cases.DATA["shared-generator"], val=None), BATCHES + 2),
    "validation in mid-epoch": (case_of("", options={"val_check_interval": 2}), BATCHES + 4),
    "validation over epochs": (case_of("", options={"val_check_interval": 4, "check_val_every_n_epoch": None}), 8),
    "handlers that log and draw": (case_of("", spec=cases.handler_cases()[0].spec), BATCHES + 2),
    "custom steps": (cases.step_cases()[0], BATCHES + 1),
    "stateful dataset": (case_of("", train=counted, val=None), BATCHES + 2),
    "stateful dataset, epoch boundary": (case_of("", train=counted, val=None), BATCHES),
    "stateful loader of one's own": (case_of("", train=OwnLoader, val=None), BATCHES + 2),
    "stateful loader of one's own, epoch boundary": (case_of("", train=OwnLoader, val=None), BATCHES),
    "StatefulDataLoader": (case_of("", train=partial(stateful, samples)), BATCHES + 2),
    "StatefulDataLoader, epoch boundary": (case_of("", train=partial(stateful, samples)), BATCHES),
    "StatefulDataLoader, noisy": (case_of("", train=partial(stateful, cases.Noisy)), BATCHES + 2),
    "StatefulDataLoader, workers 2": (case_of("", train=partial(stateful, samples, 2)), BATCHES + 2),
    "StatefulDataLoader, stream": (case_of("", train=partial(stateful, Counting, 0, False)), BATCHES + 2),
    "StatefulDataLoader, stream, dropout": (
        case_of("", spec=cases.spec, train=partial(stateful, Counting, 0, False)),
        BATCHES + 2,
    ),
    "several validations": (cases_loaders.loader_cases()[1], BATCHES + 4),
    "side by side": (cases_loaders.combined_cases()[1], BATCHES + 2),
    "16-mixed": (case_of("", options={"precision": "16-mixed", "gradient_clip_val": 0.5}), BATCHES + 2),
    "bf16-mixed": (case_of("", options={"precision": "bf16-mixed"}), BATCHES + 2),
}


@cache
def uninterrupted(name: str) -> Trace:
    return record("reference", CASES[name][0])


def written(framework: str, case: Case, after: int, path) -> None:
    """Train until ``after`` batches are done, write a checkpoint there and break off."""

    def act(trainer: UnifiedTrainer) -> None:
        @trainer.on(Event.BATCH_END(once=after))
        def save(run):
            run.save_checkpoint(path)

        @trainer.on(Event.CHECKPOINT_SAVED)
        def crash():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(framework, replace(case, act=act))


def resumed(framework: str, case: Case, path) -> Trace:
    """Go on from ``path``, in a world whose random numbers are somewhere else."""
    torch.manual_seed(999)
    spec = case.spec()
    torch.manual_seed(31)
    options = {"max_epochs": 3, "seed": SEED + 1, "enable_progress_bar": False, **case.options}
    trainer = UnifiedTrainer(framework, **options)
    tape = Tape(trainer)
    result = trainer.fit(spec, case.train(), None if case.val is None else case.val(), ckpt_path=path)
    return tape.trace(trainer, result)


def assert_goes_on(whole: Trace, rest: Trace) -> None:
    """The rest is what the whole run did after the checkpoint, and ends as it did."""
    assert rest.tape[0][0] == "fit_start"
    assert len(rest.losses) < len(whole.losses)
    assert not differences(whole.tape[len(whole.tape) - len(rest.tape) + 1 :], rest.tape[1:], "tape")
    for part in ("losses", "rates"):
        expected = getattr(whole, part)
        got = getattr(rest, part)
        assert not differences(expected[len(expected) - len(got) :], got, part)
    for part in ("weights", "optimizers", "history", "outcome", "rng"):
        assert not differences(getattr(whole, part), getattr(rest, part), part)
    assert not differences(whole.scales[len(whole.scales) - len(rest.scales) :], rest.scales, "scales")
    assert not differences(whole.metrics[-1], rest.metrics[-1], "metrics")


@pytest.mark.parametrize(("writer", "reader"), PAIRS, ids=lambda name: name)
@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_equals_the_uninterrupted_one(name, writer, reader, tmp_path):
    case, after = CASES[name]
    written(writer, case, after, tmp_path / "run.ckpt")
    assert_goes_on(uninterrupted(name), resumed(reader, case, tmp_path / "run.ckpt"))


@pytest.mark.parametrize("name", ["epoch boundary", "mid-accumulation", "noisy, workers 0", "stream"])
def test_every_backend_writes_the_same_file(name, tmp_path):
    case, after = CASES[name]
    contents = []
    for framework in FRAMEWORKS:
        written(framework, case, after, tmp_path / framework)
        content = io.read(tmp_path / framework)
        assert len(content[KEY]["hub"]["files"].pop("run")) == 32  # the name of the run, which is another each time
        contents.append(content)
    assert not differences(contents[0], contents[1])
    assert not differences(contents[0], contents[2])


OF_FORMAT_1 = ["epoch boundary", "mid-accumulation", "noisy, workers 0", "stream with dropout", "side by side"]


def with_lists(value):
    """Return what format 1 held: the words of Python's and NumPy's generators as lists, wherever they are."""
    if isinstance(value, list):
        return [with_lists(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: with_lists(one) for key, one in value.items()}
    if "python" in found and "numpy" in found:
        for generator in ("python", "numpy"):
            assert isinstance(found[generator][1], torch.Tensor)
            found[generator][1] = found[generator][1].tolist()
    return found


def as_format_1(content):
    own = content[KEY]
    return {**content, KEY: {**own, "format": 1, "progress": with_lists(own["progress"])}}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", OF_FORMAT_1)
def test_a_file_of_format_1_is_resumed(name, framework, tmp_path, monkeypatch):
    case, after = CASES[name]
    written("reference", case, after, tmp_path / "run.ckpt")
    content = as_format_1(io.read(tmp_path / "run.ckpt"))
    monkeypatch.setattr(restore.parts, "read_any", lambda path: content)
    assert_goes_on(uninterrupted(name), resumed(framework, case, tmp_path / "run.ckpt"))


@pytest.mark.parametrize("generator", ["python", "numpy"])
def test_another_word_of_a_generator_is_noticed(generator, tmp_path, monkeypatch):
    """The control: what the file says of both generators is what the run ends with."""
    case, after = CASES["mid-epoch"]
    written("reference", case, after, tmp_path / "run.ckpt")
    content = io.read(tmp_path / "run.ckpt")
    content[KEY]["progress"]["rng"][generator][1][5] += 1
    monkeypatch.setattr(restore.parts, "read_any", lambda path: content)
    found = resumed("reference", case, tmp_path / "run.ckpt")
    assert differences(uninterrupted("mid-epoch").rng, found.rng, "rng")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_filters_count_on(framework, tmp_path):
    """The third EPOCH_END of the run is the third, whoever counted the first two."""
    case, after = CASES["epoch boundary"]
    written(framework, case, after, tmp_path / "run.ckpt")
    trainer = UnifiedTrainer(framework, max_epochs=4, enable_progress_bar=False)
    seen = []
    trainer.on(Event.EPOCH_END(once=[2, 3]) | Event.BATCH_END(every=10), lambda run: seen.append(run.state.batch))
    trainer.fit(case.spec(), case.train(), case.val(), ckpt_path=tmp_path / "run.ckpt")
    assert seen == [10, 12, 18, 20]


class Reads(TensorDataset):
    """Notes which samples are read."""

    def __init__(self):
        super().__init__(*tensors())
        self.seen = []

    def __getitem__(self, index):
        self.seen.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("framework", FRAMEWORKS[1:])
def test_what_is_skipped_is_not_read(framework, tmp_path):
    case = case_of("", train=lambda: DataLoader(Reads(), batch_size=4, shuffle=True), val=None)
    written(framework, case, BATCHES + 2, tmp_path / "run.ckpt")
    data = Reads()
    resumed(framework, replace(case, train=lambda: DataLoader(data, batch_size=4, shuffle=True)), tmp_path / "run.ckpt")
    assert len(data.seen) == 22 - 2 * 4 + 22
    assert len({*data.seen[:14]}) == 14


class Rewound(OwnLoader):
    """Cannot be skipped: reading from the beginning is an error."""

    def __iter__(self):
        assert self.batch >= BATCHES + 2
        return super().__iter__()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_loaders_own_state_is_used_and_nothing_is_skipped(framework, tmp_path):
    case = case_of("", train=OwnLoader, val=None)
    written(framework, case, BATCHES + 2, tmp_path / "run.ckpt")
    assert io.read(tmp_path / "run.ckpt")["unitrain"]["progress"]["loader"] == {"batch": BATCHES + 2}
    resumed(framework, replace(case, train=Rewound), tmp_path / "run.ckpt")
