"""The random states of a device: kept in checkpoints, restored on any backend, and untouched by an evaluation."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from tests.checkpoint import test_resume as resume
from tests.gpu.training import loader, on, spec, trainer
from unitrain import Event, ModelCheckpoint
from unitrain.checkpoint import io
from unitrain.checkpoint.layout import KEY
from unitrain.testing import cases
from unitrain.testing.trace import differences, record

# From the reference to a backend, from one backend to the other, and back: each writes and each reads.
PAIRS = [("reference", "lightning"), ("lightning", "ignite"), ("ignite", "reference"), ("ignite", "ignite")]
MIDWAY = resume.BATCHES + 2
CASES = {
    "dropout": resume.case_of("dropout", spec=cases.spec),
    "attention, dropout": resume.case_of("attention", spec=partial(cases.spec, "transformer", "groups", "plateau")),
    "batch norm": resume.case_of("cnn"),
    "16-mixed": resume.case_of(
        "16-mixed", spec=cases.spec, options={"precision": "16-mixed", "gradient_clip_val": 0.5}
    ),
    "bf16-mixed": resume.case_of("bf16-mixed", spec=cases.spec, options={"precision": "bf16-mixed"}),
}


def placed(name, device):
    return replace(CASES[name], options=on(device, CASES[name]))


@cache
def whole(name, device):
    return record("reference", placed(name, device))


@pytest.mark.parametrize(("writer", "reader"), PAIRS, ids=lambda name: name)
@pytest.mark.parametrize("name", CASES)
def test_a_run_cut_within_an_epoch_goes_on_elsewhere_with_the_same_bits(name, writer, reader, device, tmp_path):
    case = placed(name, device)
    resume.written(writer, case, MIDWAY, tmp_path / "run.ckpt")
    resume.assert_goes_on(whole(name, device), resume.resumed(reader, case, tmp_path / "run.ckpt"))


@pytest.mark.gpu
def test_a_checkpoint_has_the_state_of_the_devices_generator(framework, tmp_path):
    device, case = torch.device("cuda", 0), placed("dropout", torch.device("cuda", 0))
    resume.written(framework, case, MIDWAY, tmp_path / "run.ckpt")
    (state,) = io.read(tmp_path / "run.ckpt")[KEY]["progress"]["rng"]["cuda"]
    assert state.device.type == "cpu"
    fresh = torch.Generator(device).manual_seed(1234)  # the run drew from it since it was seeded
    assert state.shape == fresh.get_state().shape
    assert not torch.equal(state, fresh.get_state())


@pytest.mark.gpu
def test_a_resume_that_lost_the_devices_state_is_noticed(framework, tmp_path):
    """The control: dropout draws on the device, so another state there makes other bits."""
    case, path = placed("dropout", torch.device("cuda", 0)), tmp_path / "run.ckpt"
    resume.written(framework, case, MIDWAY, path)
    content = io.read(path)
    content[KEY]["progress"]["rng"]["cuda"] = [torch.Generator("cuda").manual_seed(99).get_state()]
    io.write(tmp_path / "other.ckpt", content)
    with pytest.raises(AssertionError):
        resume.assert_goes_on(
            whole("dropout", torch.device("cuda", 0)), resume.resumed(framework, case, tmp_path / "other.ckpt")
        )


@pytest.mark.gpu
@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_checkpoint_can_be_resumed_on_another_kind_of_device(first, then, framework, tmp_path):
    """Its bits are others, for other devices add in another order; what must hold is that it goes on, with its states."""
    case, path = placed("batch norm", torch.device(first)), tmp_path / "run.ckpt"
    resume.written(framework, case, MIDWAY, path)
    trace = resume.resumed(framework, placed("batch norm", torch.device(then)), path)
    assert trace.outcome[:3] == whole("batch norm", torch.device("cpu")).outcome[:3]
    assert {value.device.type for value in trace.weights.values()} == {then}


def test_the_state_of_a_device_that_is_not_here_is_left_alone(framework, tmp_path):
    """A file from a machine with a GPU is resumed on one without."""
    case, path = resume.case_of("dropout", spec=cases.spec, options={"accelerator": "cpu"}), tmp_path / "run.ckpt"
    resume.written(framework, case, MIDWAY, path)
    content = io.read(path)
    content[KEY]["progress"]["rng"]["cuda"] = [torch.zeros(16, dtype=torch.uint8)]
    io.write(path, content)
    resume.assert_goes_on(record("reference", case), resume.resumed(framework, case, path))


def test_an_evaluation_leaves_the_devices_generator_as_it_was(framework, device):
    """With and without a validation that draws on the device, the training is the same."""

    def drawing(model, batch):
        inputs, target = batch
        return model(inputs + torch.rand_like(inputs)), target

    def trained(limit):
        own, losses = spec(validation_step=drawing), []
        made = trainer(framework, device, limit_val_batches=limit)
        made.on(Event.BATCH_END, lambda run: losses.append(run.state.loss))
        made.fit(own, loader(device), loader(device))
        return [*losses, *own.model.state_dict().values()]

    with_validation, without = trained(1.0), trained(0)
    assert all(torch.equal(one, other) for one, other in zip(with_validation, without, strict=True))


def test_a_thread_writes_the_states_of_the_batch_that_asked_for_them(framework, device, tmp_path):
    """The run goes on meanwhile, and changes the weights on the device."""

    def files(folder, **options):
        kept = ModelCheckpoint(folder, every_n_train_steps=3, save_top_k=-1, **options)
        trainer(framework, device, callbacks=[kept]).fit(spec("cnn", optimizer=torch.optim.AdamW), loader(device))
        return {path.name: io.read(path) for path in folder.glob("*.ckpt")}

    at_once, later = files(tmp_path / "at once"), files(tmp_path / "later", asynchronous=True)
    assert len(at_once) == 4
    for part in ("state_dict", "optimizer_states"):
        found = [{name: content[part] for name, content in some.items()} for some in (at_once, later)]
        assert not differences(*found)
