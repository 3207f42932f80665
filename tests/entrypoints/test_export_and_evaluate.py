"""`python export.py` and `python evaluate.py`: what comes out is what was trained, and what was changed is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from routewright.core.run import load_manifest
from routewright.core.types import InputError
from routewright.gateway.bundle import FILES, Bundle


def test_export_writes_the_same_bundle_again(entry, trained) -> None:
    folder = trained("router=logistic").ok().folder
    ended = entry("export", f"run={folder}", "compare=40").ok()
    assert load_manifest(ended.folder)["kind"] == "export"
    assert load_manifest(ended.folder)["export_difference"] <= 1e-4
    assert "40 queries at batch 1 and 64" in ended.out
    for name in ("router.onnx", "tokenizer.json"):
        assert (ended.folder / "bundle" / name).read_bytes() == (folder / "bundle" / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
def test_one_flipped_byte_is_refused_by_name(bundle_folder: Path, tmp_path: Path, name: str, place: float) -> None:
    copy = shutil.copytree(bundle_folder, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        Bundle.load(copy)


def test_a_flipped_seal_and_a_missing_file_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_folder, tmp_path / "copy")
    text = (copy / "bundle.json").read_text()
    seal = json.loads(text)["sha256"]["bundle.json"]
    (copy / "bundle.json").write_text(text.replace(seal, "0" * 64))
    with pytest.raises(InputError, match=r"bundle\.json was changed"):
        Bundle.load(copy)
    (copy / "bundle.json").write_text(text)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        Bundle.load(copy)


def test_an_unknown_point_lists_the_points(bundle_folder: Path) -> None:
    bundle = Bundle.load(bundle_folder)
    with pytest.raises(InputError, match="expected one of balanced, cheapest, quality-95"):
        bundle.decide("hello", point="best")
    assert bundle.score([]).shape == (0, 2)
    assert bundle.decide("").model in bundle.models


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a tiny encoder: its checks do not depend on its size."""
    import numpy as np

    from routewright.core import bundle, graph
    from routewright.core.calibrate import Affine
    from routewright.routers.logistic import Logistic
    from tests.conftest import make_outcomes

    outcomes = make_outcomes(np.random.default_rng(0), d=8)

    class Letters:
        """Token ids to a one-hot mean: enough of an encoder to be exported."""

        fingerprint = "f" * 64

        def onnx(self):
            import onnx
            from onnx import numpy_helper, parser

            model = parser.parse_model(
                f"""<ir_version: {graph.IR_VERSION}, opset_import: ["" : {graph.OPSET}]>
                letters (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask) => (float[batch, 8] embedding) {{
                    rows = Gather(table, input_ids)
                    whole = Cast<to = 1>(attention_mask)
                    weight = Unsqueeze(whole, last)
                    kept = Mul(rows, weight)
                    embedding = ReduceMean<axes = [1], keepdims = 0>(kept)
                }}"""
            )
            table = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
            model.graph.initializer.extend([numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([-1]), "last")])
            onnx.checker.check_model(model)
            return model

        def tokenizer(self) -> str:
            from tokenizers import Tokenizer, models, pre_tokenizers

            made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
            made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
            made.enable_truncation(16)
            made.post_processor = None
            return made.to_str()

    fitted = Logistic().fit(outcomes, rng=np.random.default_rng(0))
    points = {name: {"knob": 0.1 * i} for i, name in enumerate(("balanced", "cheapest", "quality-95"))}
    verdict = {"word": "hurts", "difference": -0.1, "ci": None, "sentence": "It hurts."}
    metrics = {
        "policy": "threshold",
        "weak": "model0",
        "strong": "model1",
        "operating_points": points,
        "labels": "clean",
        "verdict": verdict,
    }
    facts = bundle.Facts("tiny", outcomes.pool, np.array([0.1, np.nan]), {"name": "made up"}, metrics, bundle.Settings("model1"))
    return bundle.write_bundle(tmp_path_factory.mktemp("bundle"), Letters(), fitted, Affine(0.5, np.zeros(2)), facts)


def test_evaluate_repeats_the_run_and_compares(entry, trained) -> None:
    one = trained("router=logistic").ok().folder
    two = trained("router=constant").ok().folder
    ended = entry("evaluate", f"runs=[{one},{two}]", "replicates=200").ok()
    found = json.loads((ended.folder / "metrics.json").read_text())
    first = json.loads((one / "metrics.json").read_text())
    assert set(found["runs"]) == {"logistic", "constant"}
    again = found["runs"]["logistic"]
    for key in ("apgr", "aiq", "auroc", "brier", "cost_saved_at_95"):
        assert again[key] == pytest.approx(first[key], abs=1e-9)
    assert again["operating_points"]["balanced"] == first["operating_points"]["balanced"]
    assert again["verdict"]["ci"] == first["verdict"]["ci"]
    (pair,) = found["paired"]
    assert pair["ci"][0] > 0
    assert "logistic beats constant" in ended.out
    assert (ended.folder / "report.html").stat().st_size > 10_000


def test_evaluate_on_other_data_leaves_out_what_was_seen(entry, trained, table: Path, tmp_path: Path) -> None:
    import numpy as np

    from tests.entrypoints.conftest import write_table

    folder = trained("router=logistic").ok().folder
    other = write_table(tmp_path / "other.csv", np.random.default_rng(5))
    ended = entry("evaluate", f"runs=[{folder}]", "data=table", f"data.path={other}", "replicates=200").ok()
    found = json.loads((ended.folder / "metrics.json").read_text())["runs"]["logistic"]
    assert found["n_test"] == 80  # the stories are the same texts: only the sums are new
    same = entry("evaluate", f"runs=[{folder}]", "data=table", f"data.path={table}")
    assert same.code == 1
    assert "has not seen" in same.err


def renamed(table: Path, names: dict[str, str]) -> Path:
    """The same file with other models' names in its header."""
    head, _, body = table.read_text().partition("\n")
    for old, new in names.items():
        head = head.replace(f":{old}", f":{new}")
    table.write_text(f"{head}\n{body}")
    return table


def test_evaluate_on_another_pair(entry, trained, tmp_path: Path) -> None:
    """The same kind of table under other names: only the sums are new, and what was promised is told."""
    import numpy as np

    from tests.entrypoints.conftest import write_table

    folder = trained("router=logistic").ok().folder
    other = renamed(write_table(tmp_path / "other.csv", np.random.default_rng(5)), {"small": "tiny", "large": "huge/v1.5"})
    words = (f"runs=[{folder}]", "data=table", f"data.path={other}", "replicates=200")
    refused = entry("evaluate", *words)
    assert refused.code == 1
    assert "expected small, large, found tiny, huge/v1.5" in refused.err
    assert "roles={weak: NAME, strong: NAME}" in refused.err
    tables = []
    for more in ("transfer=true", "roles={weak: tiny, strong: huge/v1.5}"):
        ended = entry("evaluate", *words, more).ok()
        found = json.loads((ended.folder / "metrics.json").read_text())
        metrics = found["runs"]["logistic"]
        assert (metrics["weak"], metrics["strong"], metrics["n_test"], metrics["seen"]) == ("tiny", "huge/v1.5", 80, 80)
        assert (metrics["brier"], metrics["reliability"]) == (None, None)
        assert "(chosen for another pair)" in (ended.folder / "report.html").read_text()
        assert "brier" in ended.out
        tables.append(found["pairs"])
    assert tables[0] == tables[1]
    pairs = "pairs=[[tiny,huge/v1.5],[huge/v1.5,tiny]]"
    both = entry("evaluate", *words, pairs).ok()
    found = json.loads((both.folder / "metrics.json").read_text())
    assert [row["weak"] for row in found["pairs"]] == ["tiny", "huge/v1.5"]
    assert found["pairs"][0] | {"name": "logistic"} == tables[0][0]
    assert set(found["runs"]) == {"logistic on tiny -> huge/v1.5", "logistic on huge/v1.5 -> tiny"}
    assert "-> huge/v1.5" in both.out
    for wrong, told in (
        ("roles={weak: tiny, strong: giant}", "a role is no model of the data in 'giant': expected one of tiny, huge/v1.5"),
        ("roles={weak: tiny, strong: tiny}", "one model cannot be both roles"),
        ("pairs=[tiny]", "pairs are no list of pairs"),
    ):
        ended = entry("evaluate", *words, wrong)
        assert ended.code == 1
        assert told in ended.err
    alone = entry("evaluate", f"runs=[{folder}]", "transfer=true")
    assert "a run's own data have its own pair" in alone.err


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_bert import make_encoder

    return make_encoder(tmp_path_factory.mktemp("tiny") / "model", context=512)


@pytest.fixture(scope="module")
def tiny_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.reference.test_encoders import make_model

    return make_model(tmp_path_factory.mktemp("tiny") / "model")


def same_bundle(entry, folder: Path) -> None:
    """export.py writes the run's bundle again, byte for byte what is not a date or a name."""
    ended = entry("export", f"run={folder}", "compare=40").ok()
    assert load_manifest(ended.folder)["export_difference"] <= 1e-4
    for name in FILES:
        assert (ended.folder / "bundle" / name).read_bytes() == (folder / "bundle" / name).read_bytes(), name


def test_a_router_that_reads_text_is_exported_and_judged_elsewhere(entry, trained, tiny: Path, tmp_path: Path) -> None:
    import numpy as np

    from tests.entrypoints.conftest import write_table

    text = (
        "router=bert",
        f"router.model={tiny}",
        "router.checkpoints=false",
        "router.epochs=1",
        "router.threads=1",
        "shuffled_labels=false",
    )
    folder = trained(*text).ok().folder
    assert load_manifest(folder)["encoder"] == "none"
    same_bundle(entry, folder)
    refused = entry("export", f"run={folder}", "encoder=minilm")
    assert refused.code == 1
    assert "this router reads text itself" in refused.err
    other = renamed(write_table(tmp_path / "other.csv", np.random.default_rng(5)), {"small": "tiny", "large": "huge"})
    ended = entry("evaluate", f"runs=[{folder}]", "data=table", f"data.path={other}", "transfer=true", "replicates=200").ok()
    assert json.loads((ended.folder / "metrics.json").read_text())["runs"]["bert"]["n_test"] == 80


def test_a_router_of_battles_with_a_further_table_is_exported_and_judged_elsewhere(entry, trained, table: Path, tmp_path: Path) -> None:
    """Three models learned, two judged; what stands in the further table counts as seen."""
    import csv

    import numpy as np

    from tests.entrypoints.conftest import write_table

    further = tmp_path / "battles.csv"
    with further.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["query", "model_a", "model_b", "winner"])
        for i in range(60):
            names = (("small", "large"), ("small", "other"), ("large", "other"))[i % 3]
            writer.writerow([f"Which of the rivers is number {i}?", *names, ("model_a", "model_b", "tie")[i % 3]])
    words = ("+data@extra.arena=table", f"extra.arena.path={further}", "router=mf", "router.epochs=2", "shuffled_labels=false")
    folder = trained(*words).ok().folder
    same_bundle(entry, folder)
    other = renamed(write_table(tmp_path / "other.csv", np.random.default_rng(5)), {"small": "tiny", "large": "huge"})
    with other.open("a") as stream:
        stream.write("Which of the rivers is number 3?,1,1,0.0001,0.002,chat\n")
    ended = entry("evaluate", f"runs=[{folder}]", "data=table", f"data.path={other}", "transfer=true", "replicates=200").ok()
    found = json.loads((ended.folder / "metrics.json").read_text())["runs"]["mf"]
    assert (found["n_test"], found["seen"]) == (80, 81)
    assert "further training tables (arena)" in found["withheld"]["leakage"]
    further.write_text(further.read_text() + "one more?,small,large,tie\n")
    changed = entry("evaluate", f"runs=[{folder}]", "data=table", f"data.path={other}", "transfer=true", "replicates=200")
    assert "a further training table changed" in changed.err


def test_a_run_judged_by_battles_is_exported_and_judged_again(entry, tmp_path: Path) -> None:
    import csv

    path = tmp_path / "fought.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["query", "model_a", "model_b", "winner"])
        for i in range(120):
            writer.writerow(
                [f"What is {i} plus {i * 7 % 13}?" if i % 2 else f"Tell me about {i}.", "small", "large", ("tie", "model_b")[i % 2]]
            )
    words = ("data=table", f"data.path={path}", "router=knn", "router.k=5", "tracking=none", "replicates=200", "shuffled_labels=false")
    folder = entry("train", *words).ok().folder
    same_bundle(entry, folder)
    ended = entry("evaluate", f"runs=[{folder}]", "replicates=200").ok()
    again = json.loads((ended.folder / "metrics.json").read_text())["runs"]["knn"]
    assert again["models"]["large"]["quality"] == json.loads((folder / "metrics.json").read_text())["models"]["large"]["quality"]


def test_what_is_no_run_is_named(entry, tmp_path: Path) -> None:
    for name, words in (("export", [f"run={tmp_path}/none"]), ("evaluate", [f"runs=[{tmp_path}/none]"])):
        ended = entry(name, *words)
        assert ended.code == 1
        assert "is not there" in ended.err
    (tmp_path / "empty").mkdir()
    assert "not a finished run" in entry("export", f"run={tmp_path}/empty").err


def test_evaluate_cannot_be_imported_by_mistake() -> None:
    import runpy

    with pytest.raises(ImportError, match="Hugging Face"):
        runpy.run_path(str(Path(__file__).resolve().parents[2] / "evaluate.py"), run_name="evaluate")


def results(out: str) -> str:
    """The line that compares the two routers."""
    return next(line for line in out.splitlines() if "at equal cost." in line and "mix" not in line)


def behind(entry, folder: Path, *words: str):
    """The run exported behind another encoder: how it ended, its manifest and metrics, and the run's own metrics."""
    ended = entry("export", f"run={folder}", "compare=40", *words).ok()
    first, found = (json.loads((place / "metrics.json").read_text()) for place in (folder, ended.folder))
    return ended, load_manifest(ended.folder), found, first


@pytest.mark.slow
@pytest.mark.parametrize("more", [("cv=3",), ("split.kind=grouped", "split.calibration=0", "shuffled_labels=false", "seed=3")])
def test_behind_an_encoder_with_the_same_vectors_the_same_router_comes_out(entry, trained, more: tuple[str, ...]) -> None:
    """No text has 200 tokens, so another limit is another encoder with the same vectors: the recipe is repeated to the last figure."""
    folder = trained("router=mf", "router.epochs=2", *more).ok().folder
    ended, manifest, found, first = behind(entry, folder, "encoder=minilm", "encoder.max_tokens=200")
    assert manifest["encoder"] != load_manifest(folder)["encoder"]
    assert found == first
    assert manifest["refit"]["paired"]["difference"] == 0
    assert manifest["refit"]["paired"]["ci"] == [0, 0] or manifest["refit"]["paired"]["ci"] is None
    assert set(manifest["refit"]["results"]) == {"mf behind minilm", "mf behind minilm (other settings)"}
    assert manifest["export_difference"] <= 1e-4
    for name in ("predictions.parquet", "weights.safetensors", "curve.parquet"):
        assert (ended.folder / name).read_bytes() == (folder / name).read_bytes(), name


def test_behind_another_encoder_both_results_and_their_difference_are_told(entry, trained, tiny_sentences: Path) -> None:
    words = ("encoder.encoder.weights_sha256=null", f"encoder.encoder.model={tiny_sentences}", "encoder.encoder.max_tokens=60")
    folder = trained("router=logistic").ok().folder
    for encoder, more in (("static", ("encoder.dimensions=16",)), ("minilm-int8", ())):
        ended, manifest, found, first = behind(entry, folder, f"encoder={encoder}", *words, *more)
        assert "logistic behind minilm " in ended.out
        assert f"logistic behind {encoder} " in ended.out
        assert "behind" in results(ended.out)
        rows = manifest["refit"]["results"]
        assert rows["logistic behind minilm"]["difference"] == pytest.approx(first["verdict"]["difference"])
        assert rows["logistic behind minilm"]["ci"] == first["verdict"]["ci"]
        assert rows[f"logistic behind {encoder}"]["ci"] == found["verdict"]["ci"]
        assert manifest["refit"]["paired"]["difference"] == pytest.approx(found["verdict"]["difference"] - first["verdict"]["difference"])
        assert found["encoder"] == encoder
        assert set(found["controls"]) == set(first["controls"])
        assert f"behind {encoder}" in (ended.folder / "report.html").read_text()
        described = json.loads((ended.folder / "bundle" / "bundle.json").read_text())
        assert described["encoder"]["fingerprint"] == manifest["encoder"]
        assert described["verdict"] == found["verdict"]
        assert Bundle.load(ended.folder / "bundle").check_golden() <= 1e-4


@pytest.mark.slow
def test_behind_another_encoder_further_tables_are_kept_as_the_run_kept_them(entry, trained, tmp_path: Path) -> None:
    import csv

    further = tmp_path / "battles.csv"
    with further.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["query", "model_a", "model_b", "winner"])
        for i in range(60):
            writer.writerow([f"Which of the rivers is number {i}?", "small", "large", ("model_a", "model_b", "tie")[i % 3]])
    words = ("+data@extra.arena=table", f"extra.arena.path={further}", "router=mf", "router.epochs=2", "shuffled_labels=false")
    folder = trained(*words).ok().folder
    _, manifest, found, first = behind(entry, folder, "encoder=minilm", "encoder.max_tokens=200")
    assert found == first
    assert manifest["export_difference"] <= 1e-4
    further.write_text(further.read_text() + "one more?,small,large,tie\n")
    changed = entry("export", f"run={folder}", "encoder=minilm", "encoder.max_tokens=200")
    assert changed.code == 1
    assert "a further training table changed" in changed.err


def test_an_encoder_over_a_network_is_refused_before_anything_is_fitted(entry, trained) -> None:
    folder = trained("router=constant").ok().folder
    ended = entry("export", f"run={folder}", "encoder=openai")
    assert ended.code == 1
    assert "asked over a network and cannot be a graph" in ended.err
