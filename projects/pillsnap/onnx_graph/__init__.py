"""The preprocessor as ONNX operators, from a decoded photo of any size to what the network reads."""

from projects.pillsnap.onnx_graph.assemble import OPSET, preprocessing_model, preprocessing_nodes
from projects.pillsnap.onnx_graph.builder import GraphPart

__all__ = ["OPSET", "GraphPart", "preprocessing_model", "preprocessing_nodes"]
