"""Writes ONNX nodes one after another, with names that cannot meet those of another graph."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class GraphPart:
    """A piece of a graph, to stand before or behind others.

    Attributes:
        nodes: Nodes in an order in which they can run.
        initializers: Constants that they read.
    """

    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)


class GraphBuilder:
    """Collects nodes and constants under names that begin with `prefix`.

    Args:
        prefix: Beginning of every name that is given here.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.part = GraphPart()

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output.

        Args:
            kind: Operator of the default domain.
            *inputs: Names of its inputs, "" for one that is left out.
            **attributes: Its attributes.

        Returns:
            The output's name.
        """
        return self.named(self._name(kind), kind, *inputs, **attributes)

    def named(self, output: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node whose output has a given name, which is returned."""
        self.part.nodes.append(helper.make_node(kind, inputs, [output], f"{output}/node", **attributes))
        return output

    def split(self, value: str, sizes: tuple[int, ...], axis: int) -> list[str]:
        """Cut a tensor along an axis.

        Returns:
            The names of the pieces.
        """
        outputs = [self._name(f"Split{place}") for place in range(len(sizes))]
        node = helper.make_node("Split", [value, self.integers(*sizes)], outputs, f"{outputs[0]}/node", axis=axis)
        self.part.nodes.append(node)
        return outputs

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Add a constant.

        Returns:
            Its name.
        """
        name = f"{self.prefix}constant_{len(self.part.initializers)}"
        self.part.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a list of int64, which ONNX wants for shapes and places."""
        return self.constant(np.array(values, np.int64))

    def lookup(self, table: NDArray[Any] | str, index: str, shape: str, output: str = "") -> str:
        """Replace each index by its entry of a table.

        GatherElements over one axis does in onnxruntime what Gather does, in a sixth of the time.

        Args:
            table: Entries, (K,), or the name of such a tensor.
            index: Name of int32 indices of any shape, each in [0, K).
            shape: Name of the int64 shape that the result gets.
            output: Name that the result gets; "" for one of the builder's own.

        Returns:
            Name of the entries.
        """
        entries = table if isinstance(table, str) else self.constant(table)
        flat = self.op("Reshape", index, self.integers(-1))
        found = self.op("GatherElements", entries, flat, axis=0)
        return self.named(output or self._name("Reshape"), "Reshape", found, shape)

    def cast(self, value: str, kind: int) -> str:
        """Convert to another type; floats are cut towards zero."""
        return self.op("Cast", value, to=kind)

    def _name(self, kind: str) -> str:
        return f"{self.prefix}{kind}_{len(self.part.nodes)}"
