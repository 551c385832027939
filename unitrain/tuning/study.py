"""`tune()`: from the arguments to a study, its workers and the result."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unitrain.errors import BackendNotInstalledError, ConfigError, complete_call, install_hint
from unitrain.tuning.arguments import names, parameters, whole
from unitrain.tuning.checks import devices_of, require_valid
from unitrain.tuning.leases import leases_of
from unitrain.tuning.leases.lease import alone
from unitrain.tuning.plan import StudyPlan
from unitrain.tuning.progress import StudyProgress
from unitrain.tuning.queue import TrialQueue
from unitrain.tuning.result import TuneResult
from unitrain.tuning.storage.address import Address, hurry
from unitrain.tuning.workers.executors import PROCESSES, executor_of
from unitrain.tuning.workers.worker import Halt, stopping, work
from unitrain.utilities import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from unitrain.spec import TrainSpec
    from unitrain.tuning.leases.lease import Leases

_RUNS = "runs"
_IDENTITY = "study.json"


@complete_call(ConfigError, 'unitrain.tune(make_spec, loader, n_trials=20, monitor="val/loss", framework="lightning")')
def tune(
    make_spec: Callable[[Any], TrainSpec],
    train: Any,
    val: Any = None,
    *,
    n_trials: int,
    monitor: str | Sequence[str],
    direction: str | Sequence[str] = "minimize",
    framework: Any,
    trainer: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
    storage: str | Path | None = None,
    study_name: str | None = None,
    study: Any = None,
    sampler: Any = "tpe",
    pruner: Any = None,
    seed: int = 0,
    workers: int = 1,
    executor: str = "processes",
    parallel: int | None = None,
    timeout: float | None = None,
    retries: int = 3,
    catch: tuple[type[Exception], ...] = (),
    dirpath: str | Path | None = None,
    value: Literal["last", "best"] = "last",
    warm_start: Sequence[Mapping[str, Any]] = (),
    enable_progress_bar: bool = True,
) -> TuneResult:
    """Search hyper-parameters with Optuna; the trials are the same for any number of workers, on any backend.

    A trial is a fit. A worker that is killed leaves its trial to another worker, or to the next call, which resumes it
    from its checkpoint with bit-identical results. Calling again with the same study continues it; a larger
    ``n_trials`` adds trials.

    A trial's sampler and pruner see the finished trials numbered at least ``parallel`` below its own. So ``parallel``
    determines the trials, and ``workers`` only how long they take.

    Args:
        make_spec: Takes an Optuna trial and returns the spec to train. Random generators are seeded first.
        train: Training data, or a function of the trial: its only parameter is called ``trial``.
        val: Validation data, or a function of the trial.
        n_trials: Total number of trials.
        monitor: The metric to optimize, such as ``"val/acc"``; a sequence for several objectives.
        direction: ``"minimize"`` or ``"maximize"``; one for each objective.
        framework: As for ``UnifiedTrainer``, or a function of the trial.
        trainer: Options of ``UnifiedTrainer``, or a function of the trial that returns them.
        storage: ``"journal:///study.log"`` (one machine), ``"redis://HOST/0"`` or ``"postgresql://USER@HOST/DB"``
            (many machines), ``"sqlite:///study.db"`` (one machine); by default this process's memory.
        study_name: The study's name in the storage.
        study: An Optuna study to use, instead of ``storage`` and ``study_name``. The sampler sees its finished trials,
            not those that others add later.
        sampler: ``"tpe"``, ``"random"``, ``"gp"``, ``"cmaes"``, ``"nsgaii"``, ``"nsgaiii"``; a function ``seed ->
            sampler``; or an Optuna sampler, for one worker.
        pruner: ``"median"``, ``"successive_halving"``, ``"hyperband"``, an Optuna pruner, or None.
        seed: Seeds the samplers, initial weights and fits.
        workers: Number of worker processes; other machines join by the same call.
        executor: Where the workers run: ``"processes"`` on this machine, or ``"ray"``, as tasks of a Ray cluster.
        parallel: See above; by default, ``workers`` of the first call.
        timeout: Seconds after which the call ends; running trials write a checkpoint, and the next call resumes them.
        retries: Number of times a trial may lose its worker before it counts as failed.
        catch: Errors that fail only their trial; all others also end the call.
        dirpath: Folder of the trials' checkpoints, in ``trial-00000`` and so on; by default ``runs/<study_name>``.
        value: Whether a trial's value is that of its ``"last"`` or its ``"best"`` epoch, whose weights are then kept.
        warm_start: Parameters of the first trials.
        enable_progress_bar: Whether to show progress.

    Returns:
        The result so far.

    Raises:
        ConfigError: If anything is invalid, before the first trial.
        BackendNotInstalledError: If optuna, or the client of the storage, is not installed.
        Exception: Any error that a trial raised, unless listed in ``catch``. That trial has failed; the next call
            continues the study.

    Example:
        >>> def make_spec(trial):
        ...     sgd = partial(torch.optim.SGD, lr=trial.suggest_float("lr", 1e-3, 1e-1, log=True))
        ...     return TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=sgd)
        >>> study = tune(
        ...     make_spec, batches, n_trials=3, monitor="train/loss", framework="reference",
        ...     trainer={"max_epochs": 2}, enable_progress_bar=False,
        ... )
        >>> study.stopped_by, len(study.trials)
        ('n_trials', 3)
    """
    _require_optuna()
    address = _address(storage, study_name, study)
    plan = StudyPlan(
        make_spec=make_spec,
        train=train,
        val=val,
        trainer={} if trainer is None else trainer,
        framework=framework,
        monitor=names(monitor, "monitor", 'monitor="val/loss"'),
        directions=names(direction, "direction", 'direction="maximize"'),
        value=value,
        n_trials=n_trials,
        address=address,
        study_name=_name(study_name, study),
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        parallel=whole("workers", workers, 1) if parallel is None else parallel,
        threads=0,
        retries=retries,
        catch=catch if isinstance(catch, tuple) else (catch,),
        warm_start=parameters(warm_start),
        dirpath=Path(),
    )
    require_valid(plan, workers, timeout, executor)
    with _opened(plan, study) as (found, leases):
        team = None if workers == 1 and executor == PROCESSES else (executor, workers)
        plan = _begun(plan, found, leases, dirpath, chosen=parallel is not None)
        return _run(plan, found, leases, team, timeout, shows=enable_progress_bar)


def _require_optuna() -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, which asks notebooks for widgets
            import optuna  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise BackendNotInstalledError("tune() needs optuna.", hint=install_hint("tune")) from error


def _address(storage: Any, study_name: Any, study: Any) -> Address:
    if study is not None and (storage is not None or study_name is not None):
        raise ConfigError("tune() takes study=, or storage= and study_name=, not both.", hint="remove one.")
    address = Address.of(storage)
    if address.url is not None and not study_name:
        raise ConfigError(f"storage={str(address)!r} needs a study_name=.", hint='study_name="digits"')
    return address


def _name(given: Any, study: Any) -> str:
    if study is not None:
        if not hasattr(study, "study_name"):
            raise ConfigError(f"tune(study=) must be an Optuna study; got {study!r}.", hint="optuna.create_study()")
        return str(study.study_name)
    if given is not None and (not isinstance(given, str) or not given):
        raise ConfigError(f"tune(study_name=) must be a name; got {given!r}.", hint='study_name="digits"')
    return given or "tune"


@contextmanager
def _opened(plan: StudyPlan, study: Any) -> Iterator[tuple[Any, Leases]]:
    """Yield Optuna's study, created if necessary, and the leases of its trials; silences Optuna's own output."""
    import optuna  # noqa: PLC0415 - an extra

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    leases: Leases | None = None
    try:
        found = _of_storage(plan) if study is None else study
        leases = leases_of(plan.address, plan.study_name)
        given = [one.name.lower() for one in found.directions]
        if given != list(plan.directions):
            raise ConfigError(
                f"the study {plan.study_name!r} has the direction {given}; got {list(plan.directions)}.",
                hint=f"direction={given[0] if len(given) == 1 else given!r}, or another study_name=.",
            )
        yield found, leases
        if study is None:
            hurry(found._storage)  # noqa: SLF001 - Optuna has no public way
    finally:
        if leases is not None:
            leases.close()
        optuna.logging.set_verbosity(before)


def _of_storage(plan: StudyPlan) -> Any:
    import optuna  # noqa: PLC0415 - an extra

    with _alone_in_database(plan.address):
        storage = plan.address.opened()
    try:
        return optuna.create_study(storage=storage, study_name=plan.study_name, directions=list(plan.directions))
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=plan.study_name)


@contextmanager
def _alone_in_database(address: Address) -> Iterator[None]:
    """Let only one process at a time create Optuna's tables, which fails if two do."""
    if address.kind not in ("sqlite", "postgresql"):
        yield
        return
    leases = leases_of(address, "")
    try:
        with alone(leases, "tables"):
            yield
    finally:
        leases.close()


def _begun(plan: StudyPlan, study: Any, leases: Leases, dirpath: str | Path | None, *, chosen: bool) -> StudyPlan:
    """Fill the study's queue, and return the plan with its folder.

    Raises:
        ConfigError: If the study was begun with other arguments, or the folder is that of another study.
    """
    plan, identity = TrialQueue(study, leases).fill(plan, chosen=chosen)
    if dirpath is not None:
        folder = files.user_path(dirpath).absolute()
    elif plan.address.url is None:
        folder = files.new_folder(Path(_RUNS).absolute(), plan.study_name)
    else:
        folder = (Path(_RUNS) / plan.study_name).absolute()
    _own(folder, plan.study_name, identity["id"])
    return replace(plan, dirpath=folder)


def _own(folder: Path, name: str, identity: str) -> None:
    """Take a folder for a study.

    Raises:
        ConfigError: If another study has it.
    """
    path, mine = folder / _IDENTITY, {"study": name, "id": identity}
    with files.failing_as(ConfigError, path):
        with suppress(FileExistsError), files.written(path, new=True) as file:
            file.write(json.dumps(mine).encode())
        theirs = json.loads(path.read_bytes())
    if theirs != mine:
        raise ConfigError(
            f"{folder} belongs to the study {theirs.get('study')!r}, with other trials.",
            hint="choose another dirpath=, or move the folder away.",
        )


def _run(
    plan: StudyPlan,
    study: Any,
    leases: Leases,
    team: tuple[str, int] | None,
    timeout: float | None,
    *,
    shows: bool,
) -> TuneResult:
    queue, halt = TrialQueue(study, leases), Halt()
    with StudyProgress(plan, queue, wanted=shows) as progress:
        if team is None:
            with stopping(halt, timeout):
                work(plan, study, leases, halt, progress.update)
        else:
            executor, count = team
            with stopping(halt, timeout):
                workers = executor_of(executor)(plan, count, devices_of(plan))
                workers.run(halt, queue.done, progress.update)
    return TuneResult(study, plan, halt.reason or ("n_trials" if queue.done() else "signal"))
