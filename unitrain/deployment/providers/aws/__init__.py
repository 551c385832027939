"""Runs a bundle on SageMaker; boto3 is imported once it is needed.

- `provider.py` is the protocol; `plan.py` makes the steps of a deployment, `removal.py` those of its end.
- `settings.py` are the settings, `checks.py` is what can be refused before anything is done.
- `calls.py` asks AWS, and makes its errors ours.
- `resources.py` is what models, endpoint configs and endpoints have in common; `endpoint.py` reads the states of an
  endpoint, `creation.py` and `update.py` change it and take that back; `storage.py` is the archive on S3.

A resource is unitrain's if it has the tag `unitrain` with the name of the deployment; a call takes back only what has
its own number in the tag `unitrain-call`.
"""

from unitrain.deployment.providers.aws.provider import AWS

__all__ = ["AWS"]
