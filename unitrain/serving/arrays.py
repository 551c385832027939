"""From a client's data to arrays of the model's dtypes and shapes, or a refusal that says what was expected."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from unitrain.serving.refusals import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from unitrain.serving.signature import Signature, TensorInfo

Array = np.ndarray[Any, Any]

_EXACT: Final = 2.0**53
"""Above it a float64, which JSON numbers with a fraction become, skips whole numbers."""

_LONGEST: Final = 80
MOST_AXES: Final = 32
_LONGEST_AXIS: Final = 2**31


class Rows:
    """The inputs of one request.

    Attributes:
        arrays: One per input, in the model's order.
        count: How many rows.
        single: Whether the client sent one row without a batch axis, and gets one without.
    """

    __slots__ = ("arrays", "count", "single")

    def __init__(self, arrays: list[Array], count: int, *, single: bool) -> None:
        self.arrays, self.count, self.single = arrays, count, single


class InputReader:
    """Reads one input.

    Args:
        info: What the model takes.
    """

    def __init__(self, info: TensorInfo) -> None:
        self.info = info
        self.dtype = np.dtype(info.dtype)
        shape = info.shape or ()
        self._rank = len(shape)
        self._fixed = tuple((axis, size) for axis, size in enumerate(shape) if isinstance(size, int))
        self._accepts, self._cast = _CASTS[self.dtype.kind]
        self._odd = _ODD if self.dtype.kind == "b" else (*_ODD, bool)

    def from_json(self, given: Any, *, is_plain: bool = False) -> Array:
        """Return nested lists of numbers as an array.

        Args:
            given: The lists.
            is_plain: True if the text holds nothing but numbers, which saves looking at each.

        Raises:
            Refusal: If they are not numbers that the dtype can hold, or not of one length.
        """
        if not is_plain:  # before NumPy sees them: it makes all texts as long as the longest
            self._require_numbers(given)
        try:
            raw = np.asarray(given)
        except (ValueError, OverflowError, MemoryError):
            raise invalid(f"{self._expected()}; the lists are ragged: lists of one level differ in length.") from None
        if not raw.size:
            raise invalid(f"{self._expected()}; got no {'numbers' if len(raw) else 'rows'}.")
        if raw.dtype.kind not in self._accepts:
            self._require_numbers(given)
            raise invalid(f"{self._expected()}; got {'numbers' if self.dtype.kind == 'b' else 'too deep a nesting'}.")
        return self._cast(raw, self)

    def _require_numbers(self, given: Any) -> None:
        for one in _leaves(given):
            if isinstance(one, self._odd):
                raise invalid(f"{self._expected()}; got {_NAMES[type(one)]}.")

    def from_array(self, given: Array) -> Array:
        """Return an array in the model's dtype.

        Raises:
            Refusal: If numbers would be lost.
        """
        if given.dtype == self.dtype:
            return given
        if given.dtype.kind not in self._accepts or not np.can_cast(given.dtype, self.dtype, "same_kind"):
            raise invalid(f"{self._expected()}; got an array of {given.dtype}.")
        with np.errstate(over="ignore"):
            made = given.astype(self.dtype)
        if _is_lost(given, made):
            raise invalid(self.beyond(given))
        return made

    def from_bytes(self, data: memoryview | bytes, shape: Sequence[int]) -> Array:
        """Return raw little-endian numbers as an array; their number was compared with ``shape``."""
        return whole(np.frombuffer(data, self.dtype)).reshape(shape)

    def with_batch_axis(self, array: Array) -> tuple[Array, bool]:
        """Return the array with a batch axis, and whether it had none.

        Raises:
            Refusal: If its shape is not the model's.
        """
        single = array.ndim == self._rank - 1 and self.info.has_batch_axis
        if single:
            array = array[np.newaxis]
        if array.ndim != self._rank or any(array.shape[axis] != size for axis, size in self._fixed):
            shape = list(array.shape[1:] if single else array.shape)
            raise invalid(f"{self._expected()}; got the shape {shape}.")
        if 0 in array.shape:
            raise invalid(f"{self._expected()}; got no rows: the shape is {list(array.shape)}.")
        return array, single

    def _expected(self) -> str:
        return f"input {self.info.name!r} must be {self.info}"

    def beyond(self, raw: Array) -> str:
        """Return what to say of numbers that the dtype cannot hold."""
        return f"{self._expected()}; a number is beyond what {self.dtype} can hold: {_worst(raw)}."

    def fraction(self) -> str:
        """Return what to say of a fraction for an integer input."""
        return f"{self._expected()}; got a number that is not a whole one."


class RowReader:
    """Reads the inputs of a model.

    Args:
        signature: Of the model.
        max_rows: The most rows of a request, or None for any number.
    """

    def __init__(self, signature: Signature, max_rows: int | None) -> None:
        self.inputs = tuple(InputReader(one) for one in signature.inputs)
        self.by_name = {one.info.name: one for one in self.inputs}
        self.max_rows = max_rows
        self._batched = signature.has_batch_axis

    def named(self, given: Mapping[str, Any], read: Callable[[InputReader, Any], Array]) -> Rows:
        """Return the rows of inputs that were given by name.

        Raises:
            Refusal: If one is missing, unknown or invalid.
        """
        unknown = next((one for one in given if one not in self.by_name), None)
        missing = [one for one in self.by_name if one not in given]
        if unknown is not None or missing:
            got = ", ".join(map(repr, given)) or "none"
            raise invalid(f"the inputs are {', '.join(map(repr, self.by_name))}; got {got:.{_LONGEST}}.")
        return self.rows([read(reader, given[name]) for name, reader in self.by_name.items()])

    def only(self) -> InputReader:
        """Return the reader of the only input.

        Raises:
            Refusal: If there are several.
        """
        if len(self.inputs) > 1:
            names = ", ".join(f'"{one}": ...' for one in self.by_name)
            raise invalid(f"the model has {len(self.inputs)} inputs; send them by name: {{{names}}}.")
        return self.inputs[0]

    def rows(self, arrays: list[Array]) -> Rows:
        """Return arrays as the rows of one request.

        Raises:
            Refusal: If shapes are wrong, or the numbers of rows differ or are too large.
        """
        single = False
        for index, reader in enumerate(self.inputs):
            arrays[index], one = reader.with_batch_axis(arrays[index])
            if index and one != single:
                raise invalid("give all inputs a batch axis, or none of them.")
            single = one
        if not self._batched:
            return Rows(arrays, 1, single=False)
        counts = {len(one) for one in arrays}
        if len(counts) > 1:
            told = ", ".join(f"{name!r} {len(one)}" for name, one in zip(self.by_name, arrays, strict=True))
            raise invalid(f"the inputs must have the same number of rows; got {told}.")
        count = counts.pop()
        if self.max_rows is not None and count > self.max_rows:
            raise invalid(f"at most {self.max_rows} rows are accepted at once (--max-batch); got {count}.")
        return Rows(arrays, count, single=single)


def without_batch_axis(outputs: Sequence[Array]) -> list[Array]:
    """Return the outputs of one row as that of a row; a model may return any number of rows for it."""
    return [one[0] if one.ndim and len(one) == 1 else one for one in outputs]


def is_finite(array: Array) -> bool:
    """Return whether no number is NaN or infinite; their sum tells, unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return isfinite(np.add.reduce(array, axis=None)) or bool(np.isfinite(array).all())


def _is_lost(given: Array, made: Array) -> bool:
    """Return whether a cast within a kind changed a number by more than rounding."""
    if made.dtype.kind == "f":
        return bool((np.isinf(made) & np.isfinite(given)).any())
    return bool((made != given).any())


def is_shape(given: Any) -> bool:
    """Return whether ``given`` can be the shape of an array that is not empty; a client's may be anything."""
    if not isinstance(given, (list, tuple)) or len(given) > MOST_AXES:
        return False
    return all(type(one) is int and 0 < one < _LONGEST_AXIS for one in given)


def whole(array: Array) -> Array:
    """Return an array of raw bytes with bools that are 0 or 1, whatever the bytes were."""
    return array.view(np.uint8) != 0 if array.dtype.kind == "b" else array


def _to_float(raw: Array, reader: InputReader) -> Array:
    if raw.dtype == reader.dtype:
        return raw
    with np.errstate(over="ignore", invalid="ignore"):
        made = raw.astype(reader.dtype)
        finite = isfinite(np.add.reduce(made, axis=None))
    if not finite and _is_lost(raw, made):
        raise invalid(reader.beyond(raw))
    return made


def _to_integer(raw: Array, reader: InputReader) -> Array:
    limits = np.iinfo(reader.dtype)
    if raw.dtype.kind == "f":
        if np.any(raw != np.trunc(raw)):
            raise invalid(reader.fraction())
        if np.any(np.abs(raw) >= _EXACT):
            raise invalid(reader.beyond(raw))
    if int(raw.max()) > limits.max or int(raw.min()) < limits.min:
        raise invalid(reader.beyond(raw))
    return raw.astype(reader.dtype)


def _as_it_is(raw: Array, _: InputReader) -> Array:
    return raw


_CASTS: Final[dict[str, tuple[str, Callable[[Array, InputReader], Array]]]] = {
    "f": ("fiu", _to_float),
    "i": ("iuf", _to_integer),
    "u": ("iuf", _to_integer),
    "b": ("b", _as_it_is),
}
"""By the kind of the model's dtype: which kinds JSON may bring, and how they become it."""


def _worst(raw: Array) -> str:
    return f"{raw.flat[int(np.argmax(np.abs(raw.astype(np.float64))))]:.6g}"


_ODD: Final = (str, bytes, type(None), dict)
"""What stands for no number."""
_NAMES: Final = {str: "a text", bytes: "a text", bool: "true or false", type(None): "null", dict: "an object"}


def _leaves(given: Any) -> Iterator[Any]:
    left = [given]
    while left:
        one = left.pop()
        if isinstance(one, (list, tuple)):
            left.extend(one)
        else:
            yield one
