"""Array kernels: each has one contract, a CPU twin here and a CUDA source of the same name."""
