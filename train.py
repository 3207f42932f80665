"""Trains one router or cascade, judges it beside its controls, exports it, and says in words whether it helps.

python train.py router=mf
python train.py cascade=frugal router=logistic data=zeroeval_gsm
python train.py cascade=automix router=logistic student=knn
python train.py -m router=mf,knn,ridge seed=0,1,2
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from routewright.core import artifact, bundle, run
from routewright.core.files import plain

if TYPE_CHECKING:
    from routewright.core.contracts import Encoder
    from routewright.core.types import Outcomes
    from routewright.data.load import Division
    from routewright.eval.cascading import CascadeTrial
    from routewright.eval.crossfit import Learn
    from routewright.eval.promises import Asked
    from routewright.eval.trial import Trial


class Choice(NamedTuple):
    """What is trained. name: of the router or cascade; by_group: every choice by config group. encoder: None where nothing needs one."""

    name: str
    by_group: dict[str, str]
    source: Any
    make: partial[Any]
    encoder: Encoder | None
    reads_text: bool


class Prepared(NamedTuple):
    """The table that a recipe learns from and is judged on, with embeddings where there is an encoder, and how it is cut."""

    outcomes: Outcomes
    learn: Learn
    division: Division
    settings: bundle.Settings
    asked: Asked


@run.entry("train")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.eval import plots, report, summary, trial

    tracker, choice = instantiate(cfg.tracking), _choice(cfg)
    ready = _prepared(cfg, job, choice)
    with job.stage("judge"):
        tried, outcomes = _tried(cfg, job, choice, ready)
        found = choice.by_group | {"labels": job.facts["data"]["labels"], "leakage": ready.division.leakage}
        metrics = plain(found | trial.described(ready.division.cuts, ready.division.kind) | tried.assessment.metrics)
    with job.stage("export"):
        tried.save(job.folder, outcomes, keep=cfg.export)
        artifact.save_curves(job.folder, tried.assessment.curves, outcomes.pool.name)
        # of one split the figures are the exported router's own; of several folds they are the recipe's
        job.facts["judged"] = "the exported router" if tried.fitted.exact else "routers of this recipe, one a fold"
        if cfg.export:
            _export(cfg, job, choice, ready._replace(outcomes=outcomes), tried, metrics)
        else:
            job.say("No router was kept: export=false judges the recipe alone.")
    with job.stage("report"):
        job.write_json("metrics.json", metrics)
        view = report.View(choice.name, metrics, tried.assessment.curves, run.told(job.manifest()))
        job.write_text("report.html", report.render([view], title=f"{choice.name} on {choice.by_group['data']}"))
    params, figures = job.manifest()["config"], {"curve.png": plots.curve_png(view)}
    job.after.append(lambda folder: tracker.log(folder, params=params, metrics=metrics, figures=figures))
    job.say(summary.result_table(choice.name, metrics))
    job.say(metrics["verdict"]["sentence"])


def _choice(cfg: DictConfig) -> Choice:
    from hydra.utils import instantiate

    chosen, make = run.choices(), partial(instantiate, cfg.router)
    reads_text = make().reads == "text"
    unread = reads_text and not cfg.get("student")
    by_group = {group: chosen[group] for group in ("data", "router", "encoder")} | ({"encoder": "none"} if unread else {})
    by_group |= {"cascade": chosen["cascade"], "signal": chosen.get("signal", "none")} if cfg.get("cascade") else {}
    # a router of text needs no embedding, unless further data are to be kept away from the judged queries by it
    encoder = None if unread and not cfg.extra else instantiate(cfg.encoder)
    return Choice(by_group.get("cascade", by_group["router"]), by_group, instantiate(cfg.data), make, encoder, reads_text)


def _prepared(cfg: DictConfig, job: run.Run, choice: Choice) -> Prepared:
    from hydra.utils import instantiate

    from routewright.data.load import Division, load, provenance
    from routewright.data.mix import Mixing, lesson
    from routewright.data.traffic import read_traffic
    from routewright.eval import students
    from routewright.eval.promises import Asked

    asked, mixing, further = Asked.of(cfg.policy), Mixing(**cfg.mix), {name: instantiate(cfg.extra[name]) for name in cfg.extra}
    encode = None if choice.encoder is None else choice.encoder.encode
    students.check(_pupil(cfg), cascade=bool(cfg.get("cascade")), alone=bool(mixing.own) and not further)
    with job.stage("load"):
        loaded = load(choice.source, kind=cfg.split.kind, cv=cfg.cv)
        extra = {name: part.load() for name, part in further.items()}
        job.facts |= provenance(choice.source, loaded.outcomes)
    with job.stage("encode"):
        asked = replace(asked, traffic=read_traffic(cfg.policy.queries, encode))
        outcomes = loaded.outcomes if encode is None else loaded.outcomes.encoded(encode(list(loaded.outcomes.queries.text)))
        learn = lesson(outcomes, loaded.battles, extra, mixing, encode)
        read = None if choice.by_group["encoder"] == "none" else choice.encoder
        job.facts |= {"encoder": "none" if read is None else read.fingerprint}
        job.facts |= {"extra": {name: {**part.provenance(), **learn.told[name]} for name, part in further.items()}} if further else {}
    with job.stage("split"):
        division = Division.of(loaded, outcomes.queries, cfg.split, cfg.cv, alone=not mixing.own, rng=job.rng("split"))
        settings = bundle.Settings(**cfg.bundle).checked(outcomes)
        asked.check(outcomes, held_out=len(division.cuts) > 1 or len(division.cuts[0].calibration) > 0)
    return Prepared(outcomes, learn, division, settings, asked)


def _pupil(cfg: DictConfig) -> partial[Any] | None:
    from hydra.utils import instantiate

    return partial(instantiate, cfg.student) if cfg.get("student") else None


def _tried(cfg: DictConfig, job: run.Run, choice: Choice, ready: Prepared) -> tuple[Trial | CascadeTrial, Outcomes]:
    """The recipe judged, and the table that it was judged on: a student adds a model to it."""
    from hydra.utils import instantiate

    from routewright.eval import cascading, trial
    from routewright.eval.assess import Judging
    from routewright.eval.scored import Makers

    clustered, cuts = ready.division.kind == "grouped", ready.division.cuts
    judging = Judging(cfg.policy.name, cfg.protocol, cfg.replicates, clustered=clustered, asked=ready.asked)
    without = () if cfg.shuffled_labels else ("shuffled_labels",)
    given = {"fit": job.rng("fit"), "judge": job.rng("judge"), "without": without, "refit": cfg.export}
    if not cfg.get("cascade"):
        return trial.try_router(choice.name, choice.make, ready.outcomes, cuts, judging, learn=ready.learn, **given), ready.outcomes
    signal = partial(instantiate, cfg.get("signal"))
    makers = Makers(choice.make, signal, choice.source.said, learn=ready.learn, student=_pupil(cfg), **cfg.scoring)
    tried = cascading.try_cascade(choice.name, partial(instantiate, cfg.cascade), makers, ready.outcomes, cuts, judging, **given)
    return tried, tried.outcomes


def _export(cfg: DictConfig, job: run.Run, choice: Choice, ready: Prepared, tried: Trial | CascadeTrial, metrics: dict[str, Any]) -> None:
    """The bundle, or the reason why there is none."""
    from routewright.eval import cascading, deploy
    from routewright.gateway import bundle as gateway_bundle
    from routewright.gateway import cascade as gateway_cascade

    about = deploy.About(job.name, ready.outcomes, job.facts["data"], metrics, ready.settings, cfg.compare)
    where, reader, threads = job.folder / "bundle", None if choice.reads_text else choice.encoder, run.cores()
    left: deploy.Deployed | deploy.DeployedCascade
    try:
        if isinstance(tried, cascading.CascadeTrial):
            answers = partial(gateway_cascade.quiet, said=choice.source.said, threads=threads)
            left = deploy.deploy_cascade(where, tried.kept, reader, tried.fitted, about, opened=answers)
            job.say(left.told())
        else:
            opened = partial(gateway_bundle.quiet, threads=threads)
            left = deploy.deploy(where, reader, tried.fitted, about, seed=cfg.seed, opened=opened, traffic=ready.asked.traffic)
        job.facts |= left.facts()
    except bundle.NoBundleError as error:
        job.say(f"No bundle: {error}")


if __name__ == "__main__":
    main()
