"""What networks become when their layers grow without bound: Gaussian processes and kernels."""

from bnnzoo.models.infinite.convolutional import (
    Conv,
    ConvNetwork,
    Pool,
    conv_kernel,
    conv_variances,
)
from bnnzoo.models.infinite.dense import Dense, dense_kernel
from bnnzoo.models.infinite.nngp import nngp_kernel

__all__ = [
    "Conv",
    "ConvNetwork",
    "Dense",
    "Pool",
    "conv_kernel",
    "conv_variances",
    "dense_kernel",
    "nngp_kernel",
]
