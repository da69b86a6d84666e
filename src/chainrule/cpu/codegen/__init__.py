"""Writes LLVM IR, assembles it to machine code in helper processes, keeps that on disk and loads it."""
