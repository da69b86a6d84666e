"""Measurements: training steps and convolutions against PyTorch, and the main job. ``python -m bench --help``."""
