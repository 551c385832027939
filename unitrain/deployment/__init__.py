"""Packs a model for a cloud and deploys it: `unitrain.bundle`, `unitrain.deploy`, `unitrain.undeploy`, `CloudModel`.

Start reading in `bundle/make.py`, which writes the folder that every platform takes, and in `deploy.py`.

- `bundle/` writes a bundle, reads it back, and drives it as each platform would.
- `providers/` has one provider a module. It plans the `Step`s (`steps.py`) that `execution.py` does and takes back.
- `settings.py` says what a provider can be told; `commands/` makes the options of a command line of it.
- `deployment.py` is the handle; `asking.py` asks the deployed model.
"""
