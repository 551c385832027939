"""The OpenAPI document of a service, with an example of each model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from unitrain.serving.models.loaded import example_inputs
from unitrain.serving.signature import signature_of
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KINDS: Final = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
_ERROR: Final = {
    "description": "The request was refused; the text says what was expected and what came.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}
_LONGEST_EXAMPLE: Final = 4096


def openapi(models: Sequence[Mapping[str, Any]], *, needs_token: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        models: The descriptions of the served models.
        needs_token: Whether clients must send a token.
    """
    paths: dict[str, Any] = {
        "/health": {"get": _get("Whether the service answers: healthy, loading or draining.", is_open=True)},
        "/live": {"get": _get("Whether the process runs.", is_open=True)},
        "/models": {"get": _get("The served models: signature, sha256, metrics, versions.")},
        "/metrics": {"get": _get("Counters and histograms for Prometheus.")},
    }
    for one in models:
        paths[f"/models/{one['name']}/predict"] = {"post": _predict(one)}
        paths[f"/v2/models/{one['name']}/infer"] = {"post": _infer(one)}
    if len(models) == 1:
        paths["/predict"] = {"post": {**_predict(models[0]), "operationId": "predict"}}
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "unitrain", "version": __version__, "description": "Predictions of trained models."},
        "paths": paths,
    }
    if needs_token:
        made["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        made["security"] = [{"token": []}]
    return made


def _get(summary: str, *, is_open: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"summary": summary, "responses": {"200": {"description": "Yes."}}}
    return {**made, "security": []} if is_open else made


def example_of(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return one row of each input: the file's example, or zeros; None if that would be long."""
    signature = signature_of(model)
    arrays = [one[0] if signature.has_batch_axis else one for one in example_inputs(signature, 1)]
    if sum(one.size for one in arrays) > _LONGEST_EXAMPLE:
        return None
    rows = {info.name: one.tolist() for info, one in zip(signature.inputs, arrays, strict=True)}
    return {**rows, **signature.example}  # as the file prints it: 0.1, not 0.10000000149011612


def _predict(model: Mapping[str, Any]) -> dict[str, Any]:
    row, inputs = example_of(model), {one["name"]: _schema(one) for one in model["inputs"]}
    several = len(inputs) > 1
    data = (
        {"type": "object", "required": list(inputs), "properties": inputs} if several else next(iter(inputs.values()))
    )
    content: dict[str, Any] = {"schema": {"type": "object", "required": ["data"], "properties": {"data": data}}}
    if row is not None:
        content["example"] = {"data": row if several else next(iter(row.values()))}
    answer = {
        "type": "object",
        "required": ["prediction", "confidence"],
        "properties": {
            "prediction": {"description": "The output; several are an object by name."},
            "confidence": {"type": ["number", "null"], "description": "The mean of the rows' largest probability."},
        },
    }
    return _post(f"Predict with {model['name']}.", f"predict_{model['name']}", content, answer)


def _infer(model: Mapping[str, Any]) -> dict[str, Any]:
    tensor = {"type": "object", "required": ["name", "shape", "datatype"]}
    listed = {"type": "array", "items": tensor}
    content = {"schema": {"type": "object", "required": ["inputs"], "properties": {"inputs": listed}}}
    answer = {"type": "object", "required": ["outputs"], "properties": {"outputs": listed}}
    summary = f"Predict with {model['name']} by the Open Inference Protocol v2."
    return _post(summary, f"infer_{model['name']}", content, answer)


def _post(summary: str, name: str, content: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "200": {"description": "The prediction.", "content": {"application/json": {"schema": answer}}},
            "400": _ERROR,
            "422": _ERROR,
            "503": _ERROR,
        },
    }


def _schema(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested arrays; where one row may come without a batch axis, of either depth."""
    kind = {"float": "f", "int": "i", "uint": "u", "bool": "b"}[info["dtype"].rstrip("0123456789")]
    made: dict[str, Any] = {"type": _KINDS[kind]}
    row: dict[str, Any] | None = None
    for axis, size in reversed(list(enumerate(info["shape"] or ()))):
        row = made
        made = {"type": "array", "items": made}
        if isinstance(size, int):
            made.update(minItems=size, maxItems=size)
        elif axis == 0:
            return {"anyOf": [made, row]}
    return made
