"""Where a bundle can run, one provider a module; a further one is a module and an entry point ``unitrain.providers``.

- `provider.py` is the protocol, `registry.py` finds a provider by its name.
- `local/` runs a bundle on this machine, `aws/` on SageMaker, `gcp/` on Vertex AI.

A provider only reads in ``plan``, ``removal`` and ``status``; what changes something is a `Step` with its way back.
"""
