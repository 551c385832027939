"""The portable checkpoint: one file that every backend resumes exactly and plain Lightning reads.

`load_weights` and `convert_checkpoint` are public through `unitrain`; the rest is private. Start reading in
`capture.py` (what is written) and `restore.py` (how it is restored):

    saving.py           writes the requested files, with io.py (atomic writes, verified reads), integrity.py (checksums)
    sharded_files.py    folders with one part per process; safetensors_file.py has weights alone
    gate.py             rejects what could not be read back; kinds.py packs other types, forms.py checks the structure
    resume.py           finds the file and resumes a run, within what resume_checks.py and owned_files.py allow
    layout.py           Lightning's own layout, so that a plain Trainer reads the file; hparams.py for hyper-parameters
    model_weights.py    loads weights; optimizer_states.py and optimizer_forms.py load and check optimizers
    outside_model.py    state outside of the model: the buffers of the loss
    convert/            checkpoints of other programs
"""
