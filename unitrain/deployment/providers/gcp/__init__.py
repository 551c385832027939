"""Deploys a bundle to an endpoint of Vertex AI, by google-auth and REST.

Start reading in `provider.py`, the provider.

- `settings.py` is what a user gives, `api.py` one call and its errors, `operations.py` waits for what takes time.
- `resources.py` reads what is there, and tells what is unitrain's by its labels.
- `deploying.py` and `removing.py` write the steps; `endpoint.py`, `model.py` and `traffic.py` are what the steps do.

The endpoint is the lock of a deployment: its labels name the call that changes it. Its ID and that of the model are
given by unitrain, so that of two calls that create one the second is refused.
"""

from unitrain.deployment.providers.gcp.provider import GCP

__all__ = ["GCP"]
