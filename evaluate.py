"""Judges finished runs side by side, on their own held-out queries or on other data that they have not seen.

python evaluate.py runs=[outputs/a,outputs/b]
python evaluate.py runs=[outputs/a] data=routellm_mtbench
"""

from omegaconf import DictConfig

from routewright.core import run
from routewright.core.files import plain

if __name__ != "__main__":
    raise ImportError(
        "evaluate.py is an entry point, not Hugging Face's `evaluate`: run it with `python evaluate.py`, from another folder import that"
    )


@run.entry("evaluate")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.eval import again, report, summary
    from routewright.eval.assess import Judging
    from routewright.eval.promises import Asked

    source = instantiate(cfg.data) if cfg.get("data") else None
    paths = [cfg.runs] if isinstance(cfg.runs, str) else [str(path) for path in cfg.runs]
    judged, folders = [], []
    for path in paths:
        with job.stage(f"judge {path}"):
            past = again.open_past(path, instantiate)
            folders.append(past.folder)
            seen = past if source is None else again.on_other_data(past, source, instantiate)
            judging = Judging(cfg.policy.name, cfg.protocol, cfg.replicates, clustered=past.clustered, asked=Asked.of(cfg.policy))
            judged.append(again.judge(seen, judging, job.rng("judge")))
    names = again.distinct([item.name for item in judged], folders)
    metrics = {name: plain(item.metrics) for name, item in zip(names, judged, strict=True)}
    views = [
        report.View(name, metrics[name], dict(item.curves), run.told(dict(item.manifest))) for name, item in zip(names, judged, strict=True)
    ]
    compared = again.paired(names, judged)
    job.facts |= {"runs": paths}
    job.write_json("metrics.json", {"runs": metrics, "paired": compared})
    job.write_text("report.html", report.render(views, title="Comparison of " + ", ".join(names)))
    job.say(summary.comparison(list(metrics.items())) if len(views) > 1 else summary.result_table(names[0], metrics[names[0]]))
    for name in names:
        job.say(metrics[name]["verdict"]["sentence"])
    for line in again.sentences(names, compared):
        job.say(line)


if __name__ == "__main__":
    main()
