"""What public scripts of older releases brought to light: helpers for argparse, and arguments of callbacks."""

import pytest

from tests.migrate.checks import check_person, check_transformed, migrated, told
from unitrain.migrate.findings import Severity

PARSED = """
import argparse
import pytorch_lightning as pl

parser = argparse.ArgumentParser()
{}
args = parser.parse_args([{}])
{}
"""


@pytest.mark.parametrize(
    ("options", "line", "made", "told_then"),
    [
        ("parser = pl.Trainer.add_argparse_args(parser)", "", "args", "None 1.0 50"),
        ("pl.Trainer.add_argparse_args(parser)", "'--max_epochs', '3'", "args, limit_train_batches=2", "3 2 50"),
        (
            "parent = pl.Trainer.add_argparse_args(parser)\nparser = argparse.ArgumentParser(parents=[parent], add_help=False)",
            "'--limit_train_batches', '0.5'",
            "args, max_epochs=args.max_steps",
            "-1 0.5 50",
        ),
        ("parser.add_argument('--max-epochs', '-e', type=int, default=4)", "'-e', '5'", "args", "5 1.0 50"),
        (
            "pl.Trainer.add_argparse_args(parser)\nparser.set_defaults(max_epochs=2, logger=False)",
            "",
            "args",
            "2 1.0 50",
        ),
    ],
)
def test_argparse_helpers_become_options(options, line, made, told_then):
    script = PARSED.format(options, line, f"trainer = pl.Trainer.from_argparse_args({made})")
    outcome = migrated(script)
    assert not outcome.has(Severity.PERSON), told(outcome)
    assert not migrated(outcome.text).told
    names = {}
    exec(compile(outcome.text, "script", "exec"), names)
    config = names["trainer"].config
    assert f"{config.max_epochs} {config.limit_train_batches} {config.log_every_n_steps}" == told_then


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("trainer = pl.Trainer.from_argparse_args(args)\n", 2),
        ("parse(pl.Trainer.add_argparse_args(parser).parse_args())\n", 2),
        ("pl.Trainer.add_argparse_args(parser)\nargs = parser.parse_args()\nif args.gpus > 1: pass\n", 2),
        ("args = parser.parse_args()\npl.Trainer.from_argparse_args(args, **more)\n", 3),
        ("args = parser.parse_args()\nmake = pl.Trainer.from_argparse_args\n", 3),
        ("class D(pl.LightningDataModule): pass\nD.add_argparse_args(parser)\n", 3),
        ("from bolts import MNISTDataModule\ndata = MNISTDataModule.from_argparse_args(args)\n", 3),
    ],
)
def test_argparse_helpers_that_are_left_for_a_person(text, line):
    check_person("import pytorch_lightning as pl\n" + text, "lightning-argparse", line)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            'ModelCheckpoint(filepath="kept/m-{epoch}", period=2)',
            'ModelCheckpoint(dirpath="kept", filename="m-{epoch}", every_n_epochs=2)',
        ),
        (
            'ModelCheckpoint(filepath="kept/", verbose=True)',
            'ModelCheckpoint(dirpath="kept/", filename="{epoch}", verbose=True)',
        ),
        (
            'ModelCheckpoint(filepath=os.path.join(d, "a", f"{n}-{{epoch}}"))',
            'ModelCheckpoint(dirpath=os.path.join(d, "a"), filename=f"{n}-{{epoch}}")',
        ),
        ('ModelCheckpoint(filepath=os.path.join(d, "{epoch}"))', 'ModelCheckpoint(dirpath=d, filename="{epoch}")'),
        ('ModelCheckpoint(filepath=None, prefix="", monitor="x")', 'ModelCheckpoint(monitor="x")'),
        ('ModelCheckpoint(monitor="val_acc", mode="auto")', 'ModelCheckpoint(monitor="val_acc", mode="max")'),
        ('EarlyStopping("val_acc", mode="auto")', 'EarlyStopping("val_acc", mode="min")'),
        ('EarlyStopping(monitor="acc", mode="auto")', 'EarlyStopping(monitor="acc", mode="max")'),
        ("LearningRateLogger()", "LearningRateMonitor()"),
    ],
)
def test_arguments_of_callbacks(before, after):
    head = "import os\nfrom pytorch_lightning import callbacks\n"
    check_transformed(f"{head}callbacks.{before}\n", f"{head}callbacks.{after}\n")


@pytest.mark.parametrize(
    "given",
    [
        'ModelCheckpoint(filepath="kept")',
        "ModelCheckpoint(filepath=where)",
        'ModelCheckpoint(filepath=os.path.join(d, "kept"))',
        'ModelCheckpoint(filepath="a/{epoch}", dirpath="b")',
        'ModelCheckpoint(prefix="best")',
        'ModelCheckpoint(monitor=name, mode="auto")',
        "EarlyStopping()",
    ],
)
def test_arguments_of_callbacks_that_are_left_for_a_person(given):
    check_person(
        f"import os\nfrom pytorch_lightning import callbacks\ncallbacks.{given}\n", "lightning-callback-arguments", 3
    )


def test_results_of_steps_are_left_for_a_person():
    check_person("import pytorch_lightning as pl\nresult = pl.TrainResult(loss)\n", "lightning-gone", 2)
