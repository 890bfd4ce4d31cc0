"""What a notebook measures, [S, P] for S training seeds and P test problems, and its tidy rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restem_lib.estimates import spread
from restem_lib.statistics import interval
from restem_lib.store import seed_for

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]


class Table:
    """What a notebook measures: rates, [S, P], each under its names (task, model, method, iteration ...)."""

    def __init__(self) -> None:
        self._values: dict[frozenset[tuple[str, Any]], Values] = {}
        self._rows: list[dict[str, Any]] = []

    def add(self, values: Values, **names: Any) -> None:
        """One measurement. Raises ValueError for names that are there already."""
        names, key = _short(names), _key(names)
        if key in self._values:
            raise ValueError(f"{names} is there already")
        self._values[key] = values
        self._rows.append(row(values, **names))

    def of(self, **names: Any) -> Values:
        """What was added under exactly these names."""
        return self._values[_key(names)]

    def iterations(self, **names: Any) -> list[Values]:
        """What was added under these names and iteration 0, 1, 2 ..., as far as they go."""
        found: list[Values] = []
        while _key({**names, "iteration": len(found)}) in self._values:
            found.append(self.of(**names, iteration=len(found)))
        return found

    def rows(self, **names: Any) -> pd.DataFrame:
        """A row for each that has these names: names, value, low, high, n, seeds."""
        import pandas as pd

        wanted = _short(names).items()
        return pd.DataFrame([one for one in self._rows if wanted <= one.items()])

    def save(self, path: Path) -> None:
        """Write the rows as CSV."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows().to_csv(path, index=False, float_format="%.6f")


def _short(names: Mapping[str, Any]) -> dict[str, Any]:
    """Names as tables hold them: of a model's folder or a task's file the last part."""
    return {key: Path(name).name if isinstance(name, str) else name for key, name in names.items()}


def _key(names: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(_short(names).items())


def row(values: Values, **names: Any) -> dict[str, Any]:
    """A row of a tidy table: the names given, the mean of rates in 0..1, [S, P], its 95 % interval, n and seeds."""
    rng = np.random.default_rng(seed_for("row", *map(str, names.values())))
    if len(values) == 1:
        value, low, high, _ = interval(values[0], rng)
    else:
        value = float(values.mean())
        drawn = (1 + spread(2 * values - 1, rng)) / 2  # it takes values from -1 to 1
        low, high = np.clip(np.quantile(drawn, (0.025, 0.975)), 0.0, 1.0)
    seeds, n = values.shape
    return {**names, "value": value, "low": low, "high": high, "n": n, "seeds": seeds}
