"""Any layer of torch-geometric-temporal as a model: `from_pgt`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from stgraph.config import ModelConfig
from stgraph.convert.pgt import load_pgt
from stgraph.errors import ConfigError, InputError, nearest_name
from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.pgt_layers import CANNOT, IN_CHANNELS, N_NODES, RUNNERS, WINDOW, adopt
from stgraph.models.sizes import Sizes

_PLAIN = (bool, int, float, str, type(None))


class PGTConfig(DecoderOptions):
    """Options of `PGT`."""

    n_graph_layers: int = Field(0, ge=0, le=16)  # of the decoder; the layer mixes neighbours
    layer: str = "GConvGRU"  # name in torch_geometric_temporal.nn
    arguments: Mapping[str, Any] = Field(default_factory=dict)  # of its constructor

    @field_validator("layer")
    @classmethod
    def _known(cls, name: str) -> str:
        """Refuse layers that there are not, or that no window can be put through."""
        if name in CANNOT:
            raise ValueError(f"{name} {CANNOT[name]}; choose one of {sorted(RUNNERS)}")
        if name not in RUNNERS:
            raise ValueError(
                f"no layer is called {name!r}{nearest_name(name, RUNNERS)}; "
                f"choose one of {sorted(RUNNERS)}"
            )
        return name


class PGT(nn.Module):
    """Forecast every node from what a layer of torch-geometric-temporal makes of the window.

    The past is projected to the channels that the layer takes; cells are put through the window
    step by step. What the task decides (number of nodes, length of the window) is filled in where
    `arguments` leave it out; so are channels (``hidden_size``) and ``K`` (2).

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: PGTConfig) -> None:
        super().__init__()
        self.config = config
        arguments = _complete(config, sizes)
        self.layer = adopt(_construct(config.layer, arguments), sizes.n_nodes)
        self._run = RUNNERS[config.layer]
        in_size = next(int(arguments[key]) for key in IN_CHANNELS if key in arguments)
        self.project = nn.Linear(sizes.n_past, in_size)
        self.decoder = Decoder(sizes, config, in_size=self._try_out(sizes))

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        encoded = self._run(self.layer, self.project(x), (edge_index, edge_weight))
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast

    def _try_out(self, sizes: Sizes) -> int:
        """Return the size of the layer's state per node, or say that it does not fit the task."""
        x = torch.zeros(1, sizes.window, sizes.n_nodes, sizes.n_past)
        nodes = torch.arange(sizes.n_nodes)
        ring = torch.stack([nodes, nodes.roll(1)]), torch.ones(sizes.n_nodes)
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                state = self._run(self.layer, self.project(x), ring)
            if state.shape[:2] != (1, sizes.n_nodes):
                raise ValueError(f"it gives back {tuple(state.shape)}")
        except Exception as error:  # whatever a foreign layer raises
            raise ConfigError(
                f"layer {self.config.layer!r} with {dict(self.config.arguments)} cannot take "
                f"windows of {sizes.window} steps of {sizes.n_nodes} nodes "
                f"({type(error).__name__}: {error}); change `arguments`"
            ) from error
        finally:
            self.train(was_training)
        return state.shape[-1]


def from_pgt(
    layer: nn.Module | type[nn.Module] | str, *, arguments: Mapping[str, Any] | None = None
) -> ModelConfig:
    """Return a layer of torch-geometric-temporal as a model for `fit`.

    Its data comes through `stgraph.convert.from_pgt`.

    Parameters
    ----------
    layer
        An instance, a class or the name of one in ``torch_geometric_temporal.nn``. Of an instance
        the arguments are read back; its weights are not taken: training starts anew.
    arguments
        Of the constructor, where an instance does not keep them, and for classes and names.
        Numbers that the task decides may be left out.

    Returns
    -------
    ModelConfig
        For ``fit(graph, model=...)``.

    Raises
    ------
    InputError
        No such layer, one that cannot be adapted, or one whose arguments cannot be read back.

    Examples
    --------
    >>> fit(graph, model=from_pgt(GConvGRU(4, 32, K=2)))
    >>> fit(graph, model=from_pgt("A3TGCN", arguments={"in_channels": 4, "out_channels": 32}))
    """
    name = layer if isinstance(layer, str) else _name_of(layer)
    if name in CANNOT:
        raise InputError(f"{name} {CANNOT[name]}; choose one of {sorted(RUNNERS)}")
    if name not in RUNNERS:
        raise InputError(
            f"`layer` {name!r} is none of torch_geometric_temporal.nn{nearest_name(name, RUNNERS)};"
            f" choose one of {sorted(RUNNERS)}, or register a model of your own"
        )
    if arguments is None:
        arguments = _read_back(name, layer) if isinstance(layer, nn.Module) else {}
    _check_names(name, arguments)
    return ModelConfig(name="pgt", options={"layer": name, "arguments": dict(arguments)})


def _name_of(layer: nn.Module | type[nn.Module]) -> str:
    """Return the name of a layer, if it is that very class; others could not be loaded again."""
    kind = layer if isinstance(layer, type) else type(layer)
    here = getattr(load_pgt("nn"), kind.__name__, None)
    return kind.__name__ if here is kind else f"{kind.__module__}.{kind.__name__}"


def _read_back(name: str, layer: nn.Module) -> dict[str, Any]:
    """Return the constructor arguments that an instance keeps as attributes."""
    found: dict[str, Any] = {}
    missing = []
    for key, parameter in _parameters(name).items():
        value = getattr(layer, key, getattr(layer, f"_{key}", layer))
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            value = value.tolist()
        if isinstance(value, (*_PLAIN, list)):
            found[key] = value
        elif parameter.default is parameter.empty:
            missing.append(key)
    if missing:
        raise InputError(
            f"an instance of {name} does not keep {missing}; pass `arguments` with those that it "
            f"was made with, as in from_pgt({name}, arguments={{...}})"
        )
    with torch.random.fork_rng(devices=[]):
        again = _construct(name, found).state_dict()
    shapes = {key: value.shape for key, value in layer.state_dict().items()}
    if shapes != {key: value.shape for key, value in again.items()}:
        raise InputError(
            f"an instance of {name} does not keep all that it was made with; pass `arguments`"
        )
    return found


def _complete(config: PGTConfig, sizes: Sizes) -> dict[str, Any]:
    """Return the arguments with those filled in that the task decides."""
    name, given = config.layer, dict(config.arguments)
    _check_names(name, given)
    for key, parameter in _parameters(name).items():
        decided = {**dict.fromkeys(N_NODES, sizes.n_nodes), **dict.fromkeys(WINDOW, sizes.window)}
        if key in decided and given.setdefault(key, decided[key]) != decided[key]:
            raise ConfigError(
                f"`{key}` of layer {name!r} is {given[key]}, but the task has {decided[key]}; "
                "leave it out"
            )
        if key.endswith(("in_channels", "out_channels", "hidden_channels")) or key == "hidden_size":
            given.setdefault(key, config.hidden_size)
        elif key in ("K", "batch_size") and parameter.default is parameter.empty:
            given.setdefault(key, 2 if key == "K" else 1)
    if given.get("cached"):
        raise ConfigError(
            f"`cached` of layer {name!r} keeps the graph of the first batch; leave it out"
        )
    return given


def _construct(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a layer by its name: never anything but a class of torch_geometric_temporal.nn."""
    given = dict(arguments)
    if "edge_index" in given:  # of AAGCN
        given["edge_index"] = torch.as_tensor(given["edge_index"], dtype=torch.long)
    parameters = _parameters(name)
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in given]
    if missing:
        raise ConfigError(f"layer {name!r} needs {missing}; give them in `arguments`")
    try:
        layer: nn.Module = getattr(load_pgt("nn"), name)(**given)
    except Exception as error:  # whatever a foreign constructor raises
        raise ConfigError(
            f"layer {name!r} refuses {dict(arguments)} ({type(error).__name__}: {error}); "
            "change `arguments`"
        ) from error
    return layer


def _check_names(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the constructor does not have."""
    known = _parameters(name)
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"layer {name!r} has no argument `{key}`{nearest_name(key, known)}; "
                f"it has {list(known)}"
            )


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a layer's constructor."""
    signature = inspect.signature(getattr(load_pgt("nn"), name).__init__)
    return {key: value for key, value in signature.parameters.items() if key != "self"}
