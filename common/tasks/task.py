"""The interface between a learning task and everything that moves models around.

Round, wire, ring, fold, seal, trainer, export and registry know a task only through `Task`;
importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import ContractError

if TYPE_CHECKING:
    import torch

Parameters = dict[str, NDArray[np.float32]]
"""Float32 parameters of a model by name: what a digest, an update and a release are made of."""

SCORE_CHUNK = 4096


@dataclass(frozen=True)
class Examples:
    """One wristband's labelled examples.

    Attributes
    ----------
    inputs : Mapping[str, ndarray]
        Each (B, ...) float32, by input name of the task.
    labels : ndarray
        (B,) int64, index into ``task.labels``.

    Raises
    ------
    ContractError
        If an input has another number of rows than there are labels.
    """

    inputs: Mapping[str, NDArray[np.float32]]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, rows in self.inputs.items():
            if len(rows) != len(self.labels):
                raise ContractError(
                    f"input {name} has {len(rows)} rows for {len(self.labels)} labels", name=name
                )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, idx: NDArray[Any] | slice) -> Examples:
        """Return the examples at `idx`: positions (int), a mask (bool) or a slice."""
        return Examples({name: rows[idx] for name, rows in self.inputs.items()}, self.labels[idx])


def joined(parts: Sequence[Examples]) -> Examples:
    """Lay examples of the same task end to end.

    Raises
    ------
    ContractError
        If there are none, or they have other inputs.
    """
    if not parts or any(part.inputs.keys() != parts[0].inputs.keys() for part in parts):
        raise ContractError("only examples with the same inputs can be joined")
    return Examples(
        {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs},
        np.concatenate([part.labels for part in parts]),
    )


class Task(Protocol):
    """What wristbands learn: inputs, labels, model, loss and the graph that is released.

    Attributes
    ----------
    name : str
        Key of the task in `common.tasks.registry`.
    labels : tuple[str, ...]
        The C classes, in the order of the columns of `scores`.
    input_shapes : Mapping[str, tuple[int, ...]]
        Shape per example of each float32 input, in the order of the ONNX inputs.
    evaluation_shapes : Mapping[str, tuple[int, ...]]
        Shapes of the int64 tensors that `count` returns.
    """

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def evaluation_shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def build(self) -> torch.nn.Module:
        """Return a fresh module; all its state is parameters, it has no buffers."""

    def initial(self, seed: int, *, simulated: bool = True) -> Parameters:
        """Return the parameters a region starts from; the same for the same `seed`.

        With `simulated` they have already learnt the task's public simulated examples, if it has
        some; without it nothing has been learnt.
        """

    def loss(
        self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the scalar training loss of `module` on one batch drawn by `draw`."""

    def scorer(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the graph to export.

        Its ``forward(*inputs)`` takes the inputs in the order of `input_shapes` and returns
        scores (B, C) in label order: rows sum to 1 and the decision is the argmax, with
        normalisation and decision rules folded in.
        """

    def draw(self, examples: Examples, num: int, rng: np.random.Generator) -> Examples:
        """Draw one training batch of `num` examples: sampling by class and augmentation."""

    def count(
        self, scores: NDArray[np.floating], labels: NDArray[np.int64]
    ) -> dict[str, NDArray[np.int64]]:
        """Reduce scores (B, C) to integers that may leave a wristband.

        ``confusion`` (C, C) [true, said]; ``histogram`` (C, 2, 32): scores of class c among the
        beats not of that class (row 0) and of it (row 1), in 32 equal bins of [0, 1].
        """


def parameters(module: torch.nn.Module) -> Parameters:
    """Return copies of a module's parameters as float32 arrays, by name."""
    return {
        name: tensor.detach().cpu().numpy().astype(np.float32, copy=True)
        for name, tensor in module.named_parameters()
    }


def load_parameters(module: torch.nn.Module, params: Mapping[str, NDArray[np.float32]]) -> None:
    """Set a module's parameters in place.

    Raises
    ------
    ContractError
        If names or shapes are not exactly those of the module.
    """
    import torch

    own = dict(module.named_parameters())
    if set(own) != set(params):
        raise ContractError(
            "the parameters are of another model", names=sorted(set(own) ^ set(params))
        )
    with torch.no_grad():
        for name, tensor in own.items():
            value = np.array(params[name], dtype=np.float32)
            if value.shape != tuple(tensor.shape):
                raise ContractError(
                    f"{name} has shape {value.shape}, the model has {tuple(tensor.shape)}",
                    name=name,
                )
            tensor.copy_(torch.from_numpy(value))


def score(
    task: Task,
    params: Mapping[str, NDArray[np.float32]],
    inputs: Mapping[str, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Score examples with a model, without gradients, in chunks.

    Returns
    -------
    ndarray
        (B, C) float32 scores in label order; (0, C) when there are no examples.

    Raises
    ------
    ContractError
        If an input lacks, has another shape than the task's, or a score is not finite.
    """
    import torch

    rows = _checked_rows(task, inputs)
    module = task.build()
    load_parameters(module, params)
    scorer = task.scorer(module).eval()
    scores = np.empty((len(rows[0]), len(task.labels)), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(scores), SCORE_CHUNK):
            chunk = [torch.from_numpy(x[start : start + SCORE_CHUNK]) for x in rows]
            scores[start : start + SCORE_CHUNK] = scorer(*chunk).numpy()
    if not np.isfinite(scores).all():
        raise ContractError("the model gives scores that are not finite")
    return scores


def _checked_rows(
    task: Task, inputs: Mapping[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    if set(inputs) != set(task.input_shapes):
        raise ContractError(
            f"task {task.name} takes the inputs {sorted(task.input_shapes)}, got {sorted(inputs)}"
        )
    rows = [np.ascontiguousarray(inputs[name], dtype=np.float32) for name in task.input_shapes]
    for name, array in zip(task.input_shapes, rows, strict=True):
        if array.shape != (len(rows[0]), *task.input_shapes[name]):
            raise ContractError(
                f"input {name} has shape {array.shape}, each example must be "
                f"{task.input_shapes[name]}",
                name=name,
            )
    return rows
