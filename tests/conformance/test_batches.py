"""Batches of any shape train to the same bits on every backend, and each counts by its samples."""

from __future__ import annotations

import warnings
from functools import partial
from types import SimpleNamespace

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tests.core.containers import SHAPES
from tests.core.test_batch import GUESSED, KNOWN
from unitrain import SpecError, TrainSpec, UnifiedTrainer, vectorized
from unitrain.data import batch as batches_of
from unitrain.data.structure import tensors
from unitrain.testing import reference
from unitrain.testing.bare_batch import size_of

BACKENDS = ("lightning", "ignite", "reference")
X = torch.randn(14, 2, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (14,), generator=torch.Generator().manual_seed(1))


def trainer(backend, **options):
    return UnifiedTrainer(backend, max_epochs=2, accelerator="cpu", enable_progress_bar=False, **options)


def linear(inputs=2):
    torch.manual_seed(0)
    return nn.Linear(inputs, 3)


def fit(backend, shape, precision, **options):
    """Train on batches of six, six and two in ``shape``; each step checks that nothing is lost."""

    def step(model, batch):
        assert shape.kept(batch)
        x, y = shape.get(batch)
        return {"loss": nn.functional.cross_entropy(model(x), y), "output": model(x), "target": y, "size": len(y)}

    batches = [shape.make(x, y) for x, y in zip(X.split(6), Y.split(6), strict=True)]
    model = linear()
    spec = TrainSpec(
        model=model,
        training_step=step,
        validation_step=step,
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )
    result = trainer(backend, precision=precision, **options).fit(spec, batches, batches)
    for batch, x in zip(batches, X.split(6), strict=True):
        assert torch.equal(shape.get(batch)[0], x)
        assert shape.kept(batch)
    return model.weight, result.metrics


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
@pytest.mark.parametrize("name", [*SHAPES])
def test_batch_of_any_shape_trains_as_the_pair_does(name, precision):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the number of samples in a")  # of a UserList
        weight, metrics = fit("reference", SHAPES["tuple"], precision)
        for backend in BACKENDS:
            found, measured = fit(backend, SHAPES[name], precision)
            assert torch.equal(found, weight)
            if name != "UserList":
                assert measured == metrics
    assert metrics["val/size"] == pytest.approx((6 * 6 + 6 * 6 + 2 * 2) / 14, rel=1e-6)


@pytest.mark.parametrize("name", [*SHAPES])
@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_of_any_shape_is_predicted_on_as_it_is(backend, name):
    shape, model = SHAPES[name], linear()

    def predicted(_, batch):
        assert shape.kept(batch)
        return model(shape.get(batch)[0])

    spec = TrainSpec(model=model, predict_step=predicted, optimizer=partial(torch.optim.SGD, lr=0.1))
    found = trainer(backend).predict(spec, [shape.make(x, y) for x, y in zip(X.split(6), Y.split(6), strict=True)])
    with torch.no_grad():
        assert all(torch.equal(one, model(x)) for one, x in zip(found, X.split(6), strict=True))


@pytest.mark.parametrize("name", ["computed field", "frozen dataclass", "ordered with a tag", "tuple, own constructor"])
def test_batch_stays_as_it_is_where_a_callback_of_lightning_listens(name):
    shape = SHAPES[name]
    callback = lightning.pytorch.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_: None, on_validation_batch_end=lambda *_: None
    )
    weight, metrics = fit("reference", shape, "32-true")
    found, measured = fit("lightning", shape, "32-true", callbacks=[callback])
    assert torch.equal(found, weight)
    assert measured == metrics


def counted_by_the_reference(batch):
    run = SimpleNamespace(spec=SimpleNamespace(batch_size=None), prefix="val", warned=[])
    return size_of(run, batch), not run.warned


@pytest.mark.filterwarnings("ignore:the number of samples in a val batch")
@pytest.mark.parametrize("case", [*KNOWN, *GUESSED])
def test_reference_counts_as_by_hand(case):
    batch, number = {**KNOWN, **GUESSED}[case]
    assert counted_by_the_reference(batch) == (number, case in KNOWN)


class Samples(Dataset):
    """Images of three channels and other sizes, and a number each."""

    def __init__(self, count=7):
        generator = torch.Generator().manual_seed(0)
        self.images = [torch.randn(3, 4 + n % 3, 5, generator=generator) for n in range(count)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], torch.tensor(float(index))


class Channels(nn.Module):
    """Works on the mean of each channel, of images in any container."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.GRU(3, 4), nn.Linear(3, 1)

    def forward(self, images):
        if isinstance(images, nn.utils.rnn.PackedSequence):
            return self.rnn(images)[1][0].sum(1)
        if isinstance(images, list):
            images = torch.stack([image.mean((1, 2)) for image in images], 1)
        return self.out(images.T)[:, 0]


class Graphs:
    def __init__(self, items):
        self.x, self.nodes = [image for image, _ in items], torch.zeros(30)
        self.goal = torch.stack([target for _, target in items])
        self.num_graphs = len(items)

    def to(self, device):
        return self


def targets(items):
    return torch.stack([target for _, target in items])


def parted(batch):
    if isinstance(batch, Graphs):
        return batch.x, batch.goal
    return (batch["input"], batch["target"]) if isinstance(batch, dict) else batch


COLLATE = {
    "list of images": lambda items: ([image for image, _ in items], targets(items)),
    "another tensor first": lambda items: {
        "meta": torch.zeros(11),
        "input": [image for image, _ in items],
        "target": targets(items),
    },
    "time-major": lambda items: (torch.stack([image.mean((1, 2)) for image, _ in items], 1), targets(items)),
    "packed": lambda items: (
        nn.utils.rnn.pack_sequence([image.mean(2).T for image, _ in items], enforce_sorted=False),
        targets(items),
    ),
    "graphs": Graphs,
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", COLLATE)
def test_means_are_over_samples(case, backend, recwarn):
    model, samples = Channels(), Samples()

    def step(model, batch):
        inputs, target = parted(batch)
        return {"output": model(inputs), "target": target, "error": (model(inputs) - target).abs().mean()}

    metrics = {"square": lambda output, target: (output - target).square().mean()}
    spec = TrainSpec(model=model, loss=nn.MSELoss(), metrics=metrics, validation_step=step)
    loader = DataLoader(samples, batch_size=5, collate_fn=COLLATE[case])
    found = trainer(backend).validate(spec, loader)

    with torch.no_grad():
        differences = [(model(parted(COLLATE[case]([one]))[0]) - one[1]).item() for one in samples]
    square = sum(one * one for one in differences) / 7
    assert found["val/loss"] == found["val/square"] == pytest.approx(square, rel=1e-5)
    assert found["val/error"] == pytest.approx(sum(map(abs, differences)) / 7, rel=1e-5)
    assert not [one for one in recwarn if "structure" in str(one.message)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_given_count_decides(backend):
    batches = [(torch.zeros(9, n), {"a": torch.zeros(3), "b": torch.zeros(n)}) for n in (4, 2)]
    spec = partial(
        TrainSpec, model=nn.Linear(1, 1), validation_step=lambda model, batch: {"size": float(batch[0].shape[1])}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counted = trainer(backend).validate(spec(batch_size=lambda batch: batch[0].shape[1]), batches)
        fixed = trainer(backend).validate(spec(batch_size=7), batches)
    assert counted["val/size"] == pytest.approx((4 * 4 + 2 * 2) / 6)
    assert fixed["val/size"] == 3.0
    with pytest.warns(
        UserWarning, match=r"the number of samples in a val batch is ambiguous; using 3.*TrainSpec\(batch_size=\)"
    ):
        trainer(backend).validate(spec(), [(one, {"a": more["a"], "b": more["b"]}) for one, more in batches])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("returned", [2.5, -1, None])
def test_count_that_is_none_is_refused(backend, returned):
    model = linear()
    before = model.weight.clone()
    spec = TrainSpec(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        batch_size=lambda batch: returned,
    )
    with pytest.raises(SpecError, match=r"TrainSpec\(batch_size=\) must return"):
        trainer(backend).fit(spec, [(X, Y)])
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_count_by_the_first_tensor_would_be_noticed(backend, monkeypatch):
    """The negative control: as it was."""
    first = lambda value: next(iter(tensors(value))).shape[0]  # noqa: E731
    monkeypatch.setattr(batches_of._Samples, "count", lambda self, value: first(value))
    monkeypatch.setattr(reference, "size_of", lambda run, value: first(value))
    with pytest.raises(AssertionError):
        test_means_are_over_samples("list of images", backend, ())


@pytest.mark.parametrize("backend", BACKENDS)
def test_vectorized_loader_counts_alike(backend):
    data = torch.utils.data.TensorDataset(X, Y)
    found = [
        trainer(backend).validate(TrainSpec(model=linear(), loss=nn.CrossEntropyLoss()), wrap(DataLoader(data, 4)))
        for wrap in (lambda loader: loader, vectorized)
    ]
    assert found[0] == found[1]
    assert found[0]["val/loss"] == pytest.approx(nn.functional.cross_entropy(linear()(X), Y).item(), rel=1e-6)
