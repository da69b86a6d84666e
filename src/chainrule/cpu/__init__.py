"""Compiles graphs to native programs for the processor of this machine, and runs them.

interface ──> planner: the compiler's passes, then stages and memory ──> recipe ──> runtime: programs
                 └── kernels: native functions, one or more for each task ──> codegen: machine code
"""
