"""How near a query lies to what a router was trained on, inside the exported graph: the distance that tells what it has never seen.

Mahalanobis distance of the embedding from the training mean with a shrunken covariance (Lee et al. 2018, arXiv 1807.03888, with one class;
Ledoit and Wolf 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routewright.core.types import Floats, InputError

if TYPE_CHECKING:
    import onnx

SPARED = 0.3  # of the rows, kept from the covariance, for the threshold
STRANGE = 0.01  # of queries like the training ones that are called strange
FEWEST = 500  # rows; of fewer the hundredth part is one query or two, and up to a tenth of ordinary queries fell below it


@dataclass(frozen=True, eq=False)
class Familiarity:
    """familiarity[n] = -|(embedding[n,d] - centre[d]) @ whiten[d,d]| / sqrt(d): about -1 for a query like the training ones.

    least: below it a query is out of distribution, as `strange` of the spared training queries are.
    """

    centre: Floats
    whiten: Floats
    least: float
    strange: float = STRANGE

    @classmethod
    def fit(cls, embedding: Floats, rng: np.random.Generator) -> Familiarity | None:
        """From the training queries' embedding[n,d]; None for fewer than FEWEST. Most give the covariance, the others the threshold."""
        from sklearn.covariance import LedoitWolf

        n = len(embedding)
        if n < FEWEST:
            return None
        order, x = rng.permutation(n), embedding.astype(np.float64)
        spared, kept = x[order[: int(SPARED * n)]], x[order[int(SPARED * n) :]]
        centre = kept.mean(axis=0)
        covariance = LedoitWolf(assume_centered=True).fit(kept - centre).covariance_
        value, vector = np.linalg.eigh(covariance)
        whiten = vector / np.sqrt(np.maximum(value, 1e-9 * value.max())) / np.sqrt(x.shape[1])
        made = cls(centre.astype(np.float32), whiten.astype(np.float32), 0.0)
        return cls(made.centre, made.whiten, float(np.quantile(made(spared), STRANGE)))

    def __call__(self, embedding: Floats) -> Floats:
        """[n] float64."""
        return -np.sqrt((((embedding.astype(np.float64) - self.centre) @ self.whiten.astype(np.float64)) ** 2).sum(axis=1))

    def described(self) -> dict[str, Any]:
        """For bundle.json."""
        told = "minus the Mahalanobis distance of the query's embedding from the training queries', by the root of the dimensions"
        return {"least": self.least, "strange": self.strange, "told": told}

    def beside(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The merged graph with a second output, `familiarity` float[batch]. Raises InputError for a graph without `embedding` in it."""
        from onnx import TensorProto, checker, helper, numpy_helper

        if "embedding" not in {name for node in model.graph.node for name in node.output}:
            raise InputError("familiarity needs an embedding", expected="a tensor named embedding in the graph", found="none")
        made = type(model).FromString(model.SerializeToString())
        tables = {"centre": self.centre, "whiten": self.whiten, "axes": np.array([1])}
        for name, value in tables.items():
            made.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), f"familiar/{name}"))
        steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
            ("Sub", ["embedding", "familiar/centre"], "familiar/gap", {}),
            ("MatMul", ["familiar/gap", "familiar/whiten"], "familiar/white", {}),
            ("Mul", ["familiar/white", "familiar/white"], "familiar/square", {}),
            ("ReduceSum", ["familiar/square", "familiar/axes"], "familiar/sum", {"keepdims": 0}),
            ("Sqrt", ["familiar/sum"], "familiar/root", {}),
            ("Neg", ["familiar/root"], "familiarity", {}),
        ]
        for kind, inputs, output, options in steps:
            made.graph.node.append(helper.make_node(kind, inputs, [output], name=f"familiar/{kind}", **options))
        made.graph.output.append(helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, ["batch"]))
        checker.check_model(made, full_check=True)
        return made
