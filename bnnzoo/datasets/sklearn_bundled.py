"""The five tables that come with scikit-learn: real, small, and there without a download."""

from __future__ import annotations

from typing import Any

from bnnzoo.datasets._dataset import Dataset, Task
from bnnzoo.datasets._split import SplitOptions, split_dataset
from bnnzoo.registry import register


def _register(name: str, loader: str, task: Task, summary: str, reference: str) -> None:
    @register(
        "datasets",
        name,
        summary=summary,
        options=SplitOptions,
        references=(reference,),
        tags={"task": task, "source": "scikit-learn"},
    )
    def load(options: SplitOptions) -> Dataset:
        from sklearn import datasets  # slow to import: only where it is used

        # Unscaled where scikit-learn would scale over all rows, which no split could undo.
        raw: Any = getattr(datasets, loader)(**({"scaled": False} if name == "diabetes" else {}))
        targets: dict[str, list[str]] = {"target_names": ["progression"]}
        if task == "classification":
            targets = {"class_names": [str(n) for n in raw.target_names]}
        return split_dataset(
            raw.data,
            raw.target,
            options,
            task=task,
            name=name,
            feature_names=[str(n) for n in raw.feature_names],
            **targets,
        )


_register(
    "diabetes",
    "load_diabetes",
    "regression",
    "442 patients, 10 measurements: progression of diabetes after one year.",
    "Efron, Hastie, Johnstone & Tibshirani (2004), Least angle regression.",
)
_register(
    "breast-cancer",
    "load_breast_cancer",
    "classification",
    "569 biopsies, 30 features of cell nuclei: malignant or benign.",
    "Street, Wolberg & Mangasarian (1993), Nuclear feature extraction.",
)
_register(
    "digits",
    "load_digits",
    "classification",
    "1797 handwritten digits of 8 x 8 pixels with values 0 to 16: ten classes.",
    "Alpaydin & Kaynak (1998), Optical recognition of handwritten digits, UCI.",
)
_register(
    "iris",
    "load_iris",
    "classification",
    "150 flowers, 4 lengths: three species.",
    "Fisher (1936), The use of multiple measurements in taxonomic problems.",
)
_register(
    "wine",
    "load_wine",
    "classification",
    "178 wines, 13 chemical measurements: three growers.",
    "Aeberhard & Forina (1991), Wine, UCI.",
)
