"""Judges finished runs side by side, on their own held-out queries or on other data that they have not seen.

python evaluate.py runs=[outputs/a,outputs/b]
python evaluate.py runs=[outputs/a] data=routellm_mtbench
python evaluate.py runs=[outputs/a] data=zeroeval_gsm 'pairs=[[gpt-3.5-turbo-0125,gpt-4o-2024-08-06]]'
"""

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from routewright.core import run
from routewright.core.files import plain

if __name__ != "__main__":
    raise ImportError(
        "evaluate.py is an entry point, not Hugging Face's `evaluate`: run it with `python evaluate.py`, from another folder import that"
    )


@run.entry("evaluate")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.data.duels import among
    from routewright.eval import again, report, summary, transfer
    from routewright.eval.assess import Judging
    from routewright.eval.promises import Asked

    source = instantiate(cfg.data) if cfg.get("data") else None
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False))
    wanted = transfer.Wanted.of(settings, other_data=source is not None)
    paths = [cfg.runs] if isinstance(cfg.runs, str) else [str(path) for path in cfg.runs]
    with job.stage("open"):
        pasts = [again.open_past(path, instantiate) for path in paths]
        other = None if source is None else again.Other(source.load(), source.provenance(), among)
    judged = []
    for path, past in zip(paths, again.told_apart(pasts), strict=True):
        with job.stage(f"judge {path}"):
            judging = Judging(cfg.policy.name, cfg.protocol, cfg.replicates, clustered=past.clustered, asked=Asked.of(cfg.policy))
            seen = [past] if other is None else again.on_other_data(past, other, instantiate, wanted)
            judged += [again.judge(item, judging, job.rng("judge")) for item in seen]
    names = [item.name for item in judged]
    metrics = {item.name: plain(item.metrics) for item in judged}
    views = [report.View(item.name, metrics[item.name], dict(item.curves), run.told(dict(item.manifest))) for item in judged]
    compared, pairs = again.paired(judged), transfer.rows(metrics)
    job.facts |= {"runs": paths}
    job.write_json("metrics.json", {"runs": metrics, "paired": compared, "pairs": pairs})
    job.write_text("report.html", report.render(views, title="Comparison of " + ", ".join(names)))
    if len(views) == 1:
        job.say(summary.result_table(names[0], metrics[names[0]]))
    else:
        job.say(summary.transfers(pairs) if pairs else summary.comparison(list(metrics.items())))
    if not pairs and all(item["quality_at_cost_50"] is not None for item in metrics.values()):
        job.say(summary.spending(list(metrics.items())))
    for name in names:
        job.say(metrics[name]["verdict"]["sentence"])
    for line in again.sentences(judged, compared):
        job.say(line)


if __name__ == "__main__":
    main()
