"""Look at the text of LightGBM's trees before it is believed: numbers, sizes, no way in circles."""

from __future__ import annotations

import re

import numpy as np
from torch import Tensor

_MAX_BYTES = 500_000_000
# per tree: how many numbers a line has, with n leaves
_INNER = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_NUMBERS = re.compile(r"[-+0-9.eE inf]*", re.ASCII)


def check_trees(text: Tensor, *, n_inputs: int) -> None:
    """Raise ValueError unless a text holds sound trees over `n_inputs` numbers.

    LightGBM reads its own files in C++ and trusts them: a child that is no node of its tree, or an
    input that does not exist, would be memory of something else.
    """
    if text.dim() != 1 or len(text) > _MAX_BYTES:
        raise ValueError("the trees are no text of a size that trees have")
    whole = bytes(text.numpy()).decode("ascii")
    head, *trees = whole.split("\nTree=")
    facts = _lines(head)
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
    for number, tree in enumerate(trees):
        _check_tree(tree.split("\nend of trees")[0], number, n_inputs)


def _check_tree(tree: str, number: int, n_inputs: int) -> None:
    """Raise ValueError unless one tree is sound."""
    first, _, rest = tree.partition("\n")
    facts = _lines(rest)
    n_leaves = int(facts["num_leaves"])
    plain = facts["num_cat"] == "0" and facts["is_linear"] == "0"
    if int(first) != number or not plain or not 1 <= n_leaves <= 1 << 16:
        raise ValueError(f"tree {number} is of a kind that is not used here")
    if len(_numbers(facts["leaf_value"])) != n_leaves:
        raise ValueError(f"tree {number} has not one value per leaf")
    if n_leaves == 1:
        return
    inner = {name: _numbers(facts[name]) for name in _INNER}
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


def _lines(text: str) -> dict[str, str]:
    """Return the lines ``name=value`` of a text."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value for name, _, value in pairs}


def _numbers(text: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the numbers of a line."""
    if not _NUMBERS.fullmatch(text):
        raise ValueError("a line of the trees holds something other than numbers")
    return np.array(text.split(), dtype=np.float64)
