"""Text encoders of BERT's shape as ONNX graphs: read, written and quantized with nothing but numpy."""
