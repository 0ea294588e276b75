"""``bnnzoo doctor``: whether this machine can do what the zoo needs."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import typer

from bnnzoo.cli.console import Json, console, print_json

PACKAGES = [
    *("bnnzoo", "jax", "jaxlib", "numpyro", "blackjax", "flax", "arviz", "xarray", "zarr"),
    *("numpy", "scipy", "scikit-learn", "pandas", "typer", "rich", "pydantic"),
]


class Check(NamedTuple):
    """One finding: what was looked at, whether it is well, and what was seen."""

    name: str
    ok: bool
    found: str


def doctor(as_json: Json = False) -> None:
    """Check that this machine has what the zoo needs."""
    checks = [_guarded(name, check) for name, check in CHECKS.items()]
    ok = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": ok, "checks": [check._asdict() for check in checks]})
    else:
        out = console()
        for check in checks:
            mark, style = ("ok  ", "green") if check.ok else ("FAIL", "bold red")
            out.print(f"{mark}  {check.name:<12}", style=style, end="")
            lines = check.found.splitlines()
            out.print(f"  {lines[0]}")
            for line in lines[1:]:
                out.print(" " * 20 + line)
        out.print("All is well." if ok else "Something is wrong: see the lines marked FAIL.")
    raise typer.Exit(0 if ok else 1)


def _guarded(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    try:
        return Check(name, *check())
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        return Check(name, False, f"{type(error).__name__}: {first}")


def _python() -> tuple[bool, str]:
    return sys.version_info >= (3, 12), f"{platform.python_version()} at {sys.executable}"


def _packages() -> tuple[bool, str]:
    from importlib.metadata import PackageNotFoundError, version

    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    lines = [", ".join(found[k : k + 4]) for k in range(0, len(found), 4)]
    if missing:
        lines.append(f"missing: {', '.join(missing)}")
    return not missing, "\n".join(lines)


def _devices() -> tuple[bool, str]:
    import jax

    devices = jax.devices()
    kinds = sorted({d.device_kind for d in devices})
    return True, f"{len(devices)} x {', '.join(kinds)} (platform {devices[0].platform})"


def _cores() -> tuple[bool, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return True, f"{usable} usable of {os.cpu_count()}"


def _precision() -> tuple[bool, str]:
    import jax
    import jax.numpy as jnp

    from bnnzoo.inference.precision import precision

    with precision("float64"):
        high = jnp.asarray(1.0) + jnp.asarray(1e-12)
        exact = high.dtype == jnp.float64 and float(high) != 1.0
    with precision("float32"):
        low = jnp.asarray(1.0)
        a = jnp.full((8, 64), 1.0 + 2.0**-12, jnp.float32)  # bfloat16 and TF32 round it to 1
        product = float((a @ a.T)[0, 0])
    full = abs(product - 64 * (1.0 + 2.0**-12) ** 2) < 1e-3
    words = [
        f"float64 {'works' if exact else 'is not available'}",
        f"float32 is {low.dtype}",
        "matrix products keep float32" if full else "matrix products lose float32's digits",
    ]
    default = jax.config.jax_default_matmul_precision
    return exact and full, ", ".join(words) + (f" (matmul precision {default})" if default else "")


def _compilation() -> tuple[bool, str]:
    import jax
    import jax.numpy as jnp

    begun = time.perf_counter()
    value = jax.jit(jax.grad(lambda w: jnp.sum(jnp.tanh(w) ** 2)))(jnp.ones(3))
    value.block_until_ready()
    return bool(jnp.isfinite(value).all()), f"a gradient in {time.perf_counter() - begun:.1f} s"


def _temporary() -> tuple[bool, str]:
    with tempfile.TemporaryDirectory(prefix="bnnzoo-doctor-") as folder:
        (Path(folder) / "probe").write_bytes(b"x" * 4096)
        free = shutil.disk_usage(folder).free / 2**30
    return True, f"{tempfile.gettempdir()} can be written, {free:.1f} GiB free"


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "python": _python,
    "packages": _packages,
    "devices": _devices,
    "cores": _cores,
    "precision": _precision,
    "compilation": _compilation,
    "temporary": _temporary,
}
