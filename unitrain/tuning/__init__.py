"""Hyper-parameter studies: `unitrain.tune`, `unitrain.Pruning`; and, in `finders`, the searches before a fit.

A study is a list of trials in a storage of Optuna. Its promise: whatever number of workers, on whatever backend, with
whatever worker killed, it ends with the same trials. Start reading in `study.py`:

    study.py        `tune()`: from the arguments to a result
    plan.py         the arguments in one piece, as workers get them; arguments.py and checks.py refuse what is invalid
    queue.py        which trial is next; leases/ says whose it is
    workers/        take trials and run them; executors.py says where: this machine, a Ray cluster
    trial.py        runs one trial: a fit, begun or resumed
    study_trial.py  what a trial reports to its study, and how it ends there
    visible.py      what a trial's sampler and pruner see of the study
    trackers.py     the runs of the trials at MLflow, TensorBoard and so on
    pruning.py      the callback that reports to a trial and stops a fit
    storage/        opens storages
    result.py       what `tune()` returns; report/ draws it and writes it
    command.py      `unitrain tune`

Modules here are private, except for what `unitrain` exports.
"""
