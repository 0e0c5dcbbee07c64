"""Read plain data out of pickle files without running them.

`adj_mx.pkl` of METR-LA and PEMS-BAY is a pickle. Unpickling runs whatever the file says, so this
module walks the opcodes and builds numbers, text, lists, dicts and numeric arrays itself. Nothing
is imported or called on behalf of the file; a file that asks for anything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from stgraph.errors import DataError

_PUSH_ARGUMENT = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_SKIP = {"PROTO", "FRAME"}
_MARK = object()
_KINDS = "fiub"  # dtypes of arrays: numbers only


@dataclass(frozen=True)
class _Name:
    """A name that the file wants imported; only ever compared, never imported."""

    text: str


@dataclass
class _Array:
    """An array while it is being put together."""

    dtype: Any = None
    data: Any = None


@dataclass
class _Type:
    """A dtype while it is being put together."""

    code: str
    order: Literal["<", ">", "|", "="] = "="

    def build(self) -> np.dtype[Any]:
        """Return the dtype if it is one of plain numbers."""
        try:
            dtype = np.dtype(self.code)
        except (TypeError, ValueError) as error:
            raise _Refused(f"an array of dtype {self.code!r}") from error
        if dtype.kind not in _KINDS:
            raise _Refused(f"an array of dtype {self.code!r}, not of numbers")
        return dtype.newbyteorder(self.order)


class _Refused(Exception):  # noqa: N818  # never leaves this module
    """The file asks for more than plain data."""


@dataclass
class _Machine:
    """Stack and memory of the walk."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)


def read_plain_pickle(path: Path) -> Any:
    """Return the plain data of a pickle file; numpy arrays of numbers are plain data.

    Parameters
    ----------
    path
        A pickle of protocol 0 to 5, also of Python 2 (bytes are read as Latin-1 text).

    Returns
    -------
    object
        Lists, tuples, dicts, text, bytes, numbers, None and numpy arrays.

    Raises
    ------
    DataError
        The file is damaged, or asks to import or run something; the message names it.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            if opcode.name == "STOP":
                return _finish(machine.stack.pop())
            _step(machine, opcode.name, argument)
    except _Refused as error:
        raise DataError(
            f"{path.name}: the pickle asks for {error}, which is not plain data and was not run; "
            "save the adjacency as npz or CSV"
        ) from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path.name}: cannot be read as a pickle, it is damaged or cut off ({error}); "
            "copy or download it again"
        ) from error
    raise DataError(f"{path.name}: the pickle ends too early; copy or download it again")


def _step(machine: _Machine, name: str, argument: Any) -> None:
    """Carry out one opcode."""
    if name in _PUSH_ARGUMENT:
        machine.stack.append(argument)
    elif name in _CONSTANTS:
        machine.stack.append(_CONSTANTS[name]())
    elif name in _STRUCTURES:
        _STRUCTURES[name](machine.stack)
    elif name in _MEMORY:
        _MEMORY[name](machine, argument)
    elif name == "GLOBAL":
        machine.stack.append(_allow(str(argument).replace(" ", ".")))
    elif name == "STACK_GLOBAL":
        attribute, module = machine.stack.pop(), machine.stack.pop()
        machine.stack.append(_allow(f"{module}.{attribute}"))
    elif name not in _SKIP:
        raise _Refused(f"the operation {name} {'' if argument is None else argument}".rstrip())


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[len(machine.memo) if argument is None else int(argument)] = machine.stack[-1]


def _get(machine: _Machine, argument: Any) -> None:
    machine.stack.append(machine.memo[int(argument)])


_MEMORY: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
}


# ---------------------------------------------------------------- lists, dicts, tuples


def _pop_mark(stack: list[Any]) -> list[Any]:
    """Take everything above the last mark off the stack."""
    position = len(stack) - 1
    while stack[position] is not _MARK:
        position -= 1
        if position < 0:
            raise ValueError("mark missing")
    items = stack[position + 1 :]
    del stack[position:]
    return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """Return a dict of keys and values that alternate."""
    return dict(zip(items[::2], items[1::2], strict=True))


def _append_one(stack: list[Any]) -> None:
    item = stack.pop()
    _expect(stack[-1], list).append(item)


def _append_many(stack: list[Any]) -> None:
    items = _pop_mark(stack)
    _expect(stack[-1], list).extend(items)


def _set_one(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _expect(stack[-1], dict)[key] = value


def _set_many(stack: list[Any]) -> None:
    items = _pop_mark(stack)
    _expect(stack[-1], dict).update(_pairs(items))


def _make_tuple(n_items: int) -> Callable[[list[Any]], None]:
    """Return the step that makes a tuple of the last items."""

    def step(stack: list[Any]) -> None:
        items = tuple(stack[-n_items:])
        del stack[-n_items:]
        stack.append(items)

    return step


def _expect(value: Any, kind: type) -> Any:
    """Return a value of the kind that an operation works on."""
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} expected")
    return value


# ---------------------------------------------------------------- arrays


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _make_type(code: Any, *_: Any) -> _Type:
    return _Type(_as_str(code))


def _encode(text: str, encoding: Any = "latin1") -> bytes:
    if _as_str(encoding) not in ("latin1", "latin-1"):
        raise _Refused(f"the encoding {encoding!r}")
    return text.encode("latin-1")


def _scalar(dtype: _Type, data: Any) -> Any:
    return np.frombuffer(_as_bytes(data), dtype=_expect(dtype, _Type).build())[0].item()


def _from_buffer(data: Any, dtype: _Type, shape: Any, order: Any) -> _Array:
    return _Array(_expect(dtype, _Type), (tuple(shape), _as_str(order) == "F", data))


# what numpy writes for an array; the values stand in for numpy's own functions
_ALLOWED: dict[str, Callable[..., Any] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _make_type,
    "_codecs.encode": _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray._reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray.scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric._frombuffer"] = _from_buffer


def _allow(name: str) -> _Name:
    """Return a name that numpy's arrays need, and refuse all others."""
    if name not in _ALLOWED:
        raise _Refused(f"{name!r}")
    return _Name(name)


def _call(stack: list[Any]) -> None:
    """Build what an allowed name stands for."""
    arguments, name = _expect(stack.pop(), tuple), _expect(stack.pop(), _Name)
    make = _ALLOWED[name.text]
    if make is None:
        raise _Refused(f"a call of {name.text!r}")
    stack.append(make(*arguments))


def _build(stack: list[Any]) -> None:
    """Fill an array or a dtype with its state."""
    state, target = _expect(stack.pop(), tuple), stack[-1]
    if type(target) is _Type:
        target.order = _as_order(_as_str(state[1]))
    elif type(target) is _Array:
        _, shape, dtype, is_fortran, data = state
        target.dtype = _expect(dtype, _Type)
        target.data = (_expect(shape, tuple), bool(is_fortran), data)
    else:
        raise _Refused(f"state of a {type(target).__name__}")


def _as_order(text: str) -> Literal["<", ">", "|", "="]:
    """Return a byte order as numpy writes it."""
    for order in get_args(Literal["<", ">", "|", "="]):
        if text == order:
            return order  # type: ignore[no-any-return]  # one of the four
    raise _Refused(f"the byte order {text!r}")


def _finish(value: Any) -> Any:
    """Return the data with arrays made real, also those that are items of a list."""
    return [_real(item) for item in value] if type(value) is list else _real(value)


def _real(value: Any) -> Any:
    """Return an array made real, or anything plain as it is."""
    if isinstance(value, _Name | _Type):
        raise _Refused("a bare name")
    if type(value) is not _Array:
        return value
    shape, is_fortran, data = value.data
    flat = np.frombuffer(_as_bytes(data), dtype=value.dtype.build())
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _as_bytes(data: Any) -> bytes:
    """Return the bytes of an array; Python 2 wrote them as text."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    raise _Refused("an array of objects")


def _as_str(value: Any) -> str:
    """Return text that Python 2 or 3 wrote."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


_STRUCTURES: dict[str, Callable[[list[Any]], None]] = {
    "MARK": lambda stack: stack.append(_MARK),
    "LIST": lambda stack: stack.append(_pop_mark(stack)),
    "TUPLE": lambda stack: stack.append(tuple(_pop_mark(stack))),
    "DICT": lambda stack: stack.append(_pairs(_pop_mark(stack))),
    "TUPLE1": _make_tuple(1),
    "TUPLE2": _make_tuple(2),
    "TUPLE3": _make_tuple(3),
    "APPEND": _append_one,
    "APPENDS": _append_many,
    "SETITEM": _set_one,
    "SETITEMS": _set_many,
    "REDUCE": _call,
    "BUILD": _build,
}
