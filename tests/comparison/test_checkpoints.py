"""Two checkpoints, of any program."""

import pytest
import torch

from tests.comparison import programs
from unitrain import UnifiedTrainer, compare
from unitrain.errors import CheckpointError, ConfigError
from unitrain.testing.models import loader
from unitrain.utilities.rng import seed_everything


def trained(path, framework="reference", seed=0, **options):
    seed_everything(seed)
    trainer = UnifiedTrainer(framework, enable_progress_bar=False, max_epochs=1, seed=0, **options)
    trainer.fit(programs.spec(), loader())
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: trained(folder / f"{name}.ckpt", name) for name in ("reference", "ignite", "lightning")}


@pytest.mark.parametrize("backend", ["ignite", "lightning"])
def test_checkpoints_of_the_backends_are_equal(files, backend):
    result = compare(files["reference"], files[backend])
    assert result.equal
    assert (result.steps, result.compared) == (None, ("weights", "optimizer states", "counters"))
    assert [one.name for one in result.sides] == ["reference.ckpt", f"{backend}.ckpt"]
    told = f"equal: reference.ckpt and {backend}.ckpt have the same weights, optimizer states and counters"
    assert " ".join(str(result).split()).startswith(told)
    assert [note for note in result.notes if "unitrain.hub" in note]  # it names the run


def changed(files, tmp_path, change):
    content = torch.load(files["reference"], weights_only=True)
    change(content)
    path = tmp_path / "changed.ckpt"
    torch.save(content, path)
    return compare(str(files["reference"]), str(path))


def test_one_ulp_in_a_weight_is_named(files, tmp_path):
    def change(content):
        programs.one_ulp(content["state_dict"]["model.4.weight"], (1, 2))

    result = changed(files, tmp_path, change)
    one = result.difference
    assert (one.step, one.phase, one.place, one.ulp) == (None, "weights", "4.weight[1, 2]", 1)
    assert result.status == "different"
    assert "1 ulp" in str(result)


def test_one_ulp_in_an_optimizer_is_named(files, tmp_path):
    def change(content):
        programs.one_ulp(content["optimizer_states"][0]["state"][1]["exp_avg"], (4,))

    one = changed(files, tmp_path, change).difference
    assert (one.phase, one.place, one.ulp) == ("optimizer states", "optimizer['state'][1]['exp_avg'][4]", 1)


def test_a_counter_is_named(files, tmp_path):
    one = changed(files, tmp_path, lambda content: content.update(global_step=7)).difference
    assert (one.phase, one.tensor, one.values, one.ulp) == ("counters", "steps", ("6", "7"), 1)


def test_other_names_of_weights_are_named(files, tmp_path):
    def change(content):
        weights = content["state_dict"]
        weights["model.head.weight"] = weights.pop("model.4.weight")

    one = changed(files, tmp_path, change).difference
    assert (one.phase, one.tensor) == ("weights", "4.weight")
    assert one.values == ("only here: 4.weight", "only here: head.weight")


def test_other_keys_are_named_and_do_not_count(files, tmp_path):
    def change(content):
        content["mine"] = 3
        content["unitrain"]["hparams"] = {"width": 8}
        del content["callbacks"]

    result = changed(files, tmp_path, change)
    assert result.equal
    assert "keys only in changed.ckpt: mine." in result.notes
    assert "keys only in reference.ckpt: callbacks." in result.notes
    assert any(note.startswith("other keys that differ: ") and "unitrain.hparams" in note for note in result.notes)


def test_nan_in_both_files_is_equal(files, tmp_path):
    for name in ("a", "b"):
        torch.save({"weight": torch.tensor([1.0, torch.nan])}, tmp_path / f"{name}.pt")
    assert compare(tmp_path / "a.pt", tmp_path / "b.pt").equal


def test_a_file_of_weights_alone_is_compared_in_its_weights(files, tmp_path):
    weights = torch.load(files["reference"], weights_only=True)["state_dict"]
    torch.save({name.removeprefix("model."): value for name, value in weights.items()}, tmp_path / "weights.pt")
    result = compare(files["reference"], tmp_path / "weights.pt")
    assert result.equal
    assert result.compared == ("weights",)
    assert "only reference.ckpt has optimizer states: not compared." in result.notes


def test_files_of_the_same_name_are_told_apart(files, tmp_path):
    (tmp_path / "reference.ckpt").write_bytes(files["reference"].read_bytes())
    result = compare(files["reference"], tmp_path / "reference.ckpt")
    assert [one.name for one in result.sides] == [str(files["reference"]), str(tmp_path / "reference.ckpt")]


def test_what_is_no_checkpoint_is_refused(tmp_path, files):
    with pytest.raises(CheckpointError, match=r"missing\.ckpt"):
        compare(files["reference"], tmp_path / "missing.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing")
    with pytest.raises(CheckpointError):
        compare(files["reference"], tmp_path / "text.ckpt")


@pytest.mark.parametrize(
    "option", [{"steps": 3}, {"frameworks": ["ignite"]}, {"trainer": {}}, {"bisect": "x"}], ids=str
)
def test_options_of_runs_are_refused(files, option):
    with pytest.raises(ConfigError, match="has no effect on two checkpoints"):
        compare(files["reference"], files["ignite"], **option)
