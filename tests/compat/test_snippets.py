"""The snippets of MIGRATION.md: what each does today as people copy it, and unitrain's form on both backends."""

import re
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ignite
import ignite.handlers
import optuna
import pytest
import pytorch_lightning as pl
import redis
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unitrain

optuna.logging.set_verbosity(optuna.logging.ERROR)

PAGE = (Path(__file__).parents[2] / "MIGRATION.md").read_text()
SECTION = PAGE.partition("## Outdated snippets\n")[2].partition("\n## ")[0]
PAIRS = {
    text.partition("\n")[0]: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for text in SECTION.split("\n### ")[1:]
}


class Today(NamedTuple):
    """What a snippet does: the error it raises, the warnings it gives, and what is to be seen of its result."""

    raises: type[Exception] | None = None
    says: tuple[str, ...] = ()
    shows: object = None


TODAY = {
    "Half precision as a number": Today(
        says=(r"`precision=16` is supported for historical reasons", r"AMP with fp16 is not supported on CPU"),
        shows=lambda found: found["trainer"].precision == "bf16-mixed",
    ),
    "F1 with a number of classes": Today(TypeError, ("missing 1 required positional argument: 'task'",)),
    "F1 of Ignite": Today(ImportError, ("cannot import name 'F1'",)),
    "Ignite's contrib loggers": Today(says=("has been moved to",)),
    "A learning rate from optuna": Today(says=("suggest_loguniform has been deprecated",) * 2),
    "Trials in Redis": Today(AttributeError, ("has no attribute RedisStorage",)),
    "A pruning callback from optuna": Today(says=("pytorch_lightning` has been deprecated",)),
    "Export from Lightning": Today(says=("to_torchscript` has been deprecated", "torch.jit.script` is deprecated")),
    "ONNX with an opset": Today(shows=lambda found: written(Path("model.onnx")) == (18, 1, True)),
    "Early stopping in Ignite": Today(TypeError, ("missing 1 required positional argument: 'trainer'",)),
    "Autocast of torch.cuda.amp": Today(
        says=("torch.cuda.amp.autocast", "CUDA is not available"),
        shows=lambda found: found["output"].dtype is torch.float32,
    ),
    "A number of GPUs": Today(TypeError, ("unexpected keyword argument 'gpus'",)),
    "Removed strategies": Today(ValueError, ("invalid strategy name",)),
}


def written(path):
    """Return the opset of an ONNX file, its batch size, and whether there is a second file."""
    import onnx

    graph = onnx.load(path)
    return (
        graph.opset_import[0].version,
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value,
        path.with_suffix(".onnx.data").exists(),
    )


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 10)

    def forward(self, inputs):
        return self.net(inputs)


def names(**more):
    """Return what the snippets take for granted."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(40, 6), torch.randint(0, 10, (40,)))
    loader = DataLoader(data, 8)
    spec = unitrain.TrainSpec(
        model=nn.Linear(6, 10), loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.1)
    )
    own = {name: getattr(unitrain, name) for name in unitrain.__all__}
    return {
        **own, "replace": replace, "partial": partial, "torch": torch, "nn": nn, "pl": pl, "ignite": ignite,
        "torchmetrics": torchmetrics, "optuna": optuna, "spec": spec, "model": nn.Linear(6, 10),
        "train_loader": loader, "val_loader": loader, "pl_module": Module(), **more,
    }  # fmt: skip


def ran(code, **more):
    """Run ``code`` and return its names, its error and what it warned of."""
    found, error = names(**more), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(compile(code, "snippet", "exec"), found)
        except Exception as raised:  # noqa: BLE001 - whatever it raises is compared
            error = raised
    return found, error, [str(one.message) for one in caught]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_snippet_of_the_page_has_its_check():
    assert list(PAIRS) == list(TODAY)
    assert all(len(pair) == 2 for pair in PAIRS.values())


@pytest.mark.parametrize("title", TODAY)
def test_what_people_copy_does_today_what_the_page_says(title):
    today = TODAY[title]
    found, error, said = ran(PAIRS[title][0])
    assert type(error) is (today.raises or type(None)), error
    told = [str(error)] if error else said
    for expected in today.says:
        assert any(expected.replace("`", "") in one.replace("`", "") for one in told), told
        told = [one for one in told if expected not in one] if today.says.count(expected) == 1 else told
    assert today.shows is None or today.shows(found)


@pytest.fixture
def locked_redis(redis_url):
    """Yield the address and the password of a Redis server."""
    client, password = redis.Redis.from_url(redis_url), "p@ss/word"
    client.config_set("requirepass", password)
    yield {"redis_url": redis_url, "redis_password": password}
    client.config_set("requirepass", "")
    client.flushdb()


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
@pytest.mark.parametrize("title", TODAY)
def test_the_form_of_unitrain_runs_on_both_backends_and_says_nothing(title, framework, request):
    given = request.getfixturevalue("locked_redis") if title == "Trials in Redis" else {}
    _, error, said = ran(PAIRS[title][1], framework=framework, **given)
    if error is not None:
        raise error
    assert [one for one in said if not OF_OTHERS.search(one)] == []


OF_OTHERS = re.compile(
    # what torch deprecates within Ignite's and its own modules as they are imported
    r"torch.jit.(script|script_method|interface)` is deprecated|isinstance\(treespec, LeafSpec\)"
    # this loader has no workers
    r"|does not have many workers"
)


def test_a_form_that_fails_is_noticed():
    _, error, _ = ran("UnifiedTrainer(framework, precision=17)", framework="ignite")
    assert isinstance(error, unitrain.ConfigError)
