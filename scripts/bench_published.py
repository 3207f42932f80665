"""Runs the published RouteLLM code for bench.py, in an interpreter that has it: asked and answering in lines of JSON. Never imported there.

Their functions run as they are. Replaced are only what needs a network or a GPU: the client that embeds a query gives the vector that is
stored for it, and the causal LLM's tensors stay on the CPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NAMES = "model-{:03d}"  # for a table of the published MF only their own names count


class Stored:
    """Stands for their OpenAI client: the embedding of the text "17" is row 17."""

    def __init__(self, vectors: Any) -> None:
        self.vectors, self.embeddings = vectors, self

    def create(self, input: list[str], model: str) -> Any:
        return SimpleNamespace(data=[SimpleNamespace(embedding=self.vectors[int(input[0])])])


class Ranking:
    """SWRankingRouter with its battles given instead of downloaded."""

    def __init__(self, data: Any, tiers: int, **_: Any) -> None:
        import numpy as np
        import pandas as pd
        from routellm.routers import routers

        self.module, self.tiers = routers, tiers
        name = np.array([NAMES.format(j) for j in range(int(data["m"]))], dtype=object)
        winner = np.where(data["won"] > 0, "model_a", "model_b")
        self.battles = pd.DataFrame({"model_a": name[data["a"]], "model_b": name[data["b"]], "winner": winner})
        self.vectors = data["vectors"].astype(np.float64)  # as a list read from a data set becomes
        routers.OPENAI_CLIENT = Stored(data["asked"].astype(np.float64))

    def fit(self) -> None:
        made = self.module.SWRankingRouter.__new__(self.module.SWRankingRouter)
        made.arena_df, made.arena_conv_embedding, made.embedding_model = self.battles.copy(), self.vectors, ""
        made.strong_model, made.weak_model = NAMES.format(1), NAMES.format(0)
        made.model2tier = self.module.compute_tiers(self.module.compute_elo_mle_with_tie(made.arena_df), num_tiers=self.tiers)
        for side in ("model_a", "model_b"):
            made.arena_df[side] = made.arena_df[side].apply(lambda name: made.model2tier[name])
        self.router = made

    def predict(self, query: str) -> float:
        return float(self.router.calculate_strong_win_rate(query))


class Factorisation:
    """train_loops of their training script on a part of the battles, and pred_win_rate with the weights it found."""

    def __init__(self, data: Any, epochs: int, **_: Any) -> None:
        from routellm.routers.matrix_factorization import model, train_matrix_factorization

        self.module, self.serving, self.data, self.epochs = train_matrix_factorization, model, data, epochs
        self.folder = tempfile.TemporaryDirectory()
        model.OPENAI_CLIENT = Stored(data["asked"])

    def fit(self) -> None:
        import numpy as np
        import torch

        data, module, names = self.data, self.module, list(self.serving.MODEL_IDS)
        path = Path(self.folder.name) / "vectors.npy"
        np.save(path, data["vectors"])
        columns = (data["a"].tolist(), data["b"].tolist(), data["won"].tolist())
        rows = [
            {"model_a": names[a], "model_b": names[b], "winner": "model_a" if won else "model_b", "idx": at}
            for at, (a, b, won) in enumerate(zip(*columns))  # noqa: B905 - of any Python 3
        ]
        torch.manual_seed(42)
        loader = module.PairwiseDataset(rows).get_dataloaders(batch_size=64)
        width = data["vectors"].shape[1]
        net = module.MFModel_Train(dim=128, num_models=len(names), num_prompts=len(rows), text_dim=width, npy_path=str(path))
        # no evaluation between epochs: it is not what is measured, and theirs adds noise to the queries
        module.train_loops(net, loader, None, 3e-4, 1e-5, 0.1, self.epochs, device="cpu", evaluator=lambda *_: (0.0, 0.0))
        self.net = net
        made = self.serving.MFModel(128, len(names), width, 1, True)
        made.P.load_state_dict(net.P.state_dict())
        made.text_proj[0].load_state_dict(net.text_proj.state_dict())
        made.classifier[0].load_state_dict(net.classifier.state_dict())
        self.router = made.eval()

    def predict(self, query: str) -> float:
        return float(self.router.pred_win_rate(1, 0, query))

    def logits(self) -> list[float]:
        """Of the held-out battles: that a beats b."""
        import torch

        data, net = self.data, self.net
        with torch.no_grad():
            unit = torch.nn.functional.normalize(net.P.weight, dim=1)
            a, b, asked = (torch.from_numpy(data[name]) for name in ("held_a", "held_b", "asked"))
            found = net.classifier((unit[a] - unit[b]) * net.text_proj(asked))
        return [float(value) for value in found.squeeze(-1)]


class Encoder:
    """BERTRouter, inference alone: the package trains none."""

    def __init__(self, data: Any, model: str, **_: Any) -> None:
        from routellm.routers.routers import BERTRouter

        self.router = BERTRouter(model)
        self.router.model.eval()

    def predict(self, query: str) -> float:
        return float(self.router.calculate_strong_win_rate(query))


class OnCpu:
    """torch, but what it makes of arrays answers .to("cuda") by staying where it is."""

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.torch, name)

    def as_tensor(self, values: Any) -> Any:
        return SimpleNamespace(to=lambda _: self.torch.as_tensor(values))


class Generation:
    """CausalLLMClassifier on the CPU, inference alone, with another prompt than theirs, which is not in the package."""

    def __init__(self, data: Any, model: str, **_: Any) -> None:
        from routellm.routers.causal_llm import configs, llm_utils
        from routellm.routers.causal_llm import model as module
        from routellm.routers.causal_llm.prompt_format import PromptFormat

        tokens = [f"[[{score}]]" for score in range(1, 6)]
        config = configs.RouterModelConfig(model_id=model, model_type="causal", num_outputs=5, special_tokens=tokens)
        module.torch = OnCpu()
        made = module.CausalLLMClassifier.__new__(module.CausalLLMClassifier)
        made.model = llm_utils.get_model(config, model).eval()
        made.tokenizer = llm_utils.get_tokenizer(model, special_tokens=tokens)
        made.prompt_format = PromptFormat(
            system="{instruction}", user="{instruction}", assistant="{instruction}", trailing_assistant="", is_generation=True
        )
        made.use_last_turn, made.prompt_field, made.additinal_fields = True, "messages", []
        made.orig_vocab_size, made.max_new_tokens, made.score_threshold = len(made.tokenizer) - 5, 6, 4
        self.router = made

    def predict(self, query: str) -> float:
        found = self.router({"messages": [{"role": "user", "content": query}]})
        return 1.0 if found is None else float(1 - found["binary_prob"])


KINDS: dict[str, Callable[..., Any]] = {
    "sw_ranking": Ranking,
    "mf": Factorisation,
    "bert": Encoder,
    "causal_llm": Generation,
}


class Desk:
    """Answers: versions; open (a router of KINDS); fit; peak; predict; logits."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench

    def versions(self) -> dict[str, Any]:
        import numpy
        import torch
        import transformers
        from routellm.routers import routers  # noqa: F401 - that it can be imported is the answer

        self.bench.settle_torch()
        return {"torch": torch.__version__, "numpy": numpy.__version__, "transformers": transformers.__version__}

    def open(self, router: str, data: str | None = None, **options: Any) -> dict[str, Any]:
        import numpy as np

        self.router = KINDS[router](None if data is None else dict(np.load(data)), **options)
        return {}

    def fit(self) -> dict[str, Any]:
        return self._timed(self.router.fit)

    def peak(self) -> dict[str, Any]:
        return {"mib": self.bench.peak_growth(self.router.fit)}

    def predict(self, queries: list[str]) -> dict[str, Any]:
        """One at a time: the published routers know no batch."""
        won: list[float] = []
        return self._timed(lambda: won.extend(map(self.router.predict, queries))) | {"won": won}

    def logits(self) -> dict[str, Any]:
        return {"logits": self.router.logits()}

    def _timed(self, work: Callable[[], object]) -> dict[str, Any]:
        spent = self.bench.timed(work)
        return {"cpu": spent.cpu, "wall": spent.wall}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the published code prints is no answer
    spec = importlib.util.spec_from_file_location("bench_clock", sys.argv[1])
    assert spec is not None
    assert spec.loader is not None
    bench = sys.modules["bench_clock"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    desk = Desk(bench)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(desk, request.pop("do"))(**request)
        except Exception as error:  # whatever goes wrong in their code is told to whoever asked
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
