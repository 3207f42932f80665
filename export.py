"""Writes a trained run's bundle, reopens it, and compares it with the trained router on real queries.

python export.py run=outputs/train-routellm_gsm8k-mf-seed0-...
"""

import json

from omegaconf import DictConfig

from routewright.core import bundle, run
from routewright.core.types import InputError


@run.entry("export")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.eval import again
    from routewright.gateway.bundle import Bundle

    with job.stage("load"):
        past = again.open_past(cfg.run, instantiate)
        again.require_router(past)
        encoder = again.encoder_of(past, instantiate, cfg.get("encoder"))
        manifest, router, calibration = past.manifest, past.fitted.router, past.fitted.calibration
    if not bundle.exportable(encoder):
        raise InputError("this encoder is asked over a network and cannot be a graph", where=cfg.run, expected="one that runs in a process")
    with job.stage("export"):
        metrics = json.loads((past.folder / "metrics.json").read_text())
        facts = bundle.Facts(manifest["name"], past.outcomes.pool, past.fitted.predictions.cost.mean(axis=0), manifest["data"], metrics)
        exported = Bundle.load(bundle.write_bundle(job.folder / "bundle", encoder, router, calibration, facts), threads=run.cores())
    with job.stage("compare"):
        sample = past.outcomes.queries.take(run.evenly(len(past.outcomes), cfg.compare))
        sample = sample if encoder is None else sample.encoded(encoder.encode(sample.text))
        worst = exported.compare(list(sample.text), calibration(router.predict(sample)).quality)
        golden = exported.check_golden()
    job.facts |= {"run": str(past.folder), "data": manifest["data"], "encoder": manifest["encoder"], "export_difference": worst}
    job.write_json("metrics.json", metrics)
    job.write_text("report.html", (past.folder / "report.html").read_text())
    job.say(f"{len(sample)} queries at batch 1 and 64: largest difference {worst:.1e}; {len(bundle.hostile())} golden texts: {golden:.1e}")
    job.say(metrics["verdict"]["sentence"])


if __name__ == "__main__":
    main()
