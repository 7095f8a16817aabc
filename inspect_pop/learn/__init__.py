"""Training and judging models: labelled sets, network, calibration, evaluation, promotion. The only home of torch."""
