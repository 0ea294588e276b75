"""laplace-torch's log marginal likelihood at given weights, in three structures."""

from __future__ import annotations

import time

import numpy as np
import torch
from _worker import answer, job
from laplace import Laplace
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset

asked, rows = job()
own = {name.removeprefix(asked["method"] + "_"): value for name, value in rows.items()}
regression = asked["method"] == "diabetes"
inputs, width = own["k0"].shape
outputs = own["k1"].shape[1]
# In the order of the parameters: a precision for each of the two weights and biases.
precisions = torch.tensor([float(inputs), 1.0, float(width), 1.0])


def network(dtype):
    """The weights given; torch holds its kernels transposed."""
    layers = (torch.nn.Linear(inputs, width), torch.nn.Tanh(), torch.nn.Linear(width, outputs))
    made = torch.nn.Sequential(*layers).to(dtype)
    with torch.no_grad():
        for name, parameter in zip(("k0", "b0", "k1", "b1"), made.parameters(), strict=True):
            parameter.copy_(torch.as_tensor(own[name].T, dtype=dtype))
    return made


def fitted(net, structure, loader, dtype):
    """Curvature at the network's weights, and the evidence."""
    likelihood = {"sigma_noise": asked["noise"]} if regression else {}
    said = Laplace(
        net,
        "regression" if regression else "classification",
        subset_of_weights="all",
        hessian_structure={"diagonal": "diag"}.get(structure, structure),
        prior_precision=precisions.to(dtype),
        **likelihood,
    )
    said.fit(loader)
    return said, float(said.log_marginal_likelihood())


# float32 is timed in every turn; float64 only tells values apart, and does not change.
dtypes = ("float32", "float64") if asked["seed"] == 0 else ("float32",)
found = {}
for structure in asked["structures"]:
    here = {}
    for name in dtypes:
        dtype = getattr(torch, name)
        torch.set_default_dtype(dtype)
        x = torch.as_tensor(own["x"], dtype=dtype)
        y = torch.as_tensor(own["y"], dtype=dtype)[:, None] if regression else own["y"]
        rows_of = TensorDataset(x, torch.as_tensor(y))
        loader = DataLoader(rows_of, batch_size=len(rows_of))
        begun, cpu = time.perf_counter(), time.process_time()
        net = network(dtype)
        said, here[name] = fitted(net, structure, loader, dtype)
        if name == "float64":
            continue
        here["first"] = time.perf_counter() - begun
        here["first_cpu"] = time.process_time() - cpu
        vector = parameters_to_vector(net.parameters()).detach()
        later = []
        for turn in range(asked["repeats"]):
            vector_to_parameters(vector * (1 + 1e-3 * (turn + 1)), net.parameters())
            begun, cpu = time.perf_counter(), time.process_time()
            fitted(net, structure, loader, dtype)
            later.append((time.perf_counter() - begun, time.process_time() - cpu))
        here["later"], here["later_cpu"] = map(float, np.median(later, axis=0))
        widths = []
        for turn in range(asked["repeats"]):
            other = precisions.to(dtype) * (1 + 0.1 * (turn + 1))
            begun = time.perf_counter()
            float(said.log_marginal_likelihood(prior_precision=other))
            widths.append(time.perf_counter() - begun)
        here["widths"] = float(np.median(widths))
    found[structure] = here
answer({"structures": found}, ("laplace-torch", "torch", "curvlinops-for-pytorch"))
