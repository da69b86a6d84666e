"""The numbers of single images on their way through a network, for the lens page: pure Python and NumPy, without any web."""

from chainrule.lens.tracing.image_pass import EdgeCheck, LocalRow, Pass
from chainrule.lens.tracing.tracer import Tracer

__all__ = ["EdgeCheck", "LocalRow", "Pass", "Tracer"]
