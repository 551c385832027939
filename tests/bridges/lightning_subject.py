"""A LightningModule, a callback and a logger that write down each call they get; and runs of them to compare."""

from __future__ import annotations

import hashlib
import pickle
import random
import warnings
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lp
import pytorch_lightning as pl
import torch
import torchmetrics
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.bridges.trace import digest
from tests.bridges.written import everything
from unitrain_bridges.lightning.bridge import LightningBridge

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = {"pytorch_lightning": pl, "lightning.pytorch": lp}
LISTENED = (
    *("setup", "teardown", "on_fit_start", "on_fit_end", "on_train_start", "on_train_end", "on_train_epoch_start"),
    *("on_train_epoch_end", "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward"),
    *("on_after_backward", "on_before_optimizer_step", "on_save_checkpoint", "on_load_checkpoint"),
    *(f"on_{stage}_{what}" for stage in ("validation", "test", "predict") for what in ("start", "end", "epoch_start")),
    *(f"on_{stage}_{what}" for stage in ("validation", "test", "predict") for what in ("epoch_end", "batch_start")),
    *(f"on_{stage}_batch_end" for stage in ("validation", "test", "predict")),
)
OF_CALLBACKS = ("on_sanity_check_start", "on_sanity_check_end", "on_exception", "state_dict", "load_state_dict")
OF_MODULES = (
    *("prepare_data", "configure_optimizers", "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step"),
    *("configure_gradient_clipping", "backward", "transfer_batch_to_device", "on_before_batch_transfer"),
    *("on_after_batch_transfer", "on_validation_model_eval", "on_validation_model_zero_grad", "on_test_model_eval"),
)


def shown(value: Any) -> Any:
    """Return what stands for an argument of a hook."""
    if isinstance(value, torch.Tensor):
        return digest(value)[:12], value.requires_grad
    if isinstance(value, torch.optim.Optimizer) or hasattr(value, "toggle_model"):
        return type(value).__name__, [group["lr"] for group in value.param_groups]
    if isinstance(value, dict):
        return {str(name): shown(one) for name, one in value.items() if name != "pytorch-lightning_version"}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    return repr(value) if isinstance(value, (int, float, str, BaseException, type(None))) else type(value).__name__


class Log(list):
    """What happened, in its order."""

    def wrapped(self, who: str, name: str, original: Any) -> Any:
        """Return ``original`` so that each call is written down, with where the trainer is at that moment."""

        def call(this: Any, *arguments: Any, **options: Any) -> Any:
            trainer = next((one for one in arguments if hasattr(one, "fit_loop")), getattr(this, "_trainer", None))
            given = [one for one in arguments if one is not trainer and not isinstance(one, torch.nn.Module)]
            self.append((who, name, shown(given), shown(options), None if trainer is None else where(trainer)))
            return original(this, *arguments, **options)

        return call


def where(trainer: Any) -> tuple:
    loop = trainer.fit_loop.epoch_loop
    counters = loop.batch_progress, trainer.fit_loop.epoch_progress, loop.val_loop.batch_progress
    metrics = trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics
    return (
        (trainer.global_step, trainer.current_epoch, str(trainer.state.stage), str(trainer.state.fn)),
        [repr(one.state_dict()) for one in counters],
        (loop._batches_that_stepped, trainer.should_stop, trainer.is_last_batch, trainer.num_training_batches),
        [shown(dict(one)) for one in metrics] if trainer.state.stage else [],
        (generators(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        trainer.lightning_module.training,
    )


def generators() -> str:
    held = torch.get_rng_state().numpy().tobytes(), random.getstate()
    return hashlib.sha256(pickle.dumps(held)).hexdigest()[:12]


def listening_callback(package: Any, log: Log) -> Any:
    names = (*LISTENED, *OF_CALLBACKS)
    made = {name: log.wrapped("callback", name, getattr(package.Callback, name)) for name in names}
    return type("Listening", (package.Callback,), made)()


def listening_logger(package: Any, log: Log) -> Any:
    class Listening(package.loggers.Logger):
        name, version, save_dir = "listening", 0, None

        def log_metrics(self, metrics: Any, step: Any = None) -> None:
            log.append(("logger", "row", shown(metrics), step))

        def log_hyperparams(self, *given: Any, **options: Any) -> None:
            log.append(("logger", "hyperparams", shown(given), shown(options)))

        def finalize(self, status: str) -> None:
            log.append(("logger", "finalize", status))

        def after_save_checkpoint(self, callback: Any) -> None:
            log.append(("logger", "after_save_checkpoint", type(callback).__name__))

    return Listening()


def listening_module(base: type, log: Log) -> type:
    names = (*LISTENED, *OF_MODULES)
    return type(base.__name__, (base,), {name: log.wrapped("module", name, getattr(base, name)) for name in names})


class Loaders:
    """The data of most command lines, but for its base."""

    def __init__(self, count: int = 12, batch_size: int = 4) -> None:
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(samples(self.count), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(samples(6, 1), batch_size=self.batch_size)

    test_dataloader = predict_dataloader = val_dataloader


class Steps:
    """The module of most cases, but for its base: noise in each step, so that a draw out of its order shows."""

    def __init__(self, width: int = 4, how: str = "one") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body = torch.nn.Sequential(torch.nn.Linear(width, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.2))
        self.head = torch.nn.Linear(5, 1)
        self.error = torchmetrics.MeanSquaredError()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.mse_loss(self(x + 0.01 * torch.rand_like(x)), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("largest", loss, on_step=False, on_epoch=True, reduce_fx="max", sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"], logger=False)
        self.log_dict({"a": loss, "b": float(batch_idx)}, on_epoch=True, batch_size=3)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        x, y = batch
        self.error(self(x), y)
        if dataloader_idx == 0:
            self.log("error", self.error, add_dataloader_idx=False)
        self.log("val_loss", self.loss(batch), prog_bar=True, on_step=True, on_epoch=True)
        return {"seen": dataloader_idx}

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch[0])

    def on_train_epoch_end(self) -> None:
        self.log("at_the_end", float(self.current_epoch))

    def on_validation_epoch_end(self) -> None:
        self.log("val_end", float(self.global_step))

    def configure_optimizers(self) -> Any:
        return FORMS[self.hparams.how](self)


def subject(package: Any, steps: type = Steps) -> type:
    """Return ``steps`` as a LightningModule of ``package``."""
    return type(steps.__name__, (steps, package.LightningModule), {})


def adam(module: Any) -> Any:
    return torch.optim.Adam(module.parameters(), lr=0.02)


def two_lists(module: Any) -> Any:
    one = adam(module)
    return [one], [torch.optim.lr_scheduler.StepLR(one, 1, 0.5), torch.optim.lr_scheduler.ExponentialLR(one, 0.9)]


def _with(make: Any, **options: Any) -> Any:
    def form(module: Any) -> Any:
        one = adam(module)
        return {"optimizer": one, "lr_scheduler": {"scheduler": make(one), **options}}

    return form


def plateau(**options: Any) -> Any:
    return _with(lambda one: torch.optim.lr_scheduler.ReduceLROnPlateau(one, patience=0, threshold=10.0), **options)


def scheduler_alone(module: Any) -> Any:
    one = adam(module)
    return {"optimizer": one, "lr_scheduler": torch.optim.lr_scheduler.StepLR(one, 1, 0.3)}


def momentum(module: Any) -> Any:
    one = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    return {"optimizer": one, "lr_scheduler": {"scheduler": step_lr(one), "interval": "step"}}


def step_lr(one: Any) -> Any:
    return torch.optim.lr_scheduler.StepLR(one, 1, 0.8)


FORMS = {
    "one": adam,
    "list": lambda module: [adam(module)],
    "two lists": two_lists,
    "dict": lambda module: {"optimizer": adam(module)},
    "dict, each step": _with(step_lr, interval="step", frequency=2, name="rate"),
    "dict, scheduler alone": scheduler_alone,
    "every second epoch": _with(step_lr, interval="epoch", frequency=2),
    "plateau": plateau(monitor="val_loss"),
    "plateau of steps": plateau(monitor="loss", interval="step", frequency=3),
    "plateau, not strict": plateau(monitor="nothing", strict=False),
    "plateau, missing": plateau(monitor="nothing"),
    "one cycle": _with(lambda one: torch.optim.lr_scheduler.OneCycleLR(one, 0.1, total_steps=40), interval="step"),
    "momentum": momentum,
    "lbfgs": lambda module: torch.optim.LBFGS(module.parameters(), lr=0.1, max_iter=3),
}


class Stream(IterableDataset):
    """Data without a length."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __iter__(self) -> Any:
        for _ in range(self._count):
            yield torch.randn(4), torch.randn(1)


def samples(count: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randn(count, 4, generator=generator), torch.randn(count, 1, generator=generator))


def shuffled(count: int = 30, batch_size: int = 4) -> DataLoader:
    return DataLoader(samples(count), batch_size=batch_size, shuffle=True)


def in_order(count: int = 10, seed: int = 1, batch_size: int = 4) -> DataLoader:
    return DataLoader(samples(count, seed), batch_size=batch_size)


def told(framework: str | None, work: Any, folder: Path, package: str = "pytorch_lightning") -> SimpleNamespace:
    """Run ``work`` and return what it did.

    Args:
        framework: The backend; None is the untouched Trainer.
        work: Takes the package of Lightning, and a namespace with ``log``, ``module(base, ...)``, ``trainer(...)``.
        folder: Where it writes.
        package: Which of the two.
    """
    log, at = Log(), PACKAGES[package]
    steps: list = []

    def stepped(optimizer: Any, *_: Any) -> None:
        steps.append([shown(weight) for group in optimizer.param_groups for weight in group["params"]])
        log.append(("step", len(steps)))

    def trainer(**options: Any) -> Any:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": str(folder)}
        callbacks = [listening_callback(at, log), *options.pop("callbacks", ())]
        given = {"logger": listening_logger(at, log), "log_every_n_steps": 2, **quiet, **options}
        return at.Trainer(callbacks=callbacks, **given)

    def module(steps: type = Steps, *, listens: bool = True, **options: Any) -> Any:
        made = subject(at, steps)
        return (listening_module(made, log) if listens else made)(**options)

    torch.manual_seed(7)
    random.seed(7)
    folder.mkdir(parents=True, exist_ok=True)
    hook = register_optimizer_step_post_hook(stepped)
    within = nullcontext() if framework is None else LightningBridge().redirected(framework)
    error = None
    try:
        with within, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tools = SimpleNamespace(log=log, folder=folder, trainer=trainer, module=module)
            result = work(at, tools)
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever it is, it is to be the same
        result, error = None, (type(raised).__name__, str(raised).replace(str(folder), "."))
    finally:
        hook.remove()
    written = everything(folder)
    placed = [repr(one).replace(str(folder), ".") for one in log]
    return SimpleNamespace(log=placed, steps=steps, result=shown(result), files=written, error=error, end=generators())


def parted(one: SimpleNamespace, other: SimpleNamespace) -> str:
    """Return where two runs part; empty if they are the same."""
    for index, (a, b) in enumerate(zip(one.log, other.log, strict=False)):
        if a != b:
            before = "\n  ".join(text[:60] for text in one.log[max(0, index - 4) : index])
            return f"call {index} after\n  {before}\nwanted {a}\ngot    {b}"
    if len(one.log) != len(other.log):
        longer = max(one.log, other.log, key=len)
        return f"{len(one.log)} calls wanted, {len(other.log)} got: {longer[min(len(one.log), len(other.log))]}; {other.error}"
    for name in ("error", "steps", "result", "end"):
        if getattr(one, name) != getattr(other, name):
            return f"{name}: wanted {getattr(one, name)!r:.600}, got {getattr(other, name)!r:.600}"
    names = sorted(one.files.keys() ^ other.files.keys()) or [
        name for name in one.files if one.files[name] != other.files[name]
    ]
    if not names:
        return ""
    a, b = one.files.get(names[0]), other.files.get(names[0])
    if isinstance(a, dict) and isinstance(b, dict):
        return f"{names[0]}: " + ", ".join(
            f"{k}: {a.get(k)} / {b.get(k)}" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)
        )
    return f"files: {names}"
