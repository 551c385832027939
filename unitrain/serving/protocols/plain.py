"""``{"data": rows}`` -> ``{"prediction": rows, "confidence": number}``; ``instances`` -> ``predictions``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from unitrain.serving.arrays import without_batch_axis
from unitrain.serving.messages import JSON, NPY, Call, Response, json_response
from unitrain.serving.protocols import npy
from unitrain.serving.refusals import FAILED, UNSUPPORTED, Refusal, invalid, malformed

if TYPE_CHECKING:
    from unitrain.serving.arrays import InputReader, RowReader, Rows
    from unitrain.serving.batching import Share

_DATA, _INSTANCES, _PARAMETERS = "data", "instances", "parameters"
_WORDS: Final = (b"true", b"false", b"null")
_SHAPES: Final = '{"data": rows}, or {"data": {"input name": rows}} for several inputs'


async def predict(call: Call) -> Response:
    """Answer a prediction in the format in which it was asked.

    Raises:
        Refusal: If the body is invalid.
    """
    request = call.request
    if request.content_type in (JSON, b""):
        return await _predict_json(call)
    if request.content_type == NPY:
        return await npy.predict(call)
    raise Refusal(
        UNSUPPORTED,
        "the content type must be application/json or application/x-npy;"
        f" got {request.content_type.decode('latin-1'):.80}.",
    )


async def _predict_json(call: Call) -> Response:
    body = call.request.body
    content = parsed(body)
    if not isinstance(content, dict):
        raise invalid(f"the body must be {_SHAPES}; got {_article(content)}.")
    if _DATA in content:
        _only(content, {_DATA})
        data = content[_DATA]
        is_plain = _is_plain(body, 1 + len(data) if isinstance(data, dict) else 1)
        rows = _rows(call.model.reader, data, is_plain=is_plain)
        return _prediction(await call.model.batcher.submit(rows))
    if _INSTANCES in content:
        _only(content, {_INSTANCES, _PARAMETERS})
        data = _by_input(call.model.reader, content[_INSTANCES])
        rows = _rows(call.model.reader, data, is_plain=_is_plain(body, 1))
        return _predictions(await call.model.batcher.submit(rows))
    got = ", ".join(map(repr, list(content)[:5])) or "none"
    raise invalid(f'the body has no "{_DATA}" and no "{_INSTANCES}"; expected {_SHAPES}; got the keys {got:.80}.')


def _is_plain(body: bytes, keys: int) -> bool:
    """Return whether a text holds nothing but numbers and so many keys."""
    return body.count(b'"') <= 2 * keys and not any(word in body for word in _WORDS)


def parsed(body: bytes) -> Any:
    """Return JSON as Python has it.

    Raises:
        Refusal: If it is not JSON; NaN, Infinity and numbers beyond float64 are not.
    """
    if not body:
        raise malformed("the body is empty; expected JSON.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise malformed(f"the body is not JSON: {error.msg} at character {error.pos}.") from None


def _only(content: dict[str, Any], known: set[str]) -> None:
    unknown = content.keys() - known
    if unknown:
        raise invalid(f"unknown key {min(unknown)!r:.80}; the keys are {', '.join(map(repr, sorted(known)))}.")


def _rows(reader: RowReader, data: Any, *, is_plain: bool) -> Rows:
    def read(one: InputReader, given: Any) -> Any:
        return one.from_json(given, is_plain=is_plain)

    if isinstance(data, dict):
        return reader.named(data, read)
    return reader.rows([read(reader.only(), data)])


def _by_input(reader: RowReader, instances: Any) -> Any:
    """Return a list of rows, each of which may hold all inputs by name, as rows by input."""
    if not isinstance(instances, list):
        raise invalid(f'"{_INSTANCES}" must be a list of rows; got {_article(instances)}.')
    if not instances or not all(isinstance(one, dict) for one in instances):
        return instances
    uneven = next((one for one in instances if one.keys() != instances[0].keys()), None)
    if uneven is not None:
        raise invalid(f"the instances must have the same keys; one has {sorted(uneven)!r:.80}.")
    return {name: [one[name] for one in instances] for name in instances[0]} or _none(reader)


def _none(reader: RowReader) -> Any:
    return reader.named({}, lambda one, _: np.empty(0, one.dtype))


def _prediction(share: Share) -> Response:
    if not share.answer.finite:
        require_finite(share)
    return json_response({"prediction": _outputs(share), "confidence": share.confidence})


def _predictions(share: Share) -> Response:
    if not share.answer.finite:
        require_finite(share)
    signature = share.answer.loaded.signature
    outputs = [np.ascontiguousarray(one) for one in share.outputs]
    if len(outputs) == 1:
        return json_response({"predictions": outputs[0]})
    names = [one.name for one in signature.outputs]
    if not share.answer.loaded.joins:
        return json_response({"predictions": dict(zip(names, outputs, strict=True))})
    rows = zip(*outputs, strict=True)
    return json_response({"predictions": [dict(zip(names, row, strict=True)) for row in rows]})


def _outputs(share: Share) -> Any:
    found = without_batch_axis(share.outputs) if share.rows.single else share.outputs
    plain = [one if one.ndim == 0 or one.flags.c_contiguous else np.ascontiguousarray(one) for one in found]
    plain = [one.item() if one.ndim == 0 and isinstance(one, np.ndarray) else one for one in plain]
    if len(plain) == 1:
        return plain[0]
    return {info.name: one for info, one in zip(share.answer.loaded.signature.outputs, plain, strict=True)}


def require_finite(share: Share) -> None:
    """Refuse to send NaN or an infinity as JSON, which has neither.

    Raises:
        Refusal: If there is one in this request's rows.
    """
    for info, one in zip(share.answer.loaded.signature.outputs, share.outputs, strict=True):
        if one.dtype.kind == "f" and not np.isfinite(one).all():
            raise Refusal(
                FAILED,
                f"the output {info.name!r} holds NaN or an infinity, which JSON cannot tell;"
                " application/x-npy and the binary form of /v2 can.",
            )


def _article(given: Any) -> str:
    names = {list: "a list", str: "a text", bool: "a bool", type(None): "null", dict: "an object"}
    return names.get(type(given), "a number")
