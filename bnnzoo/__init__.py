"""bnnzoo: a zoo of Bayesian neural networks."""

from pathlib import Path as _Path

_root = _Path(__file__).resolve().parent.parent
if (_root / "models" / "zoo").is_dir() and (_root / "pyproject.toml").is_file():
    # A source checkout: models/, inference/ and reports/ stand beside this folder, and a Python
    # started in the root finds this copy first, whatever is installed.
    __path__.append(str(_root))
