"""Tell whether an error says that memory ran out: the libraries have many words for it."""

import re

CAUSES = 20
TYPE = "OutOfMemoryError"
"""PyTorch's, by name: what says how a run ended does not import it."""
# Source: PyTorch (OutOfMemoryError, AcceleratorError, DefaultCPUAllocator), cuBLAS and cuDNN status
# names, CUDA error names, bitsandbytes (`Error out of memory at line`), NCCL, Python; oneDNN, whose
# kernels on a CPU take memory when they are made.
WORDS = re.compile(
    r"out of memory"
    r"|CU(BLAS|DNN|SPARSE|SOLVER)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
    r"|DefaultCPUAllocator: (can't|not enough)"
    r"|Cannot allocate memory"
    r"|could not create a (primitive|memory)"
    r"|Unable to allocate .* for an array",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, in this error or in one that it came from.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    True
    >>> is_out_of_memory(RuntimeError("could not create a primitive"))
    True
    >>> is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    False
    """
    cause: BaseException | None = error
    for _ in range(CAUSES):
        if cause is None:
            return False
        is_named = any(kind.__name__ == TYPE for kind in type(cause).__mro__)
        if is_named or isinstance(cause, MemoryError) or WORDS.search(str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
