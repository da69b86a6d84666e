"""The layers, a family a file: modules that hold parameters and options, and call the functions of ``nn.functional``."""
