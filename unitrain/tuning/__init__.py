"""Hyper-parameter studies: `unitrain.tune`, `unitrain.Pruning`; and, in `finders`, the searches before a fit.

A study is a list of trials in an Optuna storage. It ends with the same trials for any number of workers, on any
backend, even if workers are killed. Start reading in `study.py`:

    study.py        `tune()`: from the arguments to a result
    plan.py         the arguments as one object, sent to workers; arguments.py and checks.py refuse invalid ones
    queue.py        which trial is next; leases/ records which worker runs it
    workers/        run trials; executors.py starts them on this machine or on a Ray cluster
    trial.py        runs one trial: a fit, new or resumed
    trial_checkpoints.py  writes a trial's checkpoints, and finds its final one
    study_trial.py  reports a trial's values and final state to its study
    visible.py      the part of the study that a trial's sampler and pruner see
    trackers.py     each trial's run in MLflow, TensorBoard and so on
    pruning.py      the callback that reports to a trial and stops a pruned fit
    storage/        opens storages
    result.py       the result of `tune()`; report/ draws and exports it
    command.py      `unitrain tune`

Modules here are private, except for what `unitrain` exports.
"""
