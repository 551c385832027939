"""PredictionWriter: the same bytes on every backend, every sample once, and no file of another touched."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import ConfigError, PredictionWriter, SpecError, TrainSpec, UnifiedTrainer, UnitrainError
from unitrain.testing.trace import differences

FRAMEWORKS = ("reference", "lightning", "ignite")


def inputs(samples=7, seed=1):
    return torch.randn(samples, 3, generator=torch.Generator().manual_seed(seed))


def make_loader(samples=7, seed=1):
    return DataLoader(TensorDataset(inputs(samples, seed)), batch_size=3)


def make_spec(**changes):
    torch.manual_seed(0)
    return TrainSpec(**{"model": nn.Sequential(nn.Linear(3, 2), nn.Dropout()), **changes})


def expected(spec, data):
    with torch.no_grad():
        return [spec.model[0](batch) for batch in data.split(3)]


def predict(framework, writer, spec=None, data=None, **options):
    trainer = UnifiedTrainer(framework, enable_progress_bar=False, callbacks=[writer])
    return trainer.predict(spec or make_spec(), make_loader() if data is None else data, **options)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_batches_are_files(framework, tmp_path):
    spec = make_spec()
    writer = PredictionWriter(tmp_path / "out")
    returned = predict(framework, writer, spec)
    assert [path.name for path in writer.paths] == ["batch-00000.pt", "batch-00001.pt", "batch-00002.pt"]
    found = [torch.load(path, weights_only=True) for path in writer.paths]
    assert not differences(found, expected(spec, inputs()))
    assert not differences(found, returned)


def test_an_epoch_is_a_file(framework, tmp_path):
    spec = make_spec()
    for form in ("pt", "npy", "csv"):
        writer = PredictionWriter(tmp_path, "epoch", form)
        assert predict(framework, writer, spec, return_predictions=False) is None
        assert writer.paths == [tmp_path / f"predictions.{form}"]
    wanted = expected(spec, inputs())
    assert not differences(torch.load(tmp_path / "predictions.pt", weights_only=True), wanted)
    assert np.array_equal(np.load(tmp_path / "predictions.npy"), torch.cat(wanted).numpy())
    rows = list(csv.reader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert rows[0] == ["0", "1"]
    assert torch.equal(torch.tensor([[float(one) for one in row] for row in rows[1:]]), torch.cat(wanted))


@pytest.mark.parametrize("interval", ["batch", "epoch"])
@pytest.mark.parametrize("form", ["pt", "npy", "csv"])
def test_every_backend_writes_the_same_bytes(tmp_path, interval, form):
    data = {"clean": make_loader(), "noisy": make_loader(4, seed=2)}
    written = []
    for framework in FRAMEWORKS:
        predict(framework, PredictionWriter(tmp_path / framework, interval, form), data=data)
        written.append(files(tmp_path / framework))
    assert written[0] == written[1] == written[2]
    names = ["predictions"] if interval == "epoch" else ["batch-00000", "batch-00001", "batch-00002"]
    clean = [f"clean/{name}.{form}" for name in names]
    assert list(written[0]) == clean + [f"noisy/{name}.{form}" for name in names[:2]]


def test_a_seeded_fault_is_seen(framework, tmp_path, monkeypatch):
    """An epoch's batches in another order, and what is kept of a view, are noticed."""
    original = PredictionWriter._write
    backwards = lambda self, loader, name, some, whole: original(self, loader, name, some[::-1], whole=whole)  # noqa: E731
    monkeypatch.setattr(PredictionWriter, "_write", backwards)
    with pytest.raises(AssertionError):
        test_an_epoch_is_a_file(framework, tmp_path)
    monkeypatch.setattr(PredictionWriter, "_write", original)
    monkeypatch.setattr("unitrain.callbacks.prediction_writer.Mapped", lambda _: lambda value: value)
    with pytest.raises(AssertionError):
        test_a_part_of_a_large_tensor_is_written_alone(framework, tmp_path / "views")


def test_a_function_writes(framework, tmp_path):
    seen = []

    def writer(run, prediction, batch, index):
        seen.append((run.loader_name, index, torch.equal(run.model(batch[0]), prediction)))

    predict(framework, PredictionWriter(tmp_path, format=writer), data=[make_loader(), make_loader(4)])
    assert seen == [("0", 0, True), ("0", 1, True), ("0", 2, True), ("1", 0, True), ("1", 1, True)]
    assert not list(tmp_path.iterdir())


def test_a_second_prediction_replaces_the_first(framework, tmp_path):
    writer = PredictionWriter(tmp_path)
    predict(framework, writer)
    predict(framework, writer, data=make_loader(4, seed=2))
    assert list(files(tmp_path)) == ["batch-00000.pt", "batch-00001.pt"]
    assert torch.load(tmp_path / "batch-00001.pt", weights_only=True).shape == (1, 2)


@pytest.mark.parametrize("interval", ["batch", "epoch"])
def test_a_prediction_in_another_folder_stays(framework, tmp_path, monkeypatch, interval):
    writer = PredictionWriter("preds", interval)
    for fold, samples in (("fold0", 7), ("fold1", 4), ("fold0", 4)):
        (tmp_path / fold).mkdir(exist_ok=True)
        before = files(tmp_path)
        monkeypatch.chdir(tmp_path / fold)
        predict(framework, writer, data=make_loader(samples))
        after = files(tmp_path)
        assert [path for path in before if path not in after] == (
            ["fold0/preds/batch-00002.pt"] if before and fold == "fold0" and interval == "batch" else []
        )
        assert all(after[path] == before[path] for path in before if not path.startswith(fold))
    assert files(tmp_path / "fold0") == files(tmp_path / "fold1")
    assert len(after) == (4 if interval == "batch" else 2)


@pytest.mark.parametrize("interval", ["batch", "epoch"])
def test_a_file_of_another_is_never_replaced(framework, tmp_path, interval):
    name = "predictions.pt" if interval == "epoch" else "batch-00007.pt"
    (tmp_path / name).write_text("mine")
    (tmp_path / "notes.txt").write_text("mine too")
    with pytest.raises(ConfigError, match="was not written by this writer"):
        predict(framework, PredictionWriter(tmp_path, interval))
    assert files(tmp_path) == {name: b"mine", "notes.txt": b"mine too"}


def test_the_first_file_of_another_is_named(framework, tmp_path):
    for index in (7, 0, 4, 2, 9, 5):
        (tmp_path / f"batch-{index:05}.pt").write_text("mine")
    with pytest.raises(ConfigError, match=r"batch-00000\.pt already exists and was not written by this writer"):
        predict(framework, PredictionWriter(tmp_path))


def test_a_file_that_another_changed_or_made_meanwhile_stays(framework, tmp_path):
    writer = PredictionWriter(tmp_path)
    predict(framework, writer)
    (tmp_path / "batch-00002.pt").write_text("changed by somebody")
    with pytest.raises(ConfigError, match=r"batch-00002\.pt already exists and was not written by this writer"):
        predict(framework, writer)

    def step(model, batch):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / "batch-00000.pt").write_text("mine")
        return batch[0]

    with pytest.raises(ConfigError, match="was not written by this writer"):
        predict(framework, PredictionWriter(tmp_path / "new"), make_spec(predict_step=step))
    assert (tmp_path / "new" / "batch-00000.pt").read_text() == "mine"


def test_a_part_of_a_large_tensor_is_written_alone(framework, tmp_path):
    big = torch.zeros(1_000_000)
    writer = PredictionWriter(tmp_path)
    predict(framework, writer, make_spec(predict_step=lambda model, batch: {"first": big[:2], "n": 3}))
    assert writer.paths[0].stat().st_size < 10_000
    assert not differences(torch.load(writer.paths[0], weights_only=True), {"first": torch.zeros(2), "n": 3})


def test_csv_of_a_mapping(framework, tmp_path):
    def step(model, batch):
        return {"class": batch[0].argmax(1), "score": batch[0][:, :2]}

    predict(framework, PredictionWriter(tmp_path, "epoch", "csv"), make_spec(predict_step=step), [(torch.eye(3),)])
    assert (tmp_path / "predictions.csv").read_text() == "class,score.0,score.1\n0,1.0,0.0\n1,0.0,1.0\n2,0.0,0.0\n"


@pytest.mark.parametrize(
    ("form", "step"),
    [
        ("npy", lambda _, batch: {"a": batch[0]}),
        ("npy", lambda _, batch: batch[0].bfloat16()),
        ("csv", lambda _, batch: batch[0].sum()),
        ("csv", lambda _, batch: batch[0][None]),
        ("csv", lambda _, batch: {}),
        ("csv", lambda _, batch: {"a": batch[0], "b": batch[0][:1]}),
        ("csv", lambda _, batch: "text"),
    ],
    ids=["mapping", "bfloat16", "scalar", "three dimensions", "nothing", "uneven", "text"],
)
@pytest.mark.parametrize("interval", ["batch", "epoch"])
def test_a_prediction_that_does_not_fit_is_refused_at_once(tmp_path, interval, form, step):
    with pytest.raises(SpecError, match=rf"PredictionWriter\(format='{form}'\)"):
        predict("reference", PredictionWriter(tmp_path, interval, form), make_spec(predict_step=step))
    assert not files(tmp_path)


def test_uneven_batches_are_refused(tmp_path):
    def step(model, batch):
        return torch.zeros(len(batch[0]), len(batch[0]))

    for form in ("npy", "csv"):
        with pytest.raises(SpecError, match=rf"PredictionWriter\(format='{form}'\)"):
            predict("reference", PredictionWriter(tmp_path, "epoch", form), make_spec(predict_step=step))


def test_a_folder_that_cannot_be_written_is_named(framework, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnitrainError, match="could not be written"):
        predict(framework, PredictionWriter(tmp_path / "file" / "below"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"folder": 3}, "folder"),
        ({"folder": ""}, "folder"),
        ({"write_interval": "step"}, "write_interval"),
        ({"format": "parquet"}, "format"),
        ({"format": print, "write_interval": "epoch"}, "no effect"),
    ],
    ids=str,
)
def test_an_invalid_argument_is_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        PredictionWriter(**{"folder": "x", **arguments})


def test_own_code_returns_its_predictions():
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def predict_step(self, batch):
            return batch

    with pytest.raises(ConfigError, match="requires a TrainSpec"):
        UnifiedTrainer("ignite", enable_progress_bar=False).predict(Module(), [1], return_predictions=False)


def test_only_rank_0_looks_for_the_file_of_an_epoch(tmp_path):
    (tmp_path / "predictions.pt").write_bytes(b"of the prediction before, by rank 0")
    writer = PredictionWriter(tmp_path, write_interval="epoch")
    writer.on_predict_start(SimpleNamespace(rank=1, world_size=2))
    with pytest.raises(ConfigError, match="was not written by this writer"):
        writer.on_predict_start(SimpleNamespace(rank=0, world_size=2))
