"""Conditions on columns, such as ``lanes >= 2 and highway in ("primary", "trunk")``, never run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from stgraph.errors import InputError, nearest_name
from stgraph.graph import BoolArray

_LONGEST = 1000  # characters
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SQL = {"=": "==", "<>": "!=", "AND": "and", "OR": "or", "NOT": "not", "NULL": "None"}


def find_rows(condition: str, table: Mapping[str, pd.Series], n_rows: int) -> BoolArray:
    """Tell for which rows a condition holds.

    Parameters
    ----------
    condition
        Comparisons (``== != < <= > >=``, also chained, ``in``, ``not in``, ``is None``,
        ``is not None``) of columns with numbers, texts in quotes, True and False, joined by
        ``and``, ``or``, ``not`` and brackets. Where a value is missing no comparison holds.
    table
        Columns by name.
    n_rows
        Their length.

    Raises
    ------
    InputError
        It says what cannot be read, or which column there is not.
    """
    if len(condition) > _LONGEST:
        raise InputError(f"is {len(condition)} characters long; use at most {_LONGEST}")
    try:
        tree = ast.parse(condition.strip(), mode="eval")
        return _holds(tree.body, table, n_rows)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot be read: {condition!r}{_hint(condition)}") from error


def _hint(condition: str) -> str:
    """Return what to write for the SQL that a condition has."""
    words = condition.replace("==", " ").replace("<=", " ").replace(">=", " ")
    words = words.replace("!=", " ").replace("=", " = ")
    found = [f"{new} for {old}" for old, new in _SQL.items() if old in words.split()]
    return f" (write {', '.join(found)})" if found else ""


def _holds(node: ast.expr, table: Mapping[str, pd.Series], n_rows: int) -> BoolArray:
    """Return the rows for which a part of a condition holds."""
    if isinstance(node, ast.BoolOp):
        parts = [_holds(part, table, n_rows) for part in node.values]
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return np.asarray(join.reduce(parts), dtype=np.bool_)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_holds(node.operand, table, n_rows)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        held = np.ones(n_rows, dtype=np.bool_)
        for first, how, second in zip(sides, node.ops, sides[1:], strict=False):
            held &= _compare(first, how, second, table, n_rows)
        return held
    if isinstance(node, ast.Name):  # a column of True and False alone
        return _compare(node, ast.Eq(), ast.Constant(value=True), table, n_rows)
    raise InputError(f"{ast.unparse(node)!r} is no comparison; {_ALLOWED}")


_ALLOWED = "use columns, numbers, texts in quotes, == != < <= > >= in, and, or, not"


def _compare(
    first: ast.expr, how: ast.cmpop, second: ast.expr, table: Mapping[str, pd.Series], n_rows: int
) -> BoolArray:
    """Return the rows for which one comparison holds."""
    if isinstance(how, ast.Is | ast.IsNot):
        if not (isinstance(second, ast.Constant) and second.value is None):
            raise InputError("`is` is for None alone; use == for values")
        missing = _missing(_column(first, table))
        return missing if isinstance(how, ast.Is) else ~missing
    if isinstance(how, ast.In | ast.NotIn):
        column, values = _column(first, table), _values(second)
        held = np.zeros(n_rows, dtype=np.bool_)
        for value in values:
            held |= _match(column, operator.eq, value, first)
        return held if isinstance(how, ast.In) else ~held & ~_missing(column)
    compare = _COMPARE[type(how)]
    if isinstance(first, ast.Name) and isinstance(second, ast.Name):
        left, right = _column(first, table), _column(second, table)
        return _checked(compare, left, right, first, second)
    if isinstance(first, ast.Name):
        return _match(_column(first, table), compare, _value(second), first)
    turned = {operator.lt: operator.gt, operator.le: operator.ge,
              operator.gt: operator.lt, operator.ge: operator.le}  # fmt: skip
    return _match(_column(second, table), turned.get(compare, compare), _value(first), second)


def _match(
    column: pd.Series, compare: Callable[[Any, Any], Any], value: Any, node: ast.expr
) -> BoolArray:
    """Return the rows whose value compares so with a constant."""
    if value is None:
        raise InputError("nothing equals None; write `is None` or `is not None`")
    if isinstance(value, str):
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            raise InputError(f"`{ast.unparse(node)}` has numbers, not texts such as {value!r}")
        return _checked(compare, column.astype("string"), value, node, None)
    if isinstance(value, bool):
        held = column.astype("string").str.lower().map({"true": True, "false": False})
        return _checked(compare, held, value, node, None)
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().all() and column.notna().any():
        raise InputError(f"`{ast.unparse(node)}` has texts, not numbers such as {value!r}")
    return _checked(compare, numbers, value, node, None)


def _checked(
    compare: Callable[[Any, Any], Any], left: pd.Series, right: Any, *nodes: ast.expr | None
) -> BoolArray:
    """Return a comparison; missing values compare with nothing."""
    try:
        held = pd.Series(compare(left, right)).fillna(False).to_numpy(dtype=np.bool_)
    except TypeError as error:
        names = " and ".join(ast.unparse(node) for node in nodes if node is not None)
        raise InputError(f"{names} cannot be compared so") from error
    missing = _missing(left)
    return held & ~(missing | _missing(right) if isinstance(right, pd.Series) else missing)


def _missing(column: pd.Series) -> BoolArray:
    """Tell where a column has no value."""
    return column.isna().to_numpy(dtype=np.bool_)


def _column(node: ast.expr, table: Mapping[str, pd.Series]) -> pd.Series:
    """Return the column that a name means."""
    if not isinstance(node, ast.Name):
        raise InputError(f"{ast.unparse(node)!r} is no column; {_ALLOWED}")
    if node.id not in table:
        known = [name for name in table if name.isidentifier()]
        hint = nearest_name(node.id, known)
        raise InputError(f"no column {node.id!r}{hint}; there are {', '.join(known)}")
    return table[node.id]


def _value(node: ast.expr) -> Any:
    """Return a number, text or truth that is written out."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number
    if isinstance(node, ast.Constant) and isinstance(
        node.value, str | int | float | bool | type(None)
    ):
        return node.value
    raise InputError(f"{ast.unparse(node)!r} is no number and no text in quotes; {_ALLOWED}")


def _values(node: ast.expr) -> list[Any]:
    """Return the values of a list that is written out."""
    if not isinstance(node, ast.Tuple | ast.List | ast.Set):
        raise InputError(f"{ast.unparse(node)!r} is no list; write in ('a', 'b')")
    return [_value(part) for part in node.elts]
