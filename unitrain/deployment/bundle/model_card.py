"""``MODEL_CARD.md``: what is known of a model, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unitrain.deployment.bundle.facts import Facts
    from unitrain.serving.signature import TensorInfo

_UNKNOWN = "not stated"
_NAMES = {
    "weights": "weights",
    "checkpoint_sha256": "sha256 of the checkpoint",
    "half": "computes in float16",
    "quantize": "quantization",
}
"""What an export says of its origin, and how it is called here."""


def model_card(facts: Facts) -> str:
    """Return the card as Markdown."""
    card = facts.card
    metrics = {**(facts.metadata.get("metrics") or {}), **card.metrics}
    parts = {
        "Identity": _table(_identity(facts)),
        "Licence": card.licence or _UNKNOWN,
        "Training": _table(card.training) if card.training else _UNKNOWN,
        "Training data": card.data or _UNKNOWN,
        "Metrics": _table(metrics) if metrics else _UNKNOWN,
        "Inputs": _tensors(facts.signature.inputs),
        "Outputs": _tensors(facts.signature.outputs),
        "Served with": _table(_versions(facts.versions())),
    }
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in parts.items())
    return f"# {facts.name}\n\n{text}\n"


def _identity(facts: Facts) -> dict[str, Any]:
    told = {_NAMES[key]: facts.metadata[key] for key in _NAMES if facts.metadata.get(key) not in (None, False)}
    by = {f"exported with {one}": facts.metadata[one] for one in ("unitrain", "torch") if one in facts.metadata}
    return {"file": facts.file, "format": facts.format, "sha256": facts.sha256, **told, **by}


def _versions(versions: Mapping[str, Any]) -> dict[str, Any]:
    return {"Python": versions["python"], "unitrain": versions["unitrain"], **versions["packages"]}


def _tensors(infos: Iterable[TensorInfo]) -> str:
    return _table({one.name: str(one) for one in infos})


def _table(rows: Mapping[str, Any]) -> str:
    lines = (f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items())
    return "\n".join(("| | |", "| --- | --- |", *lines))


def _cell(value: Any) -> str:
    """Return one line without what would end a cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
