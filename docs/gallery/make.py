"""Runs every example and writes the page that shows them: `make gallery`.

The page is made from the examples themselves, so that a code host shows it as the site does.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = sorted(HERE.glob("[0-9]*.py"))

INTRODUCTION = """\
# Gallery

<!-- Made by `make gallery` from the examples beside it: edit those. -->

Ten short examples, each a script that runs as it stands, in seconds and without a network, and
ends in the picture shown. `make validate` runs them all and holds what
they say to the numbers that come out; R-hat of the functions is below 1.05 in every fit. The look
is in [gallery.mplstyle](gallery.mplstyle). The same models [behind scikit-learn's
interface](../sklearn.md) have a page of their own.
"""

SECTION = """
## {title}

{text}

![{title}]({name}.svg)

<details>
<summary>The code</summary>

```python
{code}
```

</details>

[{name}.py]({name}.py)
"""


def page() -> str:
    """The text of index.md."""
    return INTRODUCTION + "".join(section(example) for example in EXAMPLES)


def section(example: Path) -> str:
    """An example's title and text, which are its docstring, its picture and its code."""
    source = example.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    title, text = docstring.split("\n\n", 1)
    code = source.split('"""', 2)[2].strip()
    return SECTION.format(title=title.rstrip("."), text=text, name=example.stem, code=code)


if __name__ == "__main__":
    for example in EXAMPLES:
        print(example.name, flush=True)
        environment = {**os.environ, "MPLBACKEND": "Agg", "JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, example], cwd=HERE, env=environment, check=True)
    (HERE / "index.md").write_text(page(), encoding="utf-8")
