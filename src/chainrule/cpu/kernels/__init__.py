"""What computes: families of kernels, each a function over numbered units of work, written as LLVM IR."""
