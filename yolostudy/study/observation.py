"""Observations: what a probe saw, as plain data, and how two of them are compared.

Tensors and arrays become numpy arrays here. No other part of the course machine compares numbers.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

# dtypes that are compared as arrays; an array of any other dtype becomes a list
KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}


@dataclass(frozen=True)
class Frame:
    """One line of a traceback."""

    file: str
    line: int
    function: str
    code: str


@dataclass(frozen=True)
class Raised:
    """An exception that an answer raised.

    `frames` are those of the learner's own files, outermost first.
    """

    kind: str
    message: str
    frames: tuple[Frame, ...] = ()

    @property
    def first_line(self) -> str:
        return self.message.strip().partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.kind}: {self.first_line}" if self.message else self.kind


@dataclass(frozen=True)
class Seen:
    """What one probe saw: its observations, or the exception that was raised instead."""

    values: object = None
    error: Raised | None = None


@dataclass(frozen=True)
class Difference:
    """The first place where an observation differs from what was expected."""

    what: str  # the observation, such as `output` or `boxes[2]`
    sentence: str  # expected ..., yours ...
    expected: object = None
    yours: object = None

    def __str__(self) -> str:
        return f"{self.what}: {self.sentence}" if self.what else self.sentence


def plain(value: object) -> object:
    """A value as plain data: None, bool, int, float, str, numpy arrays, lists and dicts of them."""
    if isinstance(value, int) and value.bit_length() > 63:
        return f"an int of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)  # numpy has its own class of strings
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
        return np.array(value.float() if "bfloat16" in str(value.dtype) else value)
    if isinstance(value, (np.ndarray, np.generic, complex)):
        array = np.array(value)
        return array if array.dtype.kind in KINDS else plain(array.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(own) for key, own in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [plain(own) for own in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    kind = type(value)
    return str(value) if kind.__module__ == "torch" else f"an object of {kind.__name__}"  # a dtype, a device


def first_difference(expected: Seen, seen: Seen, rtol: float = 0.0, atol: float = 0.0) -> Difference | None:
    """The first place where two observations differ by more than the tolerance, or None."""
    if expected.error or seen.error:
        was, now = expected.error, seen.error
        if was and now and (was.kind, was.first_line) == (now.kind, now.first_line):
            return None
        if not was:
            return Difference("", str(now))
        return Difference("", f"expected {was}, yours {now or 'raised nothing'}")
    return next(_differences("", expected.values, seen.values, rtol, atol), None)


def _differences(what: str, expected, yours, rtol: float, atol: float) -> Iterator[Difference]:
    numbers = (bool, int, float, np.ndarray)
    if isinstance(expected, numbers) and isinstance(yours, numbers):
        yield from _numeric(what, np.asarray(expected), np.asarray(yours), rtol, atol)
    elif isinstance(expected, dict) and isinstance(yours, dict):
        for key in expected:
            inner = f"{what} / {key}" if what else key
            if key in yours:
                yield from _differences(inner, expected[key], yours[key], rtol, atol)
            else:
                instead = next((other for other in yours if other not in expected), None)
                yield Difference(
                    inner, "expected, and yours has none" + (f"; it has {instead!r}" if instead else ""), expected[key]
                )
        for key in yours:
            if key not in expected:
                yield Difference(what, f"yours has {key!r}, which is not expected")
    elif isinstance(expected, list) and isinstance(yours, list):
        if len(expected) != len(yours):
            yield Difference(what, f"expected {len(expected)} items, yours {len(yours)}", expected, yours)
        for place, (one, other) in enumerate(zip_longest(expected, yours)):
            yield from _differences(f"{what}[{place}]", one, other, rtol, atol)
    elif type(expected) is not type(yours) or expected != yours:
        yield Difference(what, f"expected {_told(expected)}, yours {_told(yours)}", expected, yours)


def _numeric(what: str, expected: np.ndarray, yours: np.ndarray, rtol: float, atol: float) -> Iterator[Difference]:
    kinds = KINDS[expected.dtype.kind], KINDS[yours.dtype.kind]
    if expected.shape != yours.shape:
        yield Difference(what, f"expected shape {_shape(expected)}, yours {_shape(yours)}", expected, yours)
        return
    if kinds[0] != kinds[1]:
        yield Difference(what, f"expected {kinds[0]}, yours {kinds[1]}" + _example(expected, yours), expected, yours)
        return
    exact = kinds[0] in ("bool", "int")
    with np.errstate(all="ignore"):
        one, other = (
            a if exact else a.astype(np.complex128 if kinds[0] == "complex" else np.float64) for a in (expected, yours)
        )
        equal = one == other if exact else np.isclose(other, one, rtol, atol, equal_nan=True)
    wrong = np.argwhere(~equal)
    if not len(wrong):
        return
    if not expected.shape:
        yield Difference(what, _pair(expected[()], yours[()]), expected, yours)
        return
    place = tuple(map(int, wrong[0]))
    share = (
        f"all {expected.size} values differ"
        if len(wrong) == expected.size
        else f"{len(wrong)} of {expected.size} values differ"
    )
    nans = 0 if exact else int(np.isnan(other).sum() - np.isnan(one).sum())
    note = f" ({nans} are NaN)" if nans > 0 else ""
    at = f"at {list(place)}: {_pair(expected[place], yours[place])}"
    yield Difference(what, f"{share}{note}, first {at}", expected, yours)


def _shape(array: np.ndarray) -> str:
    return str(tuple(array.shape)) if array.shape else "() (one number)"


def _example(expected: np.ndarray, yours: np.ndarray) -> str:
    return "" if expected.shape else f" ({_number(expected[()])} against {_number(yours[()])})"


def _pair(expected, yours) -> str:
    """Two numbers that differ, with enough digits to show it."""
    digits = next((d for d in range(5, 17) if _number(expected, d).strip(".") != _number(yours, d).strip(".")), 17)
    return f"expected {_number(expected, digits)}, yours {_number(yours, digits)}"


def _number(value, digits: int = 5) -> str:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, (bool, int)):
        return str(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e5
    return f"{value:.{digits}g}" + "." * whole


def _told(value) -> str:
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {_shape(value)}"
    if isinstance(value, (dict, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return _number(value) if isinstance(value, (bool, int, float)) else f"{value!r}"[:200]


# ---- as JSON, so that what comes out of a sandbox is read and never run --------------------------


def dumps(seen: list[Seen]) -> str:
    def raised(error: Raised | None):
        return error and {
            "kind": error.kind,
            "message": error.message,
            "frames": [vars(frame) for frame in error.frames],
        }

    return json.dumps([{"values": _to_json(s.values), "error": raised(s.error)} for s in seen])


def loads(text: str) -> list[Seen]:
    """Raises ValueError for a text that `dumps` cannot have written."""
    try:
        items = json.loads(text)
        if not isinstance(items, list):
            raise TypeError(f"a {type(items).__name__} is not a list")
        return [Seen(_from_json(item["values"]), _raised(item["error"])) for item in items]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"these are no observations: {error!r}") from None


def _raised(item) -> Raised | None:
    return item and Raised(str(item["kind"]), str(item["message"]), tuple(Frame(**frame) for frame in item["frames"]))


def _to_json(value):
    if isinstance(value, np.ndarray):
        return {
            "#dtype": value.dtype.str,
            "shape": list(value.shape),
            "data": base64.b64encode(value.tobytes()).decode(),
        }
    if isinstance(value, dict):
        return {key: _to_json(own) for key, own in value.items()}
    return [_to_json(own) for own in value] if isinstance(value, list) else value


def _from_json(value):
    if isinstance(value, dict):
        if "#dtype" in value:
            dtype = np.dtype(value["#dtype"])
            if dtype.kind not in KINDS:
                raise ValueError(f"these are no observations: dtype {dtype}")
            return (
                np.frombuffer(base64.b64decode(value["data"]), dtype)
                .reshape([int(length) for length in value["shape"]])
                .copy()
            )
        return {key: _from_json(own) for key, own in value.items()}
    return [_from_json(own) for own in value] if isinstance(value, list) else value
