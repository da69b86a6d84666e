"""Generates kernels as LLVM IR, by family. A kernel is a function over numbered units of work (see ``cpu.kernel``)."""
