"""Trains one router, judges it beside its controls, exports it, and says in words whether it helps.

python train.py router=mf
python train.py -m router=mf,knn,ridge seed=0,1,2
"""

from functools import partial

from omegaconf import DictConfig

from routewright.core import artifact, bundle, run
from routewright.core.files import plain


@run.entry("train")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.data import audit, split
    from routewright.data.load import load, provenance
    from routewright.eval import plots, report, summary, trial
    from routewright.eval.assess import Judging
    from routewright.gateway.bundle import Bundle

    source, encoder, tracker = (instantiate(part) for part in (cfg.data, cfg.encoder, cfg.tracking))
    chosen = {group: run.choices()[group] for group in ("data", "router", "encoder")}
    with job.stage("load"):
        outcomes, kind, given = load(source, kind=cfg.split.kind, cv=cfg.cv)
        job.facts |= provenance(source, outcomes)
    with job.stage("encode"):
        outcomes = outcomes.encoded(encoder.encode(outcomes.queries.text))
        job.facts["encoder"] = encoder.fingerprint
    with job.stage("split"):
        cuts = split.folds(outcomes.queries, **{**cfg.split, "kind": kind}, cv=cfg.cv, given=given, rng=job.rng("split"))
        leakage = audit.leakage(outcomes.queries, cuts)
    with job.stage("judge"):
        judging = Judging(cfg.policy.name, cfg.protocol, cfg.replicates, clustered=kind == "grouped")
        make = partial(instantiate, cfg.router)
        tried = trial.try_router(chosen["router"], make, outcomes, cuts, judging, fit=job.rng("fit"), judge=job.rng("judge"))
        found = chosen | {"labels": job.facts["data"]["labels"], "leakage": leakage}
        metrics = plain(found | trial.described(cuts, kind) | tried.assessment.metrics)
    with job.stage("export"):
        router, calibration = tried.fitted.router, tried.fitted.calibration
        artifact.save_weights(job.folder, router, calibration)
        artifact.save_scores(job.folder, trial.scores(tried, outcomes))
        artifact.save_curves(job.folder, tried.assessment.curves, outcomes.pool.name)
        facts = bundle.Facts(job.name, outcomes.pool, tried.fitted.predictions.cost.mean(axis=0), job.facts["data"], metrics)
        exported = Bundle.load(bundle.write_bundle(job.folder / "bundle", encoder, router, calibration, facts), threads=run.cores())
        sample = outcomes.queries.take(tried.fitted.rows[run.evenly(len(tried.fitted.rows), cfg.compare)])
        # of one split the figures are the exported router's own; of several folds they are the recipe's
        job.facts["judged"] = "the exported router" if tried.fitted.exact else "routers of this recipe, one a fold"
        job.facts["export_difference"] = exported.compare(list(sample.text), calibration(router.predict(sample)).quality)
    with job.stage("report"):
        job.write_json("metrics.json", metrics)
        view = report.View(chosen["router"], metrics, tried.assessment.curves, run.told(job.manifest()))
        job.write_text("report.html", report.render([view], title=f"{chosen['router']} on {chosen['data']}"))
    params, figures = job.manifest()["config"], {"curve.png": plots.curve_png(view)}
    job.after.append(lambda folder: tracker.log(folder, params=params, metrics=metrics, figures=figures))
    job.say(summary.result_table(chosen["router"], metrics))
    job.say(metrics["verdict"]["sentence"])


if __name__ == "__main__":
    main()
