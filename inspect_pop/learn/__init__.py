"""Training of models: datasets, network, training loop, calibration, ONNX, releases. The only package that imports torch."""
