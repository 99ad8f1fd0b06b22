"""The recipe of starter-embed: all-MiniLM-L6-v2 from its wheel to ONNX, with nothing but numpy."""
