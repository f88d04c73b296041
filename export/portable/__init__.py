"""Graphs of standard ONNX operators for engines other than ONNX Runtime's CPU one."""
