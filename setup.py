"""Which folders are which packages: models/ is imported as bnnzoo.models, and so on.

Everything else about the distribution is in pyproject.toml, which has no way to say "every package
under these four folders". tests/test_packaging.py compares the wheel with the tree.
"""

from setuptools import find_packages, setup

ROOMS = {
    "bnnzoo": "bnnzoo",
    "bnnzoo.models": "models",
    "bnnzoo.inference": "inference",
    "bnnzoo.reports": "reports",
}

# Files that are not Python and are read at run time; ** also reaches folders that are no packages.
DATA = ["html", "jinja", "css", "js", "md", "toml", "json", "csv", "svg", "png"]

setup(
    packages=[
        package
        for room, folder in ROOMS.items()
        for package in [room, *(f"{room}.{inner}" for inner in find_packages(folder))]
    ],
    package_dir=ROOMS,
    package_data={"": ["py.typed", *(f"**/*.{ending}" for ending in DATA)]},
    include_package_data=False,  # else it warns that folders of templates are no packages
)
