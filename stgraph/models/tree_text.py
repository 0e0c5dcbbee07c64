"""Look at the text of LightGBM's trees before it is believed: numbers, sizes, no way in circles."""

from __future__ import annotations

import re

import numpy as np
from torch import Tensor

_MAX_BYTES = 500_000_000
# per tree: lines with a number per inner node, those that are whole, and all that there may be
_INNER = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_WHOLE = {"split_feature", "decision_type", "left_child", "right_child"}
_LINES = {
    *("num_leaves", "num_cat", "is_linear", "shrinkage", *_INNER, "split_gain", "leaf_value"),
    *("leaf_weight", "leaf_count", "internal_value", "internal_weight", "internal_count"),
}
_TEXT = re.compile(r"[\n -~]*")  # what ends a line for us must end it for LightGBM, too
_DECIMALS = re.compile(r"[-+0-9.eE inf]*")
_INTEGERS = re.compile(r"(?:-?[0-9]{1,9}(?: -?[0-9]{1,9})*)?")


def check_trees(text: Tensor, *, n_inputs: int) -> None:
    """Raise ValueError unless a text holds sound trees over `n_inputs` numbers.

    LightGBM reads its own files in C++ and trusts them: a child that is no node of its tree, or an
    input that does not exist, would be memory of something else.
    """
    if text.dim() != 1 or len(text) > _MAX_BYTES:
        raise ValueError("the trees are no text of a size that trees have")
    whole = bytes(text.numpy()).decode("ascii")
    if not _TEXT.fullmatch(whole):
        raise ValueError("the trees hold something other than plain text")
    head, *trees = whole.split("\nTree=")
    facts = _lines(head.split("\n"))
    if not head.startswith("tree\n") or not trees:
        raise ValueError("the text holds no trees")
    wanted = {
        "num_class": "1",
        "num_tree_per_iteration": "1",
        "label_index": "0",
        "max_feature_idx": str(n_inputs - 1),
        "objective": "regression_l1",
    }
    odd = [name for name, value in wanted.items() if facts.get(name) != value]
    if odd:
        raise ValueError(f"the trees are of another model: {odd[0]} is {facts.get(odd[0])!r}")
    sizes = [len(f"Tree={tree}\n".encode()) for tree in trees[:-1]]
    if [int(size) for size in facts["tree_sizes"].split()][:-1] != sizes:
        raise ValueError("the trees have other sizes than their text says")
    trees[-1] = trees[-1].split("\nend of trees")[0]
    for number, tree in enumerate(trees):
        _check_tree(tree, number, n_inputs)


def _check_tree(tree: str, number: int, n_inputs: int) -> None:
    """Raise ValueError unless one tree is sound."""
    # LightGBM stops at an empty line, so one is at the end, and none before
    first, *rows = tree.rstrip("\n").split("\n")
    facts = _lines(rows)
    if not set(facts) <= _LINES or len(facts) < len(rows) or not tree.endswith("\n\n"):
        raise ValueError(f"tree {number} has lines that no tree has")
    n_leaves = int(_numbers(facts["num_leaves"], whole=True)[0])
    plain = facts["num_cat"] == "0" and facts["is_linear"] == "0"
    if first != str(number) or not plain or not 1 <= n_leaves <= 1 << 16:
        raise ValueError(f"tree {number} is of a kind that is not used here")
    if len(_numbers(facts["leaf_value"])) != n_leaves:
        raise ValueError(f"tree {number} has not one value per leaf")
    if n_leaves == 1:
        return
    inner = {name: _numbers(facts[name], whole=name in _WHOLE) for name in _INNER}
    if any(len(values) != n_leaves - 1 for values in inner.values()):
        raise ValueError(f"tree {number} has lines of another length than its leaves want")
    feature = inner["split_feature"]
    if feature.min() < 0 or feature.max() >= n_inputs:
        raise ValueError(f"tree {number} looks at an input that does not exist")
    children = np.concatenate([inner["left_child"], inner["right_child"]])
    # every node but the root and every leaf (numbered -1, -2, ...) is the child of one node
    everyone = np.concatenate([np.arange(1, n_leaves - 1), np.arange(-n_leaves, 0)])
    parents = np.tile(np.arange(n_leaves - 1), 2)
    if (
        not np.array_equal(np.sort(children), np.sort(everyone))
        or ((children > 0) & (children <= parents)).any()
    ):
        raise ValueError(f"tree {number} is no tree")


def _lines(rows: list[str]) -> dict[str, str]:
    """Return the rows ``name=value``; a name that stands there twice would leave two readings."""
    pairs = [row.split("=", 1) for row in rows if "=" in row]
    facts = dict(pairs)
    if len(facts) < len(pairs):
        raise ValueError("a line of the trees is there twice")
    return facts


def _numbers(text: str, *, whole: bool = False) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the numbers of a line, just as LightGBM would read them."""
    if not (_INTEGERS if whole else _DECIMALS).fullmatch(text):
        raise ValueError("a line of the trees holds something other than numbers")
    return np.array(text.split(), dtype=np.float64)
