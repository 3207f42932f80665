"""LiteLLM's side: requests as dicts, without LiteLLM; and (slow) its real proxy and Router in an environment of their own."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from routewright.core.types import InputError
from routewright.gateway import litellm as hooks
from routewright.gateway.bundle import Bundle
from routewright.gateway.hook import PREFIX, Hook, Settings
from tests.gateway_bundles import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "litellm"
VERSION = "1.106.2"
SMALL, LARGE = "bbbb", "cccc"  # texts that the toy router sends to either model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("original") / "bundle")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to swap and break."""
    return Path(shutil.copytree(original, tmp_path / "bundle"))


@pytest.fixture
def made() -> Iterator[Callable[..., Hook]]:
    hooks: list[Hook] = []

    def make(bundle: Path, *, rng: np.random.Generator | None = None, **settings: Any) -> Hook:
        hooks.append(Hook(Settings(str(bundle), **({"deadline_ms": 30_000.0, "reload_s": 1000.0} | settings)), rng=rng))
        return hooks[-1]

    yield make
    for hook in hooks:
        hook.close()


def chat(text: Any, model: str = "routewright", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "metadata": {}} | more


def routed(hook: Hook, data: dict[str, Any], call: str = "acompletion", **options: Any) -> dict[str, Any]:
    return asyncio.run(hooks.routed(hook, data, call, **options))


def facts(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["metadata"]["routewright"]
    return found


def test_the_texts_go_either_way(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert [bundle.decide(text).model for text in (SMALL, LARGE)] == ["small", "large"]


@pytest.mark.parametrize(("text", "model"), [(SMALL, "small"), (LARGE, "large")])
def test_a_request_is_routed_and_its_metadata_hold_the_decision(made: Callable[..., Hook], folder: Path, text: str, model: str) -> None:
    hook = made(folder, models={"large": "big/one"})
    called = {"small": "small", "large": "big/one"}[model]
    data = routed(hook, chat(text, metadata={"mine": 1, "spend_logs_metadata": {"team": "a"}}))
    assert data["model"] == called
    bundle = Bundle.load(folder)
    assert facts(data) == bundle.decide(text).described() | {"called": called}
    assert data["metadata"]["mine"] == 1
    assert data["metadata"]["spend_logs_metadata"] == {"team": "a", "routewright": facts(data)}
    assert json.loads(json.dumps(facts(data)))["bundle"] == bundle.hash
    assert text not in json.dumps(facts(data))


@pytest.mark.parametrize(
    ("data", "call"),
    [
        (chat(SMALL, "gpt-4o"), "acompletion"),
        (chat(SMALL, "routewrightly"), "acompletion"),
        (chat(SMALL, "routewright/"), "acompletion"),
        (chat(SMALL, ""), "acompletion"),
        ({"model": None}, "acompletion"),
        ({"model": "routewright", "input": "a text to embed"}, "aembedding"),
        ({"model": "routewright"}, "acompletion"),
    ],
)
def test_all_others_pass_untouched(made: Callable[..., Hook], folder: Path, data: dict[str, Any], call: str) -> None:
    hook, before = made(folder), copy.deepcopy(data)
    assert routed(hook, data, call) is data
    assert data == before
    assert hook.counts == {"passed untouched": 1}


def test_the_alias_names_the_point(made: Callable[..., Hook], folder: Path) -> None:
    hook = made(folder, alias="auto", point="quality-95")
    for name, point, model in (("auto", "quality-95", "large"), ("auto/cheapest", "cheapest", "small")):
        data = routed(hook, chat(SMALL if model == "large" else LARGE, name))
        assert (data["model"], facts(data)["point"]) == (model, point)
    with pytest.raises(InputError, match="'best' is not in the bundle: expected one of balanced, cheapest, quality-95"):
        routed(hook, chat(SMALL, "auto/best"))


def test_only_models_that_the_proxy_serves_are_chosen(made: Callable[..., Hook], folder: Path) -> None:
    hook = made(folder)
    assert routed(hook, chat(LARGE), serves={"small"}.__contains__)["model"] == "small"
    assert routed(hook, chat(SMALL), serves={"small", "large"}.__contains__)["model"] == "small"
    with pytest.raises(InputError, match="no model of the bundle is served here: expected one of large, small"):
        routed(hook, chat(SMALL), serves={"other"}.__contains__)
    data = routed(made(folder, fallback="other"), chat(SMALL), serves={"other"}.__contains__)
    assert (data["model"], facts(data)["reason"], facts(data)["model"]) == ("other", "fallback: not served", None)


@pytest.mark.parametrize(("fallback", "called"), [(None, "large"), ("spare", "spare")])
def test_a_router_that_raises_costs_no_request(made: Callable[..., Hook], folder: Path, fallback: str | None, called: str) -> None:
    hook = made(folder, fallback=fallback, failures=3, open_s=1000.0)
    good = hook.reloading.bundle.decide

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("with the prompt in it")

    hook.reloading.bundle.decide = broken  # type: ignore[method-assign]
    seen = [routed(hook, chat(SMALL)) for _ in range(5)]
    assert [data["model"] for data in seen] == [called] * 5
    assert [facts(data)["reason"] for data in seen] == ["fallback: raised (RuntimeError)"] * 3 + ["fallback: open"] * 2
    assert facts(seen[0])["propensity"] is None
    assert facts(seen[0])["bundle"] == hook.reloading.bundle.hash
    hook.reloading.bundle.decide = good  # type: ignore[method-assign]
    assert routed(hook, chat(SMALL))["model"] == called, "open for longer than it is broken"
    assert hook.counts == {"fell back": 6, "fell back: raised": 3, "fell back: open": 3}


def test_a_late_decision_costs_the_deadline_and_no_more(made: Callable[..., Hook], folder: Path) -> None:
    hook = made(folder, deadline_ms=20.0)
    hook.reloading.bundle.decide = lambda *_, **__: time.sleep(1.0)  # type: ignore[method-assign]
    began = time.monotonic()
    data = routed(hook, chat(SMALL))
    assert (data["model"], facts(data)["reason"]) == ("large", "fallback: late")
    assert time.monotonic() - began < 0.9


def test_what_cannot_be_read_goes_to_the_fallback_and_does_not_open_the_breaker(made: Callable[..., Hook], folder: Path) -> None:
    hook = made(folder, failures=2)
    picture = chat([{"type": "image_url", "image_url": {"url": "data:,"}}])
    for _ in range(5):
        assert facts(routed(hook, copy.deepcopy(picture)))["reason"] == "fallback: refused (InputError)"
    assert routed(hook, chat(SMALL))["model"] == "small"


def test_a_broken_bundle_is_refused_at_the_start_unless_there_is_a_fallback(made: Callable[..., Hook], folder: Path) -> None:
    kept = (folder / "router.onnx").read_bytes()
    (folder / "router.onnx").write_bytes(kept[:-1])
    with pytest.raises(InputError, match=r"router\.onnx was changed after export"):
        made(folder)
    hook = made(folder, fallback="spare")
    data = routed(hook, chat(SMALL))
    assert (data["model"], facts(data)["reason"], facts(data)["bundle"]) == ("spare", "fallback: no bundle", None)
    (folder / "router.onnx").write_bytes(kept)
    hook.reloading.check()
    assert routed(hook, chat(SMALL))["model"] == "small"
    with pytest.raises(InputError, match="operating point 'best' is not in the bundle"):
        made(folder, point="best")


def test_a_new_bundle_takes_over_and_a_corrupt_one_does_not(made: Callable[..., Hook], folder: Path) -> None:
    hook = made(folder)
    first = facts(routed(hook, chat(SMALL)))["bundle"]
    tiny_bundle(folder, shift=-9.0)
    hook.reloading.check()
    data = routed(hook, chat(SMALL))
    assert (data["model"], facts(data)["bundle"] == first) == ("large", False)
    (folder / "bundle.json").write_text("{")
    hook.reloading.check()
    assert facts(routed(hook, chat(SMALL)))["bundle"] == facts(data)["bundle"]


@pytest.mark.parametrize(
    "where", [{"litellm_session_id": "s"}, {"metadata": {"session_id": "s"}}, {"litellm_metadata": {"session_id": "s"}, "metadata": None}]
)
def test_a_session_keeps_its_model_whichever_way_it_is_named(made: Callable[..., Hook], folder: Path, where: dict[str, Any]) -> None:
    hook = made(folder)

    def turn(text: str, tenant: str = "t") -> tuple[str, str, int | None]:
        data = routed(hook, chat(text, **copy.deepcopy(where)), tenant=tenant)
        return data["model"], facts(data)["reason"], facts(data).get("turn")

    assert turn(LARGE * 3) == ("large", "routed", 1)
    assert turn(SMALL * 3) == ("large", "pinned", 2), "a session never moves down by default"
    assert turn(SMALL, tenant="other") == ("small", "routed", 1), "two tenants' sessions of one name are two"
    assert routed(made(folder, sessions=False), chat(SMALL, **copy.deepcopy(where)))["model"] == "small"


def test_exploration_is_logged_and_repeats_by_its_seed(made: Callable[..., Hook], folder: Path) -> None:
    def drawn(seed: int) -> list[tuple[str, float]]:
        hook = made(folder, explore=0.5, rng=np.random.default_rng(seed))
        found = [facts(routed(hook, chat(SMALL))) for _ in range(40)]
        return [(one["model"], one["propensity"]) for one in found]

    first = drawn(0)
    assert set(first) == {("small", 0.75), ("large", 0.25)}
    assert drawn(0) == first
    assert drawn(1) != first


@pytest.mark.parametrize(
    ("call", "data", "read"),
    [
        ("completion", {"messages": [{"role": "user", "content": "a"}]}, [{"role": "user", "content": "a"}]),
        ("anthropic_messages", {"messages": [{"role": "user", "content": "a"}]}, [{"role": "user", "content": "a"}]),
        ("atext_completion", {"prompt": "a"}, "a"),
        ("atext_completion", {"prompt": ["a", "b"]}, [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]),
        ("aresponses", {"input": "a"}, "a"),
        (
            "aresponses",
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                    {"type": "function_call_output", "output": "x"},
                ]
            },
            [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        ),
        ("aembedding", {"input": "a"}, None),
        ("acompletion", {}, None),
    ],
)
def test_what_a_decision_reads_of_each_kind_of_call(call: str, data: dict[str, Any], read: Any) -> None:
    assert hooks.asked_for(data, call) == read


def test_calls_whose_metadata_is_the_provider_s_are_noted_beside_it(made: Callable[..., Hook], folder: Path) -> None:
    data = routed(made(folder), chat(SMALL, metadata={"user_id": "u"}), "anthropic_messages")
    assert data["metadata"] == {"user_id": "u"}
    assert data["litellm_metadata"]["routewright"]["called"] == "small"


def test_neither_keys_nor_prompts_are_logged(made: Callable[..., Hook], folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hook = made(folder, failures=1, models={"medium": "x"})
    secret = "bcbcbcbcb"

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(secret)

    routed(hook, chat(secret), tenant="sk-key")
    hook.reloading.bundle.decide = broken  # type: ignore[method-assign]
    data = routed(hook, chat(secret), tenant="sk-key")
    assert "breaker open" in caplog.text
    assert "MODELS names medium, not in the bundle (small, large)" in caplog.text
    for text in (caplog.text, json.dumps(data["metadata"])):
        assert secret not in text
        assert "sk-key" not in text


def test_a_deadline_that_cannot_be_kept_is_said_at_the_start(
    folder: Path, made: Callable[..., Hook], caplog: pytest.LogCaptureFixture
) -> None:
    made(folder, deadline_ms=1e-3)
    assert "the deadline is 0.001 ms: many will be late" in caplog.text


def test_settings_from_the_environment() -> None:
    told = {"BUNDLE": "b", "MODELS": "a=b/c, d=e", "DEADLINE_MS": "7.5", "FAILURES": "3", "SESSIONS": "0", "FALLBACK": "f"}
    found = Settings.read({PREFIX + name: value for name, value in told.items()} | {"ROUTEWRIGHT_MIRROR": "not ours"})
    assert found == Settings("b", models={"a": "b/c", "d": "e"}, deadline_ms=7.5, failures=3, sessions=False, fallback="f")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({}, "ROUTEWRIGHT_HOOK_BUNDLE is not set"),
        ({"BUNDLE": "b", "DEADLINE": "5"}, "ROUTEWRIGHT_HOOK_DEADLINE is no setting: expected one of .*DEADLINE_MS"),
        ({"BUNDLE": "b", "FAILURES": "many"}, "FAILURES cannot be read: expected int, found 'many'"),
        ({"BUNDLE": "b", "SESSIONS": "yes"}, "SESSIONS cannot be read: expected 0 or 1"),
        ({"BUNDLE": "b", "MODELS": "a:b"}, "MODELS cannot be read: expected a=b,c=d"),
        ({"BUNDLE": "b", "EXPLORE": "2"}, "impossible settings"),
        ({"BUNDLE": "b", "ALIAS": "a/b"}, "impossible settings"),
    ],
)
def test_settings_that_are_refused(told: dict[str, str], error: str) -> None:
    with pytest.raises(InputError, match=error):
        Settings.read({PREFIX + name: value for name, value in told.items()})


def test_the_example_s_config_has_settings_there_are() -> None:
    told = yaml.safe_load((EXAMPLES / "config.yaml").read_text())
    assert told["litellm_settings"]["callbacks"] == ["routewright.gateway.litellm.handler"]
    Settings.read(told["environment_variables"] | {PREFIX + "BUNDLE": "b"})


def test_the_module_has_a_handler_and_nothing_made_up() -> None:
    with pytest.raises(AttributeError, match="no attribute 'handle'"):
        hooks.handle  # noqa: B018


@pytest.fixture(scope="module")
def interpreter(request: pytest.FixtureRequest) -> Path:
    """A Python that has LiteLLM's proxy, and of the project nothing: the one that is named, or one made once and kept in pytest's cache."""
    if told := os.environ.get("ROUTEWRIGHT_LITELLM_PYTHON"):
        return Path(told)
    assert request.config.cache is not None
    home = request.config.cache.mkdir(f"litellm-{VERSION}")
    python, done = home / "venv" / "bin" / "python", home / "done"
    uv = Path(sys.executable).with_name("uv")
    if not done.exists():
        wanted = [f"litellm[proxy]=={VERSION}", "numpy", "onnxruntime", "tokenizers"]
        for command in (["venv", "--clear", "--python", sys.executable, home / "venv"], ["pip", "install", "--python", python, *wanted]):
            try:
                subprocess.run([uv, *command], check=True, capture_output=True, text=True, timeout=900)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"no environment with litellm[proxy]=={VERSION}: {getattr(error, 'stderr', None) or error}"[:500])
        done.touch()
    return python


def run(interpreter: Path, tmp_path: Path, *command: str) -> dict[str, Any]:
    """An example's output. Its Python sees core and gateway alone, as an installation of the base package does."""
    package = tmp_path / "package" / "routewright"
    package.mkdir(parents=True)
    for name in ("core", "gateway"):
        (package / name).symlink_to(ROOT / name)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environ |= {"PYTHONPATH": str(package.parent), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([interpreter, *command], capture_output=True, text=True, timeout=600, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_real_proxy_loses_no_request_while_its_bundle_is_swapped_and_broken(interpreter: Path, folder: Path, tmp_path: Path) -> None:
    settings = [f"bundle={folder}", "requests=240", "at_once=16", "compare=0", "deadline_ms=20000", "pause=0.5"]
    found = run(interpreter, tmp_path, str(EXAMPLES / "drill.py"), *settings)
    seen = found["faults"]
    assert seen["failed"] == {}
    assert sum(seen["answered by"].values()) == 240
    assert set(seen["answered by"]) == {"small", "large"}
    assert seen["reason"]["not routed"] == 60
    assert not any(reason.startswith("fallback") for reason in seen["reason"]), "an old bundle serves while a new one is broken"
    assert seen["bundles"] >= 3, "two versions and none (of requests that are not routed)"
    assert found["proxy said"]["bundle refused"] >= 1
    assert found["log"] == {"lines": 240, "with a decision": 180, "wrong": 0, "keys seen": 0, "propensity": {"1.0": 180}}


@pytest.mark.slow
def test_the_router_in_process_chooses_by_the_bundle(interpreter: Path, folder: Path, tmp_path: Path) -> None:
    found = run(interpreter, tmp_path, str(EXAMPLES / "in_process.py"), str(folder), LARGE)
    asked = {"routewright": "large", "routewright/cheapest": "small", "sync": "large", "small": "small"}
    assert found["answers"] == {name: f"{model} at {model}" for name, model in asked.items()}
    assert found["counts"] == {"routed": 3, "passed untouched": 1}
    assert found["decision"] == Bundle.load(folder).decide(LARGE).described() | {"called": "large", "turn": 1, "cache_lost_usd": 0.0}
