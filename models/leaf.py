"""The type of a number that is a leaf of a pytree."""

from typing import Any

Leaf = Any
"""A float on the outside, a traced array inside a compiled program, a placeholder in between:
no annotation holds for all three, and JAX rebuilds the object with each of them."""
