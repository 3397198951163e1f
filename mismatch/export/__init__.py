"""From a checkpoint to an ONNX bundle, and the proof that both score alike."""
