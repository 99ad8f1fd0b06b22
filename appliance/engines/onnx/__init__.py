"""The ONNX Runtime backend: text embeddings and reranking."""
