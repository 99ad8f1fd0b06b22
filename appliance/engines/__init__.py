"""Backends and the engines they make: llama.cpp and ONNX Runtime behind the same few protocols."""
