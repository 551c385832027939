"""Whose weight and whose state: by name where there are names, refused where two answers are possible."""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, TrainSpec, UnifiedTrainer, convert_checkpoint, load_weights
from unitrain.checkpoint import io
from unitrain.testing.trace import differences

ENGINE = {"epoch_length": 3, "max_epochs": 4, "iteration": 6}


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))


def batches():
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(4, 4, generator=generator), torch.arange(4)) for _ in range(3)]


def grouped(model, swapped=False, decay=0.1, named=False):
    """Return an optimizer of two groups: the weights with decay, the biases without."""
    weights = [(name, one) for name, one in model.named_parameters() if one.dim() > 1]
    biases = [(name, one) for name, one in model.named_parameters() if one.dim() == 1]
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    if not named:
        for group in groups:
            group["params"] = [one for _, one in group["params"]]
    return torch.optim.AdamW(groups[::-1] if swapped else groups, lr=0.01)


def spec_of(make):
    model = net()
    return TrainSpec(model=model, loss=nn.CrossEntropyLoss(), optimizer=make(model))


def stepped(make):
    """Return a model and its optimizer after six steps."""
    model = net()
    optimizer = make(model)
    for inputs, classes in batches() * 2:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), classes).backward()
        optimizer.step()
    return model, optimizer


def file_of(path, make, **more):
    model, optimizer = stepped(make)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "trainer": ENGINE, **more}, path)
    return model


def end_of(make, path):
    spec = spec_of(make)
    UnifiedTrainer("reference", max_epochs=4, enable_progress_bar=False).fit(spec, batches(), ckpt_path=path)
    return dict(spec.model.state_dict())


def straight(make):
    spec = spec_of(make)
    UnifiedTrainer("reference", max_epochs=4, enable_progress_bar=False).fit(spec, batches())
    return dict(spec.model.state_dict())


def test_groups_in_the_same_order_go_on(tmp_path):
    file_of(tmp_path / "a.pt", grouped)
    left = convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec_of(grouped))
    assert any("matched by position" in line for line in left)
    assert not differences(straight(grouped), end_of(grouped, tmp_path / "b.ckpt"))


def test_swapped_groups_are_refused(tmp_path):
    file_of(tmp_path / "a.pt", partial(grouped, swapped=True))
    with pytest.raises(CheckpointError, match=r"are in a different order than the spec's.*0 -> 1, 1 -> 0"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec_of(grouped))
    assert not (tmp_path / "b.ckpt").exists()


def halves(model, swapped=False):
    """Return an optimizer of two groups that are told apart by their options only."""
    groups = [
        {"params": list(model[0].parameters()), "weight_decay": 0.1},
        {"params": list(model[2].parameters()), "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups[::-1] if swapped else groups, lr=0.01)


def test_swapped_groups_of_equal_shapes_are_told_by_their_options(tmp_path):
    """Without the refusal torch says nothing, and the run ends elsewhere."""
    file_of(tmp_path / "a.pt", partial(halves, swapped=True))
    with pytest.raises(CheckpointError, match="different order"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec_of(halves))
    left = convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable")
    assert any("matched by position" in line for line in left)
    assert differences(straight(halves), end_of(halves, tmp_path / "b.ckpt"))


@pytest.mark.parametrize("swapped", [False, True])
def test_names_bring_swapped_groups_to_their_places(swapped, tmp_path):
    file_of(tmp_path / "a.pt", partial(grouped, swapped=swapped, named=True))
    left = convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec_of(grouped))
    assert not any("position" in line for line in left)
    assert not differences(straight(grouped), end_of(grouped, tmp_path / "b.ckpt"))


def test_names_bring_swapped_parameters_to_their_places(tmp_path):
    def one_group(model, backwards=False):
        parameters = list(model.named_parameters())
        return torch.optim.AdamW(parameters[::-1] if backwards else parameters, lr=0.01)

    file_of(tmp_path / "a.pt", partial(one_group, backwards=True))
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec_of(one_group))
    assert not differences(straight(one_group), end_of(one_group, tmp_path / "b.ckpt"))


def test_names_of_other_groups_are_refused(tmp_path):
    file_of(tmp_path / "a.pt", partial(grouped, named=True))
    with pytest.raises(CheckpointError, match=r"groups hold \[\['0.weight', '2.weight'\]"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=net())


def test_other_options_are_told(tmp_path):
    file_of(tmp_path / "a.pt", partial(grouped, decay=0.2))
    left = convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec_of(grouped))
    assert any("group 0: weight_decay=0.2, not 0.1" in line for line in left)


def test_another_number_of_groups_is_refused(tmp_path):
    file_of(tmp_path / "a.pt", grouped)
    for template in (net(), spec_of(lambda model: torch.optim.AdamW(model.parameters()))):
        with pytest.raises(CheckpointError, match=r"its groups contain \[2, 2\], the spec's \[4\]"):
            convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=template)


def test_another_schedule_is_refused(tmp_path):
    model, optimizer = stepped(grouped)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "trainer": ENGINE}
    torch.save({**content, "lr_scheduler": schedule.state_dict()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds 1 learning-rate schedules of torch's, and the spec 0"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec_of(grouped))
    other = TrainSpec(
        model=net(),
        loss=nn.CrossEntropyLoss(),
        optimizer=grouped,
        lr_scheduler=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=4),
    )
    given = copy.copy(other.model)
    object.__setattr__(other, "optimizer", grouped(given))
    with pytest.raises(CheckpointError, match="has a different type"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=other)
    assert all("initial_lr" not in group for group in other.optimizer.param_groups), "the template stays as it was"


WRAPPED = {
    "as it is": lambda name: name,
    "DistributedDataParallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "a compiled part": lambda name: name.replace("0.", "0._orig_mod."),
}


@pytest.mark.parametrize("known", ["template", "part", "nothing"])
@pytest.mark.parametrize("how", WRAPPED)
def test_wrappers_are_taken_off(how, known, tmp_path):
    torch.save({"model": {WRAPPED[how](key): one for key, one in net().state_dict().items()}}, tmp_path / "a.pt")
    more = {"template": {"template": net()}, "part": {"part": "model"}, "nothing": {}}[known]
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "w.safetensors", to="safetensors", **more)
    assert not differences(dict(net().state_dict()), load_weights(tmp_path / "w.safetensors"))


def lightning_file(path, **parts):
    """Write what a LightningModule with the submodules ``parts`` would save."""
    state = {f"{part}.{key}": one for part, model in parts.items() for key, one in model.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4.0", "epoch": 0, "global_step": 0}, path)


def test_one_attribute_before_all_names_is_ambiguous(tmp_path):
    lightning_file(tmp_path / "a.ckpt", net=net())
    with pytest.raises(CheckpointError, match="all names start with 'net'") as caught:
        convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "w.safetensors", to="safetensors")
    assert "part='net'" in str(caught.value)
    for part, first in (("net", "0.weight"), ("", "net.0.weight")):
        convert_checkpoint(tmp_path / "a.ckpt", tmp_path / f"w{part}.safetensors", to="safetensors", part=part)
        assert first in load_weights(tmp_path / f"w{part}.safetensors")
    with pytest.raises(CheckpointError, match="no name starts with part='modle'; they start with net"):
        convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "other.safetensors", to="safetensors", part="modle")


def test_two_that_fit_are_named(tmp_path):
    student = net()
    teacher = nn.Sequential(*(copy.deepcopy(one) for one in student))
    nn.init.zeros_(teacher[0].weight)
    lightning_file(tmp_path / "a.ckpt", student=student, teacher=teacher)
    torch.save({"student": student.state_dict(), "teacher": teacher.state_dict()}, tmp_path / "a.pt")
    for path in (tmp_path / "a.ckpt", tmp_path / "a.pt"):
        with pytest.raises(CheckpointError, match=r"several matching models: the names after 'student.', 'teacher.'"):
            convert_checkpoint(path, tmp_path / "none.safetensors", to="safetensors", template=net())
        for part, model in (("student", student), ("teacher", teacher)):
            given = {"to": "safetensors", "part": part, "template": net(), "overwrite": True}
            left = convert_checkpoint(path, tmp_path / "w.safetensors", **given)
            assert not differences(dict(model.state_dict()), load_weights(tmp_path / "w.safetensors"))
            assert any("entries that are not part of the model" in line for line in left)
    with pytest.raises(CheckpointError, match="contains the models 'student', 'teacher'"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "none.safetensors", to="safetensors")


def test_several_models_are_the_submodules_of_one(tmp_path):
    both = nn.ModuleDict({"gen": net(), "disc": net()})
    torch.save({name: one.state_dict() for name, one in both.items()}, tmp_path / "a.pt")
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "w.safetensors", to="safetensors", template=both)
    assert not differences(dict(both.state_dict()), load_weights(tmp_path / "w.safetensors"))


def other_models():
    wider = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4))
    deeper = nn.Sequential(*net(), nn.Tanh(), nn.Linear(4, 4))
    return {
        "fewer": (nn.Sequential(nn.Linear(4, 4)), "unexpected: 2.weight, 2.bias"),
        "more": (deeper, "missing: 4.weight, 4.bias"),
        "wider": (wider, r"of another shape: 0.weight \(\(4, 4\) in the file, \(5, 4\) in the model\)"),
        "another": (nn.ModuleDict({"a": nn.Linear(4, 4)}), "missing: a.weight, a.bias; unexpected: 0.weight"),
    }


@pytest.mark.parametrize("kind", other_models())
def test_another_model_is_refused_with_its_names(kind, tmp_path):
    model, said = other_models()[kind]
    file_of(tmp_path / "a.pt", grouped)
    for to in ("portable", "lightning", "ignite", "safetensors"):
        with pytest.raises(CheckpointError, match=said):
            convert_checkpoint(tmp_path / "a.pt", tmp_path / "out", to=to, template=model)
    assert not (tmp_path / "out").exists()


def test_a_portable_file_is_compared_with_the_template_too(tmp_path):
    file_of(tmp_path / "a.pt", grouped)
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "run.ckpt", to="portable", template=spec_of(grouped))
    with pytest.raises(CheckpointError, match=r"missing: 4\.weight"):
        convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "x", to="lightning", template=other_models()["more"][0])
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "x", to="lightning", template=nn.ModuleDict({"deep": net()}))
    assert set(io.read(tmp_path / "x")["state_dict"]) == {f"deep.{name}" for name in net().state_dict()}


def test_swapped_states_of_two_parameters_are_noticed(tmp_path):
    file_of(tmp_path / "a.pt", lambda model: torch.optim.Adam(model.parameters(), lr=0.01))
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    states = content["optimizer"]["state"]
    states[0], states[1] = states[1], states[0]
    torch.save(content, tmp_path / "a.pt")
    said = re.escape("at position 0 it has {'exp_avg': (4,), 'exp_avg_sq': (4,)} for a parameter of shape (4, 4)")
    for template in (net(), spec_of(lambda model: torch.optim.Adam(model.parameters(), lr=0.01))):
        with pytest.raises(CheckpointError, match=said):
            convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=template)


def test_optimizers_of_other_names_are_refused(tmp_path):
    model = nn.ModuleDict({"gen": net(), "disc": net()})
    states = {f"{name}_optimizer": torch.optim.Adam(one.parameters()).state_dict() for name, one in model.items()}
    torch.save({"model": model.state_dict(), **states, "trainer": ENGINE}, tmp_path / "a.pt")
    spec = TrainSpec(
        model=model,
        optimizer=dict.fromkeys(model, torch.optim.Adam),
        automatic_optimization=False,
        training_step=lambda run, batch: None,
    )
    with pytest.raises(CheckpointError, match="gen_optimizer, disc_optimizer, the spec has gen"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable", template=spec)
