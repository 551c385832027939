"""``InferenceEngine``: the bits of the file or of ``trainer.predict``; what comes in comes out."""

import subprocess
import sys
from functools import partial

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
import torch
from torch import nn

import unitrain
from unitrain import InferenceEngine, TrainSpec, UnifiedTrainer

ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
BACKENDS = ("lightning", "ignite", "reference")


class Two(nn.Module):
    def forward(self, a, b):
        return {"sum": a + b, "product": (a * b).sum(-1)}


def test_onnx_gives_the_bits_of_onnxruntime(onnx):
    session = onnxruntime.InferenceSession(str(onnx))
    expected = session.run(None, {session.get_inputs()[0].name: ROWS.numpy()})[0]
    engine = InferenceEngine(onnx)
    assert np.array_equal(engine.predict(ROWS.numpy()), expected)
    assert torch.equal(engine.predict(ROWS), torch.from_numpy(expected))
    assert engine.predict(ROWS.tolist()) == expected.tolist()
    assert engine.serve(ROWS.tolist()) == expected.tolist()
    assert (
        engine.predict(ROWS[0].tolist())
        == session.run(None, {session.get_inputs()[0].name: ROWS[:1].numpy()})[0][0].tolist()
    )
    assert isinstance(engine.native, onnxruntime.InferenceSession)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".pt"])
@pytest.mark.filterwarnings("ignore:TorchScript is deprecated")
def test_several_inputs_and_outputs(tmp_path, suffix):
    path = tmp_path / f"two{suffix}"
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    unitrain.export_module(Two(), path, example_input=(a, b), output_names=["sum", "product"])
    engine = InferenceEngine(path)
    names = [one.name for one in engine.signature.inputs]
    for given in (dict(zip(names, (a, b), strict=True)), (a, b)):
        found = engine.predict(given)
        assert list(found) == ["sum", "product"]
        assert torch.equal(found["sum"], a + b)
    listed = engine.predict(dict(zip(names, (a.tolist(), b.tolist()), strict=True)))
    assert listed["sum"] == (a + b).tolist()


def test_pre_and_post_processing_of_the_export(tmp_path):
    class Scale(nn.Module):
        def forward(self, x):
            return x / 255

    path = tmp_path / "around.onnx"
    net = nn.Linear(4, 3)
    unitrain.export_module(
        net, path, example_input=torch.rand(2, 4) * 255, preprocess=Scale(), postprocess=nn.Softmax(-1)
    )
    x = torch.rand(3, 4) * 255
    assert torch.allclose(InferenceEngine(path).predict(x), torch.softmax(net(x / 255), -1), atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_trainer_predicts_with_its_real_object(backend, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    spec = TrainSpec(model=net, loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = UnifiedTrainer(backend, max_epochs=1, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.fit(spec, [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(2)])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    expected = trainer.predict(spec, [ROWS])[0]
    engine = InferenceEngine(trainer)
    assert torch.equal(engine.predict(ROWS), expected)
    assert engine.native is trainer.native
    assert type(engine.native).__name__ == {"lightning": "Trainer", "ignite": "Engine"}.get(
        backend, type(engine.native).__name__
    )
    assert engine.predict(ROWS.tolist()) == expected.tolist()
    other = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    restored = InferenceEngine(tmp_path / "last.ckpt", model=other, framework=backend)
    assert torch.equal(restored.predict(ROWS), expected)
    assert torch.equal(torch.from_numpy(restored.predict(ROWS.numpy())), expected)


def test_a_file_of_onnx_needs_no_torch(onnx):
    script = (
        "import sys; from unitrain import InferenceEngine\n"
        f"print(InferenceEngine({str(onnx)!r}).predict([1.0, 2.0, 3.0, 4.0]))\n"
        "assert not {'torch', 'ignite', 'lightning', 'pytorch_lightning'} & set(sys.modules), 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1.0, 2.0], "got the shape"),
        (np.ones((2, 4), complex), "complex128"),
        (np.ones((2, 4, 1), np.float32), "got the shape"),
        ({"other": [1.0]}, "no input 'other'"),
        ("text", "nested lists"),
        (None, "nested lists"),
        ([["a"] * 4], "a text"),
        ([], "no rows"),
    ],
)
def test_bad_inputs_are_refused(onnx, given, told):
    with pytest.raises(unitrain.DataError, match=told):
        InferenceEngine(onnx).predict(given)


def test_arguments_that_do_not_belong_together(onnx, tmp_path):
    checkpoint = tmp_path / "a.ckpt"
    checkpoint.write_bytes(b"")
    trainer = UnifiedTrainer("reference", max_epochs=1)
    for call in (
        lambda: InferenceEngine(onnx, framework="ignite"),
        lambda: InferenceEngine(onnx, model=nn.Linear(4, 3)),
        lambda: InferenceEngine(checkpoint),
        lambda: InferenceEngine(trainer),
        lambda: InferenceEngine(trainer, threads=2),
        lambda: InferenceEngine(""),
    ):
        with pytest.raises(unitrain.ConfigError):
            call()
    for name in ("missing.onnx", "model.txt"):
        with pytest.raises(unitrain.ExportError):
            InferenceEngine(tmp_path / name)


def test_a_foreign_file_is_served_by_its_graph(tmp_path):
    helper = onnx_format.helper
    x = helper.make_tensor_value_info("x", onnx_format.TensorProto.INT64, [None, 2])
    y = helper.make_tensor_value_info("y", onnx_format.TensorProto.INT64, [None, 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx_format.save(model, tmp_path / "foreign.onnx")
    engine = InferenceEngine(tmp_path / "foreign.onnx")
    assert engine.predict([[1, 2], [3, 4]]) == [[2, 4], [6, 8]]
    assert engine.predict([1.0, 2.0]) == [2, 4]
    for bad, told in (
        ([1.5, 2], "whole"),
        ([2**63, 1], "beyond"),
        ([True, 1], "true or false"),
        ([2.0**60, 0.0], "beyond"),
    ):
        with pytest.raises(unitrain.DataError, match=told):
            engine.predict(bad)
