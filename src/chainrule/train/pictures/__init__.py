"""Pictures of a training, as SVG and PNG: charts, curves, matrices of confusion, sheets of images."""
