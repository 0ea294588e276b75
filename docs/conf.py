"""The site: these pages, the reference from docstrings, the catalogue from the registry.

`make docs` builds it with warnings as errors, so that an undocumented public name, a broken link
or a reference to nothing fails the build.
"""

import logging
import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
logging.getLogger("arviz").setLevel(logging.WARNING)  # says where it plots when it is imported

project = "bnnzoo"
author = "The bnnzoo developers"
copyright = author
version = release = installed("bnnzoo")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["reference_pages", "catalogue"]
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = f"bnnzoo {version}"
html_copy_source = False
html_show_sphinx = False
pygments_dark_style = "github-dark"

myst_heading_anchors = 3

python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
# The last are scikit-learn's own, which its estimators inherit.
autodoc_default_options = {
    "members": True,
    "exclude-members": "set_fit_request, set_predict_request, set_score_request, "
    "get_metadata_routing",
}
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}

# Names of other libraries are left as text: their inventories would need a network.
OTHERS = ["ArrayLike", "Array", "Float", "Leaf", "O", "Path", "optional"]
OTHERS += [rf"({name})\..*" for name in ("collections", "flax", "jax", "jaxtyping", "nnx", "np")]
OTHERS += [rf"({name})\..*" for name in ("numpy", "numpyro", "dist", "os", "pathlib", "pydantic")]
OTHERS += [rf"({name})\..*" for name in ("typing", "xarray", "xr")]
OTHERS += [r"'.*'"]  # axes of an array
# Ours, not public, and named in public signatures and docstrings.
OTHERS += [
    r".*\.ReportRun",
    r".*\.TableEncoding",
    r".*\.Where",
    r".*\.process\.Process",
    r".*\.empirical\.Law",
    r".*\.hyper_parameters\.Groups",
    "Draws",
    "ndarray",
    "Factory",
    r"bnnzoo\.models\.activations",
    "truth",
]
nitpick_ignore_regex = [("py:.*", name) for name in OTHERS]
