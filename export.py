"""Writes a trained run's bundle, reopens it, and compares it with the trained router on real queries.

python export.py run=outputs/train-routellm_gsm8k-mf-seed0-...
"""

import json

from omegaconf import DictConfig

from routewright.core import artifact, bundle, run
from routewright.core.types import InputError


@run.entry("export")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.gateway.bundle import Bundle

    folder, manifest = artifact.open_run(cfg.run)
    made = manifest["config"]
    encoder = instantiate(cfg.get("encoder") or made["encoder"])
    if encoder.fingerprint != manifest["encoder"]:
        raise InputError(
            "this encoder is not the one the router was trained on",
            expected=manifest["encoder"][:12],
            found=encoder.fingerprint[:12],
            mend="Train with encoder=... first: a head fits the embeddings it has seen.",
        )
    with job.stage("load"):
        outcomes = instantiate(made["data"]).load()
        if artifact.content_hash(outcomes) != manifest["data"]["content_sha256"]:
            raise InputError("the data changed since the run was trained", where=str(folder), mend="Train again.")
        router, calibration = artifact.load_weights(folder, instantiate(made["router"]))
        scores = artifact.load_scores(folder, outcomes.pool.name)
    with job.stage("export"):
        metrics = json.loads((folder / "metrics.json").read_text())
        facts = bundle.Facts(manifest["name"], outcomes.pool, scores.predictions.cost.mean(axis=0), manifest["data"], metrics)
        exported = Bundle.load(bundle.write_bundle(job.folder / "bundle", encoder, router, calibration, facts), threads=run.cores())
    with job.stage("compare"):
        sample = outcomes.queries.take(run.evenly(len(outcomes), cfg.compare))
        sample = sample.encoded(encoder.encode(sample.text))
        worst = exported.compare(list(sample.text), calibration(router.predict(sample)).quality)
        golden = exported.check_golden()
    job.facts |= {"run": str(folder), "data": manifest["data"], "encoder": encoder.fingerprint, "export_difference": worst}
    job.write_json("metrics.json", metrics)
    job.write_text("report.html", (folder / "report.html").read_text())
    job.say(f"{len(sample)} queries at batch 1 and 64: largest difference {worst:.1e}; {len(bundle.hostile())} golden texts: {golden:.1e}")
    job.say(metrics["verdict"]["sentence"])


if __name__ == "__main__":
    main()
