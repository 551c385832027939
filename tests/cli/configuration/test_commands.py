"""`unitrain fit`, `validate`, `test` and `predict` on a small project, in this process."""

import json

import pytest
import torch
import yaml

FIT = ("fit", "--config", "run.yaml")


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_fit_has_a_folder_with_all_that_it_was(run, project):
    status, out, err = run(*FIT)
    assert (status, err) == (0, "")
    assert "2 epochs, 10 steps on reference" in out
    folder = project / "runs" / "1"
    assert {one.name for one in folder.iterdir()} == {
        "config.yaml",
        "run.json",
        "metrics.csv",
        "hparams.json",
        "checkpoints",
    }
    assert {one.name for one in (folder / "checkpoints").iterdir()} == {"epoch=1-step=10.ckpt", "last.ckpt"}
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["framework"], record["seed"], record["step"]) == ("finished", "reference", 7, 10)
    assert record["config"] == (folder / "config.yaml").read_text()
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3


def test_the_next_fit_has_the_next_folder(run, project):
    (project / "runs" / "4").mkdir(parents=True)
    (project / "runs" / "notes").write_text("mine")
    assert run(*FIT, "--trainer.max_epochs", 1)[0] == 0
    assert sorted(one.name for one in (project / "runs").iterdir()) == ["4", "5", "notes"]


def test_a_configuration_is_complete_and_reads_back_as_itself(run, project):
    printed = run(*FIT, "--print_config")[1]
    tree = yaml.safe_load(printed)
    assert tree["spec"]["optimizer"]["init_args"]["betas"] == [0.9, 0.999]
    assert tree["spec"]["optimizer"]["init_args"]["foreach"] is None
    assert tree["trainer"]["gradient_clip_val"] is None
    assert tree["trainer"]["limit_val_batches"] == 1.0
    (project / "again.yaml").write_text(printed)
    assert run("fit", "--config", "again.yaml", "--print_config")[1] == printed
    assert not (project / "runs").exists()


def test_trackers_get_the_configuration(run, project):
    run(*FIT, "--trainer.max_epochs", 1)
    told = json.loads((project / "runs/1/hparams.json").read_text())
    assert told["spec"]["optimizer"]["init_args"]["lr"] == 0.01
    assert told == yaml.safe_load((project / "runs/1/config.yaml").read_text())


def test_a_seed_is_drawn_once_and_saved(run, project):
    text = (project / "run.yaml").read_text().replace("seed: 7\n", "")
    (project / "run.yaml").write_text(text)
    assert yaml.safe_load(run(*FIT, "--print_config")[1])["seed"] is None
    run(*FIT)
    run(*FIT)
    first, second = ((project / f"runs/{number}/checkpoints/last.ckpt") for number in (1, 2))
    assert not same(weights(first), weights(second))
    run("fit", "--config", "runs/1/config.yaml")
    assert same(weights(first), weights(project / "runs/3/checkpoints/last.ckpt"))


def test_the_best_and_the_last_checkpoint_of_a_run(run, project):
    run(
        *FIT,
        "--trainer.callbacks+={class_path: unitrain.ModelCheckpoint, init_args: {monitor: val/acc, mode: max, save_last: true}}",
    )
    run(*FIT, "--spec.optimizer.lr", 1)  # its checkpoints are not meant
    for role in ("best", "last"):
        status, out, err = run("validate", "--config", "runs/1/config.yaml", "--ckpt_path", role)
        assert (status, err) == (0, "")
        assert "val/acc" in out
    assert not (project / "runs" / "3").exists()


def test_an_evaluation_measures_the_checkpoint(run, project):
    run(*FIT)
    history = json.loads((project / "runs/1/run.json").read_text())["history"]
    out = run("validate", "--config", "runs/1/config.yaml", "--ckpt_path", "last")[1]
    assert f"{history[-1]['val/loss']:.6g}" in out
    status, out, err = run("test", "--config", "run.yaml")
    assert status == 0
    assert "without --ckpt_path" in err
    assert f"{history[-1]['val/loss']:.6g}" not in out


def test_predictions_go_into_a_new_file(run, project):
    run(*FIT)
    best = ("predict", "--config", "runs/1/config.yaml", "--ckpt_path", "best")
    assert run(*best, "--output", "p.pt")[0] == 0
    found = torch.load("p.pt", weights_only=True)
    assert [tuple(one.shape) for one in found] == [(8, 3), (8, 3)]
    status, _, err = run(*best, "--output", "p.pt")
    assert status == 1
    assert "p.pt already exists" in err
    writer = "{class_path: unitrain.PredictionWriter, init_args: {folder: out, write_interval: epoch, format: csv}}"
    assert run(*best, f"--trainer.callbacks+={writer}")[0] == 0
    assert (project / "out/predictions.csv").exists()
    status, _, err = run(*best)
    assert status == 1
    assert "nothing would keep the predictions" in err


def test_a_fit_is_resumed_in_a_new_folder(run, project):
    run(*FIT, "--trainer.max_epochs", 3)
    run(*FIT)
    resumed = ("--config", "runs/2/config.yaml", "--ckpt_path", "last")
    with pytest.warns(UserWarning, match="stay there and are not ranked"):
        assert run("fit", *resumed, "--trainer.max_epochs", 3)[0] == 0
    assert same(weights("runs/1/checkpoints/last.ckpt"), weights("runs/3/checkpoints/last.ckpt"))


def test_a_smoke_test_writes_nothing(run, project):
    before = {one.name for one in project.iterdir()}
    assert run(*FIT, "--trainer.fast_dev_run", "true")[0] == 0
    assert {one.name for one in project.iterdir()} - {"__pycache__"} == before


def test_a_failed_run_keeps_its_record(run, project):
    (project / "breaks.py").write_text(
        "from torch import nn\n\ndef loss(output, target):\n    raise RuntimeError('at last')\n"
    )
    with pytest.raises(RuntimeError, match="at last"):
        run(*FIT, "--spec.loss", "breaks.loss", "--spec.loss.init_args", "{}")
    record = json.loads((project / "runs/1/run.json").read_text())
    assert (record["status"], record["error"]["message"]) == ("failed", "at last")
    assert (project / "runs/1/config.yaml").exists()


def test_warnings_are_kept_with_the_run(run, project):
    (project / "warns.py").write_text(
        "import warnings\n\ndef rate(output, target):\n    warnings.warn('beware')\n    return 0.0\n"
    )
    with pytest.warns(UserWarning, match="beware"):
        run(*FIT, "--spec.metrics.odd", "warns.rate")
    noted = json.loads((project / "runs/1/run.json").read_text())["warnings"]
    assert [(one["category"], one["message"]) for one in noted] == [("UserWarning", "beware")]


@pytest.mark.parametrize("made", ["tiny.data", "tiny.pair", "tiny.Module"])
def test_data_is_a_spec_a_pair_or_a_datamodule(run, made):
    status, out, err = run(*FIT, "--data", made, "--data.batch_size", 4, "--trainer.max_epochs", 1)
    assert (status, err) == (0, "")
    assert "val/loss" in out
