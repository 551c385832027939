"""Faults that reviewers found: each is refused, or told, before anything is trained."""

import json

import pytest
import yaml

from tests.cli.configuration.conftest import everything
from unitrain.cli import main

FIT = ("fit", "--config", "run.yaml")
BOMB = "x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 10))
MERGED = "x0: &x0 {a: 1}\n" + "".join(f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loggers", "[{class_path: m.Log, init_args: {api_key: SECRET1}}]"),
        ("loggers", "{class_path: m.Log, init_args: {api_key: SECRET1}}"),
        ("loggers", "[{class_path: m.Log, init_args: {api_key: [SECRET1]}}]"),
        ("loggers", "[{class_path: m.Log, init_args: {headers: {Authorization: Bearer SECRET1}}}]"),
        ("loggers", "[{class_path: m.Log, init_args: {uri: 'https://SECRET1SECRET1SECRET1@host'}}]"),
        ("loggers", "[{class_path: m.Log, init_args: {api_key: SECRET1"),
    ],
    ids=["key", "no-list", "list", "header", "address", "not-yaml"],
)
def test_secrets_are_refused_and_not_repeated(run, project, key, value):
    before = everything(project)
    status, out, err = run(*FIT, f"--trainer.{key}", value)
    assert (status, out) == (1, "")
    assert "SECRET" not in err
    assert "secret" in err or "password" in err or "not valid YAML" in err
    assert everything(project) == before


@pytest.mark.parametrize("secret", ["SECRET1", "[SECRET1]", "{a: SECRET1}"])
def test_a_replaced_secret_is_not_repeated(run, secret):
    arguments = ("--spec.loss", f"{{class_path: m.Loss, init_args: {{api_key: {secret}}}}}", "--spec.loss", "m.Other")
    status, _, err = run(*FIT, *arguments)
    assert status == 1
    assert "would be lost: api_key=***" in err
    assert "SECRET" not in err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("hparams.api_key.x", "hparams.api_key is ***, which has no keys"),
        ("hparams.api_key+", "is ***, which is no list"),
    ],
)
def test_a_secret_of_the_file_is_not_repeated(project, run, option, said):
    (project / "secret.yaml").write_text("spec: {hparams: {api_key: SECRET1}}\n")
    status, _, err = run("fit", "--config", "secret.yaml", f"--spec.{option}", "1")
    assert status == 1
    assert said in err
    assert "SECRET" not in err


LEAKS = """
from torch import nn

TOLD = "cannot log in with api_key=SECRET1 at https://me:SECRET2@host"

class Net(nn.Module):
    def __init__(self):
        raise ValueError(TOLD)

def loss(output, target):
    raise ValueError(TOLD)
"""


def test_secrets_in_errors_of_a_class_are_not_repeated(project, run):
    (project / "leaks.py").write_text(LEAKS)
    status, _, err = run(*FIT, "--spec.model", "leaks.Net", "--spec.model.init_args", "{}")
    assert status == 1
    assert "leaks.Net raised ValueError: cannot log in with api_key=*** at https://host (at " in err
    assert "SECRET" not in err


def test_an_error_within_a_library_names_the_line_that_led_to_it(project, run):
    status, _, err = run(*FIT, "--data.batch_size", 0)
    assert status == 1
    line = 1 + (project / "tiny.py").read_text().splitlines().index(
        "        train=DataLoader(train, batch_size, shuffle=True), val=loader, test=loader, predict=[x for x, _ in loader]"
    )
    assert "data: tiny.data raised ValueError: batch_size should be a positive integer" in err
    assert f"(at {project / 'tiny.py'}:{line})" in err


def test_secrets_in_errors_of_training_are_not_recorded(project, run):
    (project / "leaks.py").write_text(LEAKS)
    with pytest.raises(ValueError, match="cannot log in"):
        run(*FIT, "--spec.loss", "leaks.loss", "--spec.loss.init_args", "{}")
    told = (project / "runs/1/run.json").read_text()
    assert "cannot log in with api_key=*** at https://host" in told
    assert "SECRET" not in told


def test_a_special_token_of_a_tokenizer_is_no_secret(project, run):
    (project / "special.yaml").write_text("spec: {model: tiny.Net, hparams: {pad_token: '[PAD]'}}\n")
    status, _, err = run("fit", "--config", "special.yaml")
    assert status == 1
    assert "width" in err


def test_a_resumed_run_says_so(run, project):
    run(*FIT, "--trainer.max_epochs", 1)
    with pytest.warns(UserWarning, match="not ranked"):
        run("fit", "--config", "runs/1/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 2)
    first, second = (json.loads((project / f"runs/{number}/run.json").read_text()) for number in (1, 2))
    assert first["resumed_from"] is None
    assert second["resumed_from"] == "runs/1/checkpoints/last.ckpt"
    told = "note: runs/2 was resumed from runs/1/checkpoints/last.ckpt; without --ckpt_path, this run starts anew.\n"
    assert run("fit", "--config", "runs/2/config.yaml", "--trainer.fast_dev_run", "true")[2] == told
    assert run("fit", "--config", "runs/1/config.yaml", "--trainer.fast_dev_run", "true")[2] == ""
    (project / "runs/2/run.json").write_text("{")
    assert run("fit", "--config", "runs/2/config.yaml", "--trainer.fast_dev_run", "true")[2] == ""


def test_a_resumed_run_that_was_at_its_end_says_so(run, project):
    run(*FIT)
    with pytest.warns(UserWarning, match="not ranked"):
        status, out, err = run("fit", "--config", "runs/1/config.yaml", "--ckpt_path", "last")
    assert (status, err) == (0, "note: nothing was trained: runs/1/checkpoints/last.ckpt has reached max_epochs.\n")
    assert "runs/2 has the configuration and the record." in out


def test_help_says_what_resumes_a_run_again(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert 'run.json has as "resumed_from"' in capsys.readouterr().out


@pytest.mark.parametrize("before", [("--seed", "5"), ("junk",), ("--junk",)], ids=" ".join)
def test_arguments_before_the_command_are_refused(before, project, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*before, *FIT, "--print_config"])
    assert ended.value.code == 2
    assert not capsys.readouterr().out


@pytest.mark.parametrize("bomb", [BOMB, MERGED], ids=["lists", "merge keys"])
def test_aliases_that_stand_for_billions_are_refused(run, project, bomb):
    (project / "bomb.yaml").write_text(bomb)
    status, _, err = run("fit", "--config", "bomb.yaml")
    assert status == 1
    assert "too many values" in err


def test_an_option_may_not_stand_for_billions_either(run):
    bomb = ", ".join(f"&x{n} [{', '.join([f'*x{n - 1}' if n else '1'] * 9)}]" for n in range(9))
    status, _, err = run(*FIT, "--trainer.native", f"[{bomb}]")
    assert status == 1
    assert "--trainer.native has too many values" in err


def test_odd_scalars_of_a_file_are_what_yaml_1_2_says(run, project):
    (project / "odd.yaml").write_text(
        "spec: {hparams: {day: 2024-01-01, count: 1_000, flag: on, time: 10:00:00, 3: x}}\n"
    )
    status, out, err = run(*FIT, "--config", "odd.yaml", "--print_config")
    assert (status, err) == (0, "")
    told = {"day": "2024-01-01", "count": 1000, "flag": "on", "time": "10:00:00", 3: "x"}
    assert yaml.safe_load(out)["spec"]["hparams"] == told
