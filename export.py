"""Writes a trained run's bundle, reopens it, and compares it with the trained router or cascade on real queries.

python export.py run=outputs/train-routellm_gsm8k-mf-seed0-...
python export.py run=outputs/train-routellm_gsm8k-mf-seed0-... encoder=static    # the router fitted again behind another encoder
"""

import json
from functools import partial

from omegaconf import DictConfig, OmegaConf

from routewright.core import bundle, run


@run.entry("export")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.data.load import Division, load
    from routewright.data.mix import Mixing, lesson
    from routewright.data.traffic import read_traffic
    from routewright.eval import again, deploy, kept, refit
    from routewright.gateway import bundle as gateway_bundle
    from routewright.gateway import cascade as gateway_cascade

    with job.stage("load"):
        past = again.open_past(cfg.run, instantiate)
        if past.replayed is None:
            again.require_router(past)
        encoder = again.encoder_of(past, instantiate, cfg.get("encoder"))
    bundle.require_exportable(encoder, cfg.run)
    manifest, config, name = past.manifest, past.manifest["config"], past.manifest["name"]
    job.facts |= {"run": str(past.folder), "data": manifest["data"], "encoder": "none" if encoder is None else encoder.fingerprint}
    metrics, page = json.loads((past.folder / "metrics.json").read_text()), (past.folder / "report.html").read_text()
    fitted, outcomes = past.fitted, past.outcomes
    if again.is_other(past, encoder):
        with job.stage("refit"):
            trained = run.Run("train", OmegaConf.create(config), name, past.folder.parent)  # for its streams alone
            tools = refit.Tools(instantiate, load, Division.of, Mixing, lesson, read_traffic, trained.rng)
            done = refit.refit(past, encoder, run.choices()["encoder"], tools)
            fitted, outcomes, metrics, name = done.tried.fitted, done.outcomes, done.metrics, job.name
        done.save(job.folder)
        job.facts["refit"] = done.facts()
        page = done.page(run.told(job.manifest()))
        job.say(done.told())
    elif encoder is not None:
        outcomes = outcomes.encoded(encoder.encode(outcomes.queries.text))
    with job.stage("export"):
        settings = bundle.Settings(**config.get("bundle", {})).checked(outcomes)
        about = deploy.About(name, outcomes, manifest["data"], metrics, settings, cfg.compare)
        where, threads = job.folder / "bundle", run.cores()
        made: deploy.Deployed | deploy.DeployedCascade
        if past.replayed is None:
            opened = partial(gateway_bundle.quiet, threads=threads)
            traffic = read_traffic(config["policy"]["queries"], None if encoder is None else encoder.encode)
            made = deploy.deploy(where, encoder, fitted, about, seed=manifest["seed"], opened=opened, traffic=traffic)
        else:
            cascade = kept.restored(past.folder, manifest, instantiate)
            answers = partial(gateway_cascade.quiet, said=instantiate(config["data"]).said, threads=threads)
            made = deploy.deploy_cascade(where, cascade, encoder, fitted, about, opened=answers)
    job.facts |= made.facts()
    job.write_json("metrics.json", metrics)
    job.write_text("report.html", page)
    job.say(f"{made.told()}; {len(bundle.hostile())} golden texts: {made.golden:.1e}")
    job.say(metrics["verdict"]["sentence"])


if __name__ == "__main__":
    main()
