"""Bad input of `unitrain fit` and its like: what is typed, what the error says, and what it hints at.

`{name}` of an argument is a file of FILES, which is written first.
"""

from typing import NamedTuple

OK = ("--config", "run.yaml")
SPEC = """
framework: reference
seed: 0
spec:
  model: {class_path: tiny.Net, init_args: {width: 4}}
  loss: torch.nn.CrossEntropyLoss
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
data: tiny.data
"""
FILES = {
    "empty.yaml": b"",
    "comment.yaml": b"# nothing\n",
    "binary.yaml": b"\x00\xff\xfe\x01",
    "control.yaml": b"a: \x07",
    "list.yaml": b"- fit\n- test\n",
    "text.yaml": b"just a text\n",
    "broken.yaml": b"trainer: {max_epochs: 3\nspec: 1\n",
    "two.yaml": b"seed: 1\n---\nseed: 2\n",
    "tag.yaml": b"seed: !!python/object/apply:os.getcwd []\n",
    "set.yaml": b"seed: !!set {1}\n",
    "date.yaml": b"seed: !!timestamp 2024-01-01\n",
    "word.yaml": b"seed: !!bool maybe\n",
    "list_key.yaml": b"? [a, b]\n: 1\n",
    "number_key.yaml": b"3: x\n",
    "deep.yaml": b"spec: " + b"[" * 5000,
    "twice.yaml": SPEC.encode() + b"trainer:\n  max_epochs: 1\n  max_epochs: 2\n",
    "huge.yaml": b"seed: " + b"9" * 5000,
    "cycle.yaml": b"spec: &a {model: *a}\n",
    "root.yaml": SPEC.encode() + b"trainr: {max_epochs: 1}\n",
    "key.yaml": SPEC.encode() + b"trainer: {max_epoch: 1}\n",
    "section.yaml": SPEC.encode() + b"trainer: 3\n",
    "nan.yaml": SPEC.replace("lr: 0.1", "lr: .nan").encode(),
    "variable.yaml": SPEC.replace("tiny.data", '{class_path: tiny.data, init_args: {count: "${COUNT}"}}').encode(),
    "bare.yaml": SPEC.replace("tiny.data", "{class_path: tiny.data, init_args: {count: ${COUNT}}}").encode(),
    "password.yaml": SPEC.encode()
    + b"trainer: {loggers: [{class_path: unitrain.MLflowLogger, init_args: {tracking_uri: 'http://me:hunter2@host'}}]}\n",
    "no_optimizer.yaml": SPEC.replace("optimizer:", "hparams:").encode(),
    "no_model.yaml": SPEC.replace("model:", "hparams:").encode(),
    "no_loss.yaml": SPEC.replace("  loss: torch.nn.CrossEntropyLoss\n", "").encode(),
    "no_data.yaml": SPEC.replace("data: tiny.data\n", "").encode(),
    "no_framework.yaml": SPEC.replace("framework: reference\n", "").encode(),
    "flat.yaml": SPEC.replace("init_args: {lr: 0.1}", "lr: 0.1").encode(),
    "badmodule.py": b"import no_such_package\n",
    "syntax.py": b"def broken(:\n",
    "exits.py": b"raise SystemExit(3)\n",
    "exists.pt": b"mine",
    "run/config.yaml": b"{}",
}


class Bad(NamedTuple):
    """A bad input.

    Attributes:
        arguments: What is typed after `unitrain`.
        said: What the error says, where {{hint}} may be in it.
        hint: What the hint says.
    """

    arguments: tuple[str, ...]
    said: str
    hint: str


def fit(*arguments, said, hint):
    return Bad(("fit", *map(str, arguments)), said, hint)


def file(name, said, hint):
    return Bad(("fit", "--config", name), said, hint)


def option(key, value, said, hint):
    return Bad(("fit", *OK, f"--{key}", str(value)), said, hint)


BAD = {
    # --- the command line
    "no-config": fit(said="--config is missing", hint="--config run.yaml"),
    "config-without-a-name": fit("--config", said="--config needs a value", hint="--config VALUE"),
    "a-bare-file": fit("run.yaml", said="unexpected argument 'run.yaml'", hint="--config run.yaml"),
    "abbreviated": fit(
        *OK, "--trainer.max_epoch", 7, said="--trainer.max_epoch: unknown key", hint="did you mean 'max_epochs'?"
    ),
    "two-near-keys": fit(
        *OK,
        "--trainer.epochs",
        7,
        said="--trainer.epochs: unknown key",
        hint="did you mean 'max_epochs' or 'min_epochs'?",
    ),
    "a-key-without-its-section": fit(
        *OK, "--max_epoch", 7, said="unknown option --max_epoch", hint="did you mean --trainer.max_epochs?"
    ),
    "one-dash": fit("-c", "run.yaml", said="unexpected argument '-c'", hint="two dashes: --config run.yaml"),
    "an-optimizer-without-its-section": fit(
        *OK, "--lr", 0.1, said="unknown option --lr", hint="did you mean --spec.optimizer.lr?"
    ),
    "a-model-without-its-section": fit(
        *OK, "--model.width", 7, said="unknown option --model.width", hint="did you mean --spec.model.width?"
    ),
    "a-batch-size-without-its-section": fit(
        *OK, "--batch-size", 7, said="unknown option --batch-size", hint="did you mean --data.batch_size?"
    ),
    "abbreviated-config": fit("--conf", "run.yaml", said="unknown option --conf", hint="did you mean '--config'?"),
    "a-hyphen": fit(*OK, "--ckpt-path", "x", said="unknown option --ckpt-path", hint="'--ckpt_path'"),
    "override-first": fit(
        "--trainer.max_epochs",
        3,
        *OK,
        said="--trainer.max_epochs comes before --config run.yaml",
        hint="--config run.yaml --trainer.max_epochs VALUE",
    ),
    "override-between": fit(*OK, "--seed", 3, *OK, said="--seed comes before", hint="--config run.yaml --seed"),
    "no-value": fit(*OK, "--trainer.compile", said="--trainer.compile needs a value", hint="--trainer.compile VALUE"),
    "a-flag-with-a-value": fit(*OK, "--print_config=yes", said="--print_config takes no value", hint="--print_config"),
    "an-option-twice": fit(
        *OK, "--ckpt_path", "a", "--ckpt_path", "b", said="--ckpt_path is given twice", hint="remove one"
    ),
    "no-list": fit(
        *OK, "--trainer.max_epochs+=3", said="trainer.max_epochs is 2, which is no list", hint="replaces it"
    ),
    "no-such-item": fit(*OK, "--trainer.callbacks.3.patience", 1, said="the list has 1 items", hint="numbered from 0"),
    "below-a-number": fit(
        *OK, "--trainer.max_epochs.x", 1, said="trainer.max_epochs is 2, which has no keys", hint="replaces it"
    ),
    "broken-mapping": option(
        "spec.optimizer", "{class_path: torch.optim.SGD", "is not valid YAML", "class_path: package.Class"
    ),
    # --- files
    "no-such-file": file("nowhere.yaml", "there is no file nowhere.yaml", "unitrain init"),
    "a-folder": file(".", "could not be read: Is a directory", "unitrain init"),
    "a-folder-of-a-run": file("run", "run could not be read: Is a directory", "--config run/config.yaml"),
    "empty": file("empty.yaml", "empty.yaml is empty", "unitrain init"),
    "only-a-comment": file("comment.yaml", "comment.yaml is empty", "unitrain init"),
    "binary": file("binary.yaml", "binary.yaml is not a text file", "unitrain init"),
    "control-characters": file("control.yaml", "control.yaml is not YAML", "unitrain init"),
    "a-list": file("list.yaml", "list.yaml:1: a configuration is a mapping", "unitrain init"),
    "a-text": file("text.yaml", "text.yaml:1: a configuration is a mapping", "unitrain init"),
    "broken": file("broken.yaml", "broken.yaml:2: not valid YAML", "quote texts"),
    "two-documents": file("two.yaml", "two.yaml:2: not valid YAML", "quote texts"),
    "a-tag": file("tag.yaml", "tag.yaml:1: not valid YAML: could not determine a constructor", "quote texts"),
    "a-set": file("set.yaml", "set.yaml:1: not valid YAML: could not determine a constructor", "quote texts"),
    "a-date": file("date.yaml", "date.yaml:1: not valid YAML: could not determine a constructor", "quote texts"),
    "a-word-for-a-bool": file("word.yaml", "word.yaml is not YAML", "unitrain init"),
    "a-list-for-a-key": file("list_key.yaml", "list_key.yaml:1: not valid YAML: found unhashable key", "quote texts"),
    "a-number-for-a-key": file("number_key.yaml", "number_key.yaml:1: 3: unknown key", "accepted are"),
    "many-levels": file("deep.yaml", "deep.yaml is not YAML", "unitrain init"),
    "a-key-twice": file(
        "twice.yaml", "twice.yaml:11: trainer.max_epochs is given twice, also in line 10", "remove one"
    ),
    "a-huge-number": file("huge.yaml", "huge.yaml is not YAML", "unitrain init"),
    "a-cycle": file("cycle.yaml", "spec.model contains itself", "write its contents out"),
    "nan": file("nan.yaml", "nan.yaml:7: spec.optimizer.init_args.lr: is NaN", "use a number"),
    "a-variable": file(
        "variable.yaml",
        "variable.yaml:8: data.init_args.count: variables are not replaced",
        '--data.init_args.count "$COUNT"',
    ),
    "a-bare-variable": file("bare.yaml", "bare.yaml:8: not valid YAML", "variables such as ${DATA} are not replaced"),
    "a-password": file(
        "password.yaml", "trainer.loggers.0.init_args.tracking_uri: contains a password", "environment variables"
    ),
    # --- keys at each level
    "unknown-root": file("root.yaml", "root.yaml:9: trainr: unknown key", "did you mean 'trainer'?"),
    "unknown-trainer-key": file("key.yaml", "key.yaml:9: trainer.max_epoch: unknown key", "did you mean 'max_epochs'?"),
    "a-number-for-a-section": file(
        "section.yaml", "section.yaml:9: trainer: must be a mapping; got 3", "trainer: {...}"
    ),
    "unknown-spec-key": option(
        "spec.optimzer", "torch.optim.SGD", "spec.optimzer: unknown key", "did you mean 'optimizer'?"
    ),
    "unknown-node-key": file("flat.yaml", "flat.yaml:7: spec.optimizer.lr: unknown key", "init_args: {lr: ...}"),
    "unknown-argument": option(
        "spec.model.widht", 3, "spec.model.init_args.widht: Net has no argument 'widht'", "did you mean 'width'?"
    ),
    "unknown-deep-argument": option(
        "spec.model.activation",
        "{class_path: torch.nn.ReLU, init_args: {inplac: true}}",
        "spec.model.init_args.activation.init_args.inplac: torch.nn.ReLU has no argument",
        "did you mean 'inplace'?",
    ),
    "trainer-seed": option("trainer.seed", 3, "trainer.seed: unknown key", "--seed 0"),
    # --- values
    "a-wrong-type": option(
        "trainer.max_epochs", "many", "--trainer.max_epochs: must be an integer of at least 1", "max_epochs"
    ),
    "a-wrong-argument": option(
        "spec.model.width", "wide", "spec.model.init_args.width: must be int; got 'wide'", "the signature"
    ),
    "a-wrong-union": option(
        "spec.optimizer.lr",
        "fast",
        "spec.optimizer.init_args.lr: must be float or torch.Tensor; got 'fast'",
        "the signature",
    ),
    "a-float-for-an-int": option("spec.model.width", 3.5, "must be int; got 3.5", "the signature"),
    "a-negative-seed": option("seed", -1, "--seed: must be", "seed"),
    "a-contradiction": option(
        "trainer.min_epochs", 9, "min_epochs=9 is greater than max_epochs=2", "lower the minimum"
    ),
    "no-text-for-the-framework": option("framework", 3, "--framework: must be a name; got 3", "framework: lightning"),
    "unknown-framework": option(
        "framework", "lightening", "framework='lightening' is unknown", "did you mean 'lightning'?"
    ),
    "no-framework": file("no_framework.yaml", "framework is missing", "--framework lightning"),
    "a-metric-with-a-slash": option(
        "spec.metrics",
        "{a/b: {name: accuracy, num_classes: 3}}",
        "spec.metrics.a/b: a metric's name has no slash",
        "val/acc",
    ),
    "an-unknown-metric": option(
        "spec.metrics.acc.name", "acuracy", "metric() does not know 'acuracy'", "did you mean 'accuracy'?"
    ),
    "a-metric-without-a-name": option(
        "spec.metrics", "{f: {num_classes: 3}}", "spec.metrics.f: must name a metric", "name: accuracy"
    ),
    # --- classes
    "an-unknown-class": option(
        "trainer.callbacks",
        "[unitrain.EarlyStoping]",
        "unitrain has no 'EarlyStoping'",
        "did you mean 'EarlyStopping'?",
    ),
    "an-argument-of-a-callback": option(
        "trainer.callbacks.0.monitr", "x", "EarlyStopping has no argument 'monitr'", "did you mean 'monitor'?"
    ),
    "a-missing-argument": option(
        "trainer.callbacks",
        "[unitrain.EarlyStopping]",
        "trainer.callbacks.0.init_args.monitor: is missing",
        "init_args: {monitor: ...}",
    ),
    "no-callbacks-at-all": option(
        "trainer.callbacks", "[3]", "trainer.callbacks.0: must name a class and its arguments; got 3", "class_path"
    ),
    "one-callback-without-a-list": option(
        "trainer.callbacks", "{class_path: unitrain.EarlyStopping}", "trainer.callbacks: must be a list", "[{class_path"
    ),
    "a-short-name": option(
        "spec.optimizer",
        "{class_path: SGD, init_args: {}}",
        "must be the name of a class or function with its module; got 'SGD'",
        "torch.optim.AdamW",
    ),
    "no-such-module": option(
        "spec.model",
        "{class_path: nowhere.Net, init_args: {}}",
        "there is no module 'nowhere'",
        "in the folder of the file",
    ),
    "a-module-that-fails": option(
        "spec.model",
        "{class_path: badmodule.Net, init_args: {}}",
        "the module 'badmodule' could not be imported: ModuleNotFoundError",
        "correct the module",
    ),
    "a-module-with-an-error": option(
        "spec.model",
        "{class_path: syntax.Net, init_args: {}}",
        "the module 'syntax' could not be imported: SyntaxError",
        "correct the module",
    ),
    "a-module-that-exits": option(
        "spec.model",
        "{class_path: exits.Net, init_args: {}}",
        "the module 'exits' could not be imported: SystemExit",
        "correct the module",
    ),
    "no-callable": option(
        "spec.model", "{class_path: tiny.number, init_args: {}}", "tiny.number is a int", "name a class"
    ),
    "another-base": option(
        "spec.model",
        "{class_path: torch.optim.SGD, init_args: {}}",
        "torch.optim.SGD is not a torch.nn.Module",
        "name a torch.nn.Module",
    ),
    "a-model-for-an-optimizer": option(
        "spec.optimizer",
        "{class_path: tiny.Net, init_args: {}}",
        "tiny.Net is not a torch.optim.Optimizer",
        "torch.optim.Optimizer",
    ),
    "a-model-for-a-schedule": option(
        "spec.lr_scheduler", "{class_path: tiny.Net, init_args: {}}", "tiny.Net is not a scheduler", "scheduler"
    ),
    "another-base-below": option(
        "spec.model.activation",
        "torch.optim.SGD",
        "must be torch.nn.modules.module.Module or null; got 'torch.optim.SGD'",
        "the signature",
    ),
    "positional-arguments": option(
        "spec.model",
        "{class_path: torch.nn.Sequential, init_args: {args: []}}",
        "Sequential has no argument 'args'",
        "write a function that returns Sequential",
    ),
    "a-model-that-raises": option(
        "spec.model",
        "{class_path: tiny.Wanting, init_args: {}}",
        "tiny.Wanting raised ValueError: width must be positive (at ",
        "correct its arguments",
    ),
    "a-function-of-another-kind": option(
        "spec.model", "{class_path: tiny.triple, init_args: {}}", "must be a torch.nn.Module", "model="
    ),
    "another-class": option(
        "spec.optimizer",
        "torch.optim.SGD",
        "torch.optim.SGD replaces torch.optim.AdamW, whose arguments would be lost: lr=0.01, weight_decay=0.1",
        "--spec.optimizer.NAME VALUE",
    ),
    "another-class-by-its-key": option(
        "spec.optimizer.class_path", "torch.optim.SGD", "would be lost: lr=0.01", "--spec.optimizer.init_args '{}'"
    ),
    # --- what a fit needs
    "no-model": file("no_model.yaml", "spec.model: is missing", "class_path: package.Net"),
    "no-optimizer": file("no_optimizer.yaml", "spec.optimizer: is missing", "torch.optim.AdamW"),
    "no-loss": file("no_loss.yaml", "spec.loss: is missing", "training_step: package.function"),
    "no-data": file("no_data.yaml", "data: is missing", "class_path: package.Digits"),
    "several-optimizers": option(
        "spec.optimizer",
        "{layers: {class_path: torch.optim.SGD}, more: {class_path: torch.optim.SGD}}",
        "several optimizers (layers, more)",
        "automatic_optimization: false",
    ),
    "a-tuple-of-three": option(
        "data", "{class_path: tiny.triple, init_args: {}}", "it made a tuple of 3", "unitrain.DataSpec"
    ),
    "no-monitored-metric": option("trainer.callbacks.0.monitor", '""', "monitor", ""),
    "an-unset-variable": option("trainer.max_epochs", "", "--trainer.max_epochs has an empty value", "null means none"),
    "an-infinite-rate": option("spec.optimizer.lr", ".inf", "must be finite", "lr=1e-3"),
    "no-such-checkpoint": fit(
        *OK, "--ckpt_path", "x.ckpt", said="--ckpt_path 'x.ckpt': there is no such file", hint="best, last or a path"
    ),
    "no-run-to-continue": fit(
        *OK, "--ckpt_path", "last", said="--ckpt_path last: no checkpoint was found", hint="runs/N/config.yaml"
    ),
    # --- evaluation
    "evaluate-no-run": Bad(
        ("validate", *OK, "--ckpt_path", "best"), "--ckpt_path best: no checkpoint was found", "runs/N/config.yaml"
    ),
    "test-data": Bad(
        ("test", *OK, "--data", "{class_path: tiny.pair, init_args: {}}"),
        "it makes no data for `test`",
        "DataSpec(test=loader)",
    ),
    "evaluate-without-data": Bad(
        ("validate", "--config", "no_data.yaml"), "data: is missing", "class_path: package.Digits"
    ),
    "no-data-to-predict": Bad(
        ("predict", *OK, "--data", "tiny.train_alone", "--data.init_args", "{}", "--output", "p.pt"),
        "it makes no data for `predict`",
        "DataSpec(predict=loader)",
    ),
    "predictions-for-nobody": Bad(("predict", *OK), "nothing would keep the predictions", "--output predictions.pt"),
    "predictions-over-a-file": Bad(
        ("predict", *OK, "--output", "exists.pt"), "exists.pt already exists", "another name"
    ),
    "predictions-of-another-kind": Bad(("predict", *OK, "--output", "p.csv"), "must end in .pt", "PredictionWriter"),
    "output-of-a-fit": fit(*OK, "--output", "p.pt", said="unknown option --output", hint="accepted are"),
}
"""By name."""
