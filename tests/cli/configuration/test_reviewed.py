"""Faults that reviewers found: each is refused, or told, before anything is trained."""

import json

import pytest

from tests.cli.configuration.conftest import everything
from unitrain.cli import main

FIT = ("fit", "--config", "run.yaml")
BOMB = "x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 10))


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


def test_a_replaced_secret_is_not_repeated(run):
    arguments = ("--spec.loss", "{class_path: m.Loss, init_args: {api_key: SECRET1}}", "--spec.loss", "m.Other")
    status, _, err = run(*FIT, *arguments)
    assert status == 1
    assert "would be lost: api_key=***" in err


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


@pytest.mark.parametrize("before", [("--seed", "5"), ("junk",), ("--junk",)], ids=" ".join)
def test_arguments_before_the_command_are_refused(before, project, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*before, *FIT, "--print_config"])
    assert ended.value.code == 2
    assert not capsys.readouterr().out


def test_aliases_that_stand_for_billions_are_refused(run, project):
    (project / "bomb.yaml").write_text(BOMB)
    status, _, err = run("fit", "--config", "bomb.yaml")
    assert status == 1
    assert "too many values" in err
