"""Trains one router or cascade, judges it beside its controls, exports it, and says in words whether it helps.

python train.py router=mf
python train.py cascade=frugal router=logistic data=zeroeval_gsm
python train.py cascade=automix router=logistic student=knn
python train.py -m router=mf,knn,ridge seed=0,1,2
"""

from dataclasses import replace
from functools import partial

from omegaconf import DictConfig

from routewright.core import artifact, bundle, run
from routewright.core.files import plain


@run.entry("train")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.data.load import Division, load, provenance
    from routewright.data.mix import Mixing, lesson
    from routewright.data.traffic import read_traffic
    from routewright.eval import cascading, deploy, plots, report, students, summary, trial
    from routewright.eval.assess import Judging
    from routewright.eval.promises import Asked
    from routewright.eval.scored import Makers
    from routewright.gateway import bundle as gateway_bundle
    from routewright.gateway import cascade as gateway_cascade

    asked, mixing = Asked.of(cfg.policy), Mixing(**cfg.mix)
    make = partial(instantiate, cfg.router)
    source, tracker, further = instantiate(cfg.data), instantiate(cfg.tracking), {name: instantiate(cfg.extra[name]) for name in cfg.extra}
    pupil = partial(instantiate, cfg.student) if cfg.get("student") else None
    students.check(pupil, cascade=bool(cfg.get("cascade")), alone=bool(mixing.own) and not further)
    reads_text, unread = make().reads == "text", make().reads == "text" and pupil is None
    # a router of text needs no embedding, unless further data are to be kept away from the judged queries by it
    encoder = None if unread and not further else instantiate(cfg.encoder)
    encode = None if encoder is None else encoder.encode
    chosen = {group: run.choices()[group] for group in ("data", "router", "encoder")} | ({"encoder": "none"} if unread else {})
    chosen |= {"cascade": run.choices()["cascade"], "signal": run.choices().get("signal", "none")} if cfg.get("cascade") else {}
    name = chosen.get("cascade", chosen["router"])
    with job.stage("load"):
        loaded = load(source, kind=cfg.split.kind, cv=cfg.cv)
        extra = {name: part.load() for name, part in further.items()}
        job.facts |= provenance(source, loaded.outcomes)
    with job.stage("encode"):
        asked = replace(asked, traffic=read_traffic(cfg.policy.queries, encode))
        outcomes = loaded.outcomes if encode is None else loaded.outcomes.encoded(encode(loaded.outcomes.queries.text))
        learn = lesson(outcomes, loaded.battles, extra, mixing, encode)
        job.facts |= {"encoder": "none" if unread or encoder is None else encoder.fingerprint}
        job.facts |= {"extra": {name: {**part.provenance(), **learn.told[name]} for name, part in further.items()}} if further else {}
    with job.stage("split"):
        division = Division.of(loaded, outcomes.queries, cfg.split, cfg.cv, alone=not mixing.own, rng=job.rng("split"))
        kind, cuts, leakage = division.kind, division.cuts, division.leakage
        settings = bundle.Settings(**cfg.bundle).checked(outcomes)
        asked.check(outcomes, held_out=len(cuts) > 1 or len(cuts[0].calibration) > 0)
    with job.stage("judge"):
        judging = Judging(cfg.policy.name, cfg.protocol, cfg.replicates, clustered=kind == "grouped", asked=asked)
        streams = {"fit": job.rng("fit"), "judge": job.rng("judge")}
        without = () if cfg.shuffled_labels else ("shuffled_labels",)
        given = {**streams, "without": without, "refit": cfg.export}
        tried: cascading.CascadeTrial | trial.Trial
        if cfg.get("cascade"):
            signal = partial(instantiate, cfg.get("signal"))
            makers = Makers(make, signal, source.said, learn=learn, student=pupil, **cfg.scoring)
            tried = cascading.try_cascade(name, partial(instantiate, cfg.cascade), makers, outcomes, cuts, judging, **given)
            outcomes = tried.outcomes
        else:
            tried = trial.try_router(name, make, outcomes, cuts, judging, learn=learn, **given)
        found = chosen | {"labels": job.facts["data"]["labels"], "leakage": leakage}
        metrics = plain(found | trial.described(cuts, kind) | tried.assessment.metrics)
    with job.stage("export"):
        tried.save(job.folder, outcomes, keep=cfg.export)
        artifact.save_curves(job.folder, tried.assessment.curves, outcomes.pool.name)
        # of one split the figures are the exported router's own; of several folds they are the recipe's
        job.facts["judged"] = "the exported router" if tried.fitted.exact else "routers of this recipe, one a fold"
        if not cfg.export:
            job.say("No router was kept: export=false judges the recipe alone.")
        else:
            about = deploy.About(job.name, outcomes, job.facts["data"], metrics, settings, cfg.compare)
            where, reader, threads = job.folder / "bundle", None if reads_text else encoder, run.cores()
            left: deploy.Deployed | deploy.DeployedCascade
            try:
                if isinstance(tried, cascading.CascadeTrial):
                    answers = partial(gateway_cascade.quiet, said=source.said, threads=threads)
                    left = deploy.deploy_cascade(where, tried.kept, reader, tried.fitted, about, opened=answers)
                    job.say(left.told())
                else:
                    opened = partial(gateway_bundle.quiet, threads=threads)
                    left = deploy.deploy(where, reader, tried.fitted, about, seed=cfg.seed, opened=opened, traffic=asked.traffic)
                job.facts |= left.facts()
            except bundle.NoBundleError as error:
                job.say(f"No bundle: {error}")
    with job.stage("report"):
        job.write_json("metrics.json", metrics)
        view = report.View(name, metrics, tried.assessment.curves, run.told(job.manifest()))
        job.write_text("report.html", report.render([view], title=f"{name} on {chosen['data']}"))
    params, figures = job.manifest()["config"], {"curve.png": plots.curve_png(view)}
    job.after.append(lambda folder: tracker.log(folder, params=params, metrics=metrics, figures=figures))
    job.say(summary.result_table(name, metrics))
    job.say(metrics["verdict"]["sentence"])


if __name__ == "__main__":
    main()
