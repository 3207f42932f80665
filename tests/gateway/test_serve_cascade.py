"""A cascade over HTTP: its steps are those of the bundle, what it refuses, and a server that serves first one kind and then the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from routewright.core.asking import Asking, scene, told
from routewright.core.text import unfolded
from routewright.core.types import InputError
from routewright.gateway.__main__ import main
from routewright.gateway.cascade import CascadeBundle, either, state
from routewright.gateway.reload import Reloading
from routewright.gateway.server import Answer, Endpoint, Settings
from routewright.routers.cascades.automix import AutoMix
from routewright.routers.signals.logprob import Logprob
from tests.cascade_bundles import CASCADES, encoded, few_texts, kept, of, written
from tests.gateway.served import JSON, SECRET, Server, fuzzed, serving
from tests.gateway_bundles import tiny_bundle

POINTS = {name: {"knob": knob} for name, knob in (("balanced", 0.5), ("cheapest", 0.0), ("quality-95", 1.4))}


class Case(NamedTuple):
    folder: Path
    bundle: CascadeBundle
    endpoint: Endpoint

    def ask(self, **request: Any) -> tuple[int, Any]:
        return answered(self.endpoint.cascade(json.dumps(request).encode()))


def answered(answer: Answer) -> tuple[int, Any]:
    return answer.status, json.loads(answer.body)


def case(folder: Path, cascade: Any, *more: Any) -> Case:
    with pytest.MonkeyPatch.context() as patch:
        few_texts(patch)
        bundle = written(folder, kept(cascade, *more), more[1] if more else encoded(), POINTS)
    return Case(folder, bundle, Endpoint(Reloading(folder, either)))


@pytest.fixture(scope="module")
def consensus(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """It reads priors, scores and what answers say."""
    return case(tmp_path_factory.mktemp("consensus") / "bundle", of("consensus"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Its scores rest on log-probabilities that come with the answers."""
    return case(tmp_path_factory.mktemp("recorded") / "bundle", AutoMix(), partial(Logprob), encoded())


@pytest.fixture(scope="module")
def server(consensus: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(shutil.copytree(consensus.folder, tmp_path_factory.mktemp("served") / "bundle")) as made:
        yield made
        assert made.counted("internal_errors_total") == 0
        assert SECRET not in made.log.read_text()


def call_of(asking: Asking, place: int, scene: Any) -> dict[str, Any]:
    model = asking.point.models.index(str(asking.next))
    return {"model": asking.next, "answer": scene.answers[model], "said": scene.parts[model], "recorded": scene.recorded[model]}


# ---- its steps are the bundle's


@pytest.mark.parametrize("name", [*CASCADES, "recorded"])
def test_every_step_of_every_golden_vector_is_the_bundle_s(name: str, tmp_path: Path) -> None:
    made = case(tmp_path / "bundle", AutoMix(), partial(Logprob), encoded()) if name == "recorded" else case(tmp_path / "bundle", of(name))
    golden = made.bundle.described["golden"]
    texts, steps = [unfolded(item["text"]) for item in golden], 0
    for text, item in zip(texts, golden, strict=True):
        given = scene(item, texts)
        for point in POINTS:
            asking, calls = made.bundle.start(text, point), list[dict[str, Any]]()
            while True:
                status, found = made.ask(text=text, point=point, calls=calls)
                assert (status, found) == (200, json.loads(json.dumps(state(asking, made.bundle))))
                steps += 1
                if asking.next is None:
                    break
                calls.append(call_of(asking, len(calls), given))
                asking = asking.answered_as(calls[-1]["answer"], calls[-1]["said"], calls[-1]["recorded"])
            assert told(asking) == item["points"][point]
            assert (found["called"], found["served"]["model"]) == (item["points"][point]["calls"], item["points"][point]["served"])
    assert steps >= 2 * len(golden) * len(POINTS)


def test_a_conversation_of_messages_without_an_answer(consensus: Case) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}]
    first = consensus.ask(messages=messages)
    assert first == consensus.ask(text="What is 2 + 2?", point="balanced", calls=[])
    calls: list[dict[str, Any]] = []
    while (found := consensus.ask(messages=messages, calls=calls)[1])["next"] is not None:
        assert (found["served"], found["called"]) == (None, [call["model"] for call in calls])
        calls.append({"model": found["next"], "answer": None, "said": None})
    assert found["served"]["model"] in found["called"] == [call["model"] for call in calls]


# ---- what it refuses

GIVEN = {"answer": "2 + 2 = 4.", "said": "4"}


@pytest.mark.parametrize(
    ("calls", "what", "where"),
    [
        ([{"model": "nobody", **GIVEN}], "does not make this call", "calls[0].model"),
        ([{"model": None, **GIVEN}], "wrong type", "calls[0].model"),
        ([{"model": "NEXT"}], "a field is missing", "calls[0]"),
        ([{"model": "NEXT", "answer": 4}], "wrong type", "calls[0].answer"),
        ([{"model": "NEXT", "answer": "4"}], "compares what answers say", "calls[0]"),
        ([{"model": "NEXT", **GIVEN, "said": 4}], "wrong type", "calls[0].said"),
        ([{"model": "NEXT", **GIVEN, "recorded": {"logprob_mean": "low"}}], "wrong type", "calls[0].recorded.'logprob_mean'"),
        ([{"model": "NEXT", **GIVEN, "score": 1}], "unknown field", "calls[0]"),
        ([{"model": "NEXT", **GIVEN}] * 9, "", "calls["),
        ({}, "wrong type", "calls"),
    ],
)
def test_calls_that_cannot_have_been_made(consensus: Case, calls: Any, what: str, where: str) -> None:
    first = consensus.ask(text="What is 2 + 2?")[1]["next"]
    calls = json.loads(json.dumps(calls).replace("NEXT", first))
    status, found = consensus.ask(text="What is 2 + 2?", calls=calls)
    assert status == 422
    assert what in found["error"]["what"]
    assert found["error"]["where"].startswith(where)


def test_a_call_after_the_end_and_a_number_that_is_missing(recorded: Case) -> None:
    first = recorded.ask(text="What is 2 + 2?", point="quality-95")[1]
    assert first["looks"]
    status, found = recorded.ask(text="What is 2 + 2?", point="quality-95", calls=[{"model": first["next"], "answer": "4"}])
    assert (status, found["error"]["where"]) == (422, "calls[0]")
    assert "recorded number" in found["error"]["what"]
    calls: list[dict[str, Any]] = []
    while (step := recorded.ask(text="What is 2 + 2?", calls=calls)[1])["next"] is not None:
        calls.append({"model": step["next"], "answer": "4", "recorded": {"logprob_mean": -0.1}})
    status, found = recorded.ask(text="What is 2 + 2?", calls=[*calls, {**calls[0]}])
    assert (status, found["error"]["where"]) == (422, f"calls[{len(calls)}]")
    assert step["served"]["model"] in found["error"]["expected"]


def test_each_kind_of_bundle_says_where_the_other_is_asked(consensus: Case, tmp_path: Path) -> None:
    router = Endpoint(Reloading(tiny_bundle(tmp_path / "router"), either))
    for answer, path in (
        (consensus.endpoint.route(b'{"text": "a"}'), "/v1/cascade"),
        (consensus.endpoint.route(b'{"text": "a", "session": "s"}'), "/v1/cascade"),
        (consensus.endpoint.classify(b'{"text": "a"}'), "/v1/cascade"),
        (router.cascade(b'{"text": "a"}'), "/v1/route"),
    ):
        status, found = answered(answer)
        assert status == 409
        assert path in found["error"]["mend"]
    assert router.route(b'{"text": "a"}').status == 200


def test_a_folder_may_turn_from_a_router_into_a_cascade_and_back(consensus: Case, tmp_path: Path) -> None:
    link = tmp_path / "bundle"
    router = tiny_bundle(tmp_path / "router")
    link.symlink_to(router)
    reloading = Reloading(link, either)
    endpoint = Endpoint(reloading)
    for folder, kind in ((consensus.folder, "cascade"), (router, "router")):
        link.unlink()
        link.symlink_to(folder)
        assert reloading.check()
        assert answered(endpoint.health())[1]["kind"] == kind
        assert endpoint.route(b'{"text": "a", "session": "s"}').status == (200 if kind == "router" else 409)
        assert endpoint.cascade(b'{"text": "a"}').status == (200 if kind == "cascade" else 409)


def test_what_counts_is_handed_in_where_a_cascade_is_opened_without_its_rule(consensus: Case) -> None:
    opened = either(consensus.folder)
    assert isinstance(opened, CascadeBundle)
    assert opened.check_golden() < 1e-6
    asking = opened.start("What is 2 + 2?")
    assert asking.answered_as("4", "4").called == (asking.next,)
    with pytest.raises(InputError, match="handed in with the answer"):
        asking.answered("4")


# ---- as a server


def test_a_server_follows_it_and_counts(server: Server, consensus: Case) -> None:
    calls: list[dict[str, Any]] = []
    while (found := server.ask("POST", "/v1/cascade", json.dumps({"text": SECRET, "calls": calls}), JSON).json)["next"] is not None:
        calls.append({"model": found["next"], "answer": SECRET, "said": SECRET})
    assert found["bundle"] == consensus.bundle.hash
    assert SECRET not in json.dumps(found)
    assert server.counted("cascade_steps_total", model=found["served"]["model"], step="serve", point="balanced") == 1
    assert server.counted("cascade_steps_total", model=calls[0]["model"], step="call", point="balanced") == 1
    assert server.counted("requests_total", route="/v1/cascade", status="200") == len(calls) + 1
    assert server.ask("GET", "/healthz").json["kind"] == "cascade"


def test_answers_fit_the_published_schemas(server: Server, consensus: Case) -> None:
    document = server.ask("GET", "/openapi.json").json
    schemas = document["components"]["schemas"]
    assert schemas["CascadeRequest"]["properties"]["point"]["enum"] == list(POINTS)
    assert schemas["Call"]["properties"]["model"]["enum"] == list(consensus.bundle.models)
    first = server.ask("POST", "/v1/cascade", '{"text": "abc"}', JSON)
    calls = [{"model": first.json["next"], **GIVEN}]
    for schema, reply in (
        ("CascadeStep", first),
        ("CascadeStep", server.ask("POST", "/v1/cascade", json.dumps({"text": "abc", "calls": calls}), JSON)),
        ("Error", server.route(text="abc")),
        ("Health", server.ask("GET", "/healthz")),
    ):
        jsonschema.validate(reply.json, {"$ref": f"#/components/schemas/{schema}", "components": document["components"]})


def test_schemathesis_finds_no_way_through(server: Server) -> None:
    fuzzed(server)


def test_the_server_s_point_must_be_in_it(consensus: Case) -> None:
    with pytest.raises(InputError, match="'best' is not in the bundle"):
        consensus.bundle.start("a", "best")
    with pytest.raises(SystemExit, match="'best' is not in the bundle"):
        main(["serve", str(consensus.folder), "--point", "best", "--port", "0"])
    assert Endpoint(Reloading(consensus.folder, either), Settings("cheapest")).cascade(b'{"text": "a"}').status == 200


def test_the_command_line_opens_it(consensus: Case, capsys: pytest.CaptureFixture[str]) -> None:
    main(["decide", str(consensus.folder), "What is 2 + 2?", "--point", "cheapest"])
    start = consensus.bundle.start("What is 2 + 2?", "cheapest")
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(state(start, consensus.bundle)))
    main(["check", str(consensus.folder)])
    assert "golden vectors: 5 within" in capsys.readouterr().out
