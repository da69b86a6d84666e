"""Graphs as native programs of this machine's processors.

interface ──> planner: the compiler's passes, then stages and memory ──> recipe ──> runtime: programs
                 └── kernels: what computes each task ──> codegen: machine code
"""
