"""Layers: modules that hold parameters and options and call the functions of ``nn.functional``. Each family is a file."""
