"""One use of what each extra is for: it works with the extra, and without it says which extra to install.

Run as a program: ``python features.py EXTRA`` in an empty folder prints ``works``, or the error and its hint.
"""

import contextlib
import io
import sys
from functools import partial
from pathlib import Path

import torch

import unitrain
from unitrain import TrainSpec, UnifiedTrainer, UnitrainError


def spec():
    return TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))


def batches():
    return [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]


def fit(framework="reference", **options):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, **options)
    result = trainer.fit(spec(), batches())
    assert result.step == 3
    return trainer, result


def export(name, **options):
    module = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    report = unitrain.export_module(module, name, example_input=torch.randn(8, 4), **options)
    assert report.path.exists()
    return report.path


def command(*arguments, expected=0):
    """Run a command; what it prints to standard error is the error of another exit status than the expected one."""
    from unitrain.cli import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(arguments)
    if status != expected:
        message, _, hint = said.getvalue().strip().partition("\nHint: ")
        raise UnitrainError(message, hint=hint)


def lightning_monorepo():
    fit("lightning")
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    rows = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.randn(8, 1))
    loader = torch.utils.data.DataLoader(rows, batch_size=4)
    result = UnifiedTrainer("lightning", max_epochs=1, enable_progress_bar=False).fit(Module(), loader)
    assert result.step == 2


def plot():
    _, result = fit()
    result.plot("curves.png")


def testing():
    from unitrain.testing.conformance import AdapterConformance

    assert AdapterConformance


def safetensors():
    trainer, _ = fit()
    trainer.export("weights.safetensors")
    assert set(unitrain.load_weights("weights.safetensors")) == {"weight", "bias"}


def mlflow():
    fit(loggers=[unitrain.MLflowLogger("test", tracking_uri="sqlite:///mlflow.db")])


def monitoring():
    unitrain.OTLPLogger("http://127.0.0.1:4318")
    fit(loggers=[unitrain.PrometheusLogger(port=0)])


def serve():
    from urllib.request import urlopen

    with unitrain.serve(export("model.pt2"), port=0, block=False) as server, urlopen(f"{server.url}/health") as answer:
        assert answer.status == 200


def tune():
    def make_spec(trial):
        trial.suggest_float("lr", 0.01, 0.1)
        return spec()

    options = {"trainer": {"max_epochs": 1}, "framework": "reference", "enable_progress_bar": False}
    study = unitrain.tune(make_spec, batches(), n_trials=2, monitor="train/loss", **options)
    assert len(study.trials) == 2
    import optuna_integration  # noqa: F401
    import psycopg  # noqa: F401
    import redis  # noqa: F401


def ray():
    from unitrain.distributed.ray import RayTrainer

    RayTrainer("reference", num_workers=1)


def cloud(provider, **place):
    """Ask a cloud without credentials, which fails before anything is sent."""
    try:
        unitrain.undeploy("digits", provider=provider, progress=False, **place)
    except unitrain.DeployError as error:
        if "credentials" not in str(error):
            raise


def migrate():
    Path("script.py").write_text("import pytorch_lightning as pl\ntrainer = pl.Trainer(gpus=1)\n")
    command("migrate", "--to", "lightning", "--write", "script.py", expected=1)  # changes were made
    assert "gpus" not in Path("script.py").read_text()


def cli():
    command("init", "project")
    with contextlib.chdir("project"):
        command("fit", "--config", "run.yaml", "--framework", "reference", "--print_config")


FEATURES = {
    "lightning": partial(fit, "lightning"),
    "lightning-monorepo": lightning_monorepo,
    "ignite": partial(fit, "ignite"),
    "plot": plot,
    "testing": testing,
    "safetensors": safetensors,
    "tensorboard": lambda: fit(loggers=[unitrain.TensorBoardLogger("runs")]),
    "mlflow": mlflow,
    "wandb": lambda: fit(loggers=[unitrain.WandbLogger("test", mode="offline")]),
    "export": partial(export, "model.onnx"),
    "executorch": partial(export, "model.pte", dynamic_axes={}),
    "quantize": partial(export, "quantized.pt2", quantize="int8"),
    "monitoring": monitoring,
    "serve": serve,
    "tune": tune,
    "ray": ray,
    "aws": partial(cloud, "aws", region="eu-west-1"),
    "gcp": partial(cloud, "gcp", project="my-project", location="europe-west4"),
    "migrate": migrate,
    "cli": cli,
}
HINTED = {"lightning-monorepo": "lightning"}
"""The extra that is suggested, where it is another one."""


if __name__ == "__main__":
    try:
        FEATURES[sys.argv[1]]()
    except UnitrainError as error:
        print(f"{type(error).__name__}: {error}")  # noqa: T201
    else:
        print("works")  # noqa: T201
