"""LiteLLM asks a bundle which model answers: a callback for its proxy, and a routing strategy for its in-process Router.

    litellm_settings:
      callbacks: [routewright.gateway.litellm.handler]
    environment_variables: {ROUTEWRIGHT_HOOK_BUNDLE: /srv/router/bundle}

Requests for the model "routewright" (or "routewright/<operating point>") are routed, all others pass untouched. hook.Settings has the rest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from functools import cache
from typing import Any
from urllib.parse import quote

from routewright.core.types import InputError
from routewright.gateway.hook import Choice, Hook, Query, Serves, Settings

NOTE = "routewright"  # the key under which a request's metadata hold the decision
SHOWN = ("called", "point", "reason", "bundle")  # of a decision, as headers of the answer: x-routewright-...
LITELLM_METADATA = ("anthropic_messages", "aresponses")  # calls whose "metadata" is the provider's own: LiteLLM keeps its beside it
MESSAGES = ("acompletion", "completion", "anthropic_messages")
PROMPT = ("atext_completion", "text_completion")
PARTS = {"input_text": "text"}  # the responses API's name for a part of text


async def routed(hook: Hook, data: dict[str, Any], call_type: str, *, serves: Serves | None = None, tenant: str = "") -> dict[str, Any]:
    """A proxy's request with its model set and the decision in its metadata; one that is not ours as it is.

    tenant: whose request it is, so that two callers' session ids do not meet. Raises InputError as Hook.choose does.
    """
    point, query = hook.point(data.get("model")), asked_for(data, call_type)
    if point is None or query is None:
        hook.passed()
        return data
    session = session_id(data)
    choice = await hook.choose(point, query, serves=serves, session=f"{tenant}\0{session}" if session else "")
    data["model"] = choice.model
    note(data, choice.facts, "litellm_metadata" if call_type in LITELLM_METADATA else "metadata")
    return data


def asked_for(data: Mapping[str, Any], call_type: str) -> Query | None:
    """What a decision reads of a request: its messages, prompt or input. None for a call that has none, such as an embedding."""
    if call_type in MESSAGES:
        return data.get("messages")
    if call_type in PROMPT:
        prompt = data.get("prompt")
        return prompt if isinstance(prompt, str) or prompt is None else [{"role": "user", "content": text} for text in prompt]
    if call_type == "aresponses":
        told = data.get("input")
        return [_message(item) for item in told if isinstance(item, Mapping) and "role" in item] if isinstance(told, list) else told
    return None


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    """A message of the responses API as one of chat completions."""
    content = item.get("content")
    if isinstance(content, list):
        content = [part | {"type": PARTS.get(str(part.get("type")), part.get("type"))} for part in content if isinstance(part, dict)]
    return {"role": item["role"], "content": content}


def session_id(data: Mapping[str, Any]) -> str:
    """Of a request: litellm_session_id (where the proxy puts the header x-litellm-session-id), else metadata.session_id; "" for none."""
    told = [data.get("litellm_session_id")]
    told += [part.get("session_id") for name in ("metadata", "litellm_metadata") if isinstance(part := data.get(name), Mapping)]
    return next((str(one) for one in told if one), "")


def note(data: MutableMapping[str, Any], facts: Mapping[str, Any], name: str) -> None:
    """Writes a decision into a request's metadata, where callbacks see it, and where LiteLLM's own loggers and spend logs take it from."""
    old = data.get(name)
    metadata: dict[str, Any] = old if isinstance(old, dict) else {}
    spend = metadata.get("spend_logs_metadata")
    metadata[NOTE] = dict(facts)
    metadata["spend_logs_metadata"] = (spend if isinstance(spend, dict) else {}) | {NOTE: dict(facts)}
    data[name] = metadata


def callback(hook: Hook) -> Any:
    """A CustomLogger for `litellm_settings.callbacks` of the proxy, or `litellm.callbacks`."""
    from litellm.exceptions import BadRequestError  # type: ignore[import-not-found]
    from litellm.integrations.custom_logger import CustomLogger  # type: ignore[import-not-found]
    from litellm.proxy import proxy_server  # type: ignore[import-not-found]

    class Routewright(CustomLogger):  # type: ignore[misc]
        """Its hooks must stand in this very class: the proxy does not look at those that are inherited."""

        def __init__(self) -> None:
            super().__init__()
            self.hook = hook

        async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str) -> dict[str, Any]:
            try:
                tenant = str(user_api_key_dict.api_key)
                return await routed(hook, data, call_type, serves=_served(proxy_server.llm_router), tenant=tenant)
            except InputError as error:
                raise BadRequestError(str(error), model=str(data.get("model")), llm_provider=NOTE) from None

        async def async_post_call_response_headers_hook(
            self, data: dict[str, Any], user_api_key_dict: Any, response: Any, **_: Any
        ) -> dict[str, str] | None:
            """The proxy answers under the name that was asked for; these say who it was."""
            for name in ("metadata", "litellm_metadata"):
                if isinstance(part := data.get(name), dict) and isinstance(facts := part.get(NOTE), dict) and "called" in facts:
                    return {f"x-routewright-{key}": quote(str(facts[key]), safe=" /:()") for key in SHOWN}
            return None

    return Routewright()


def strategy(router: Any, hook: Hook) -> Any:
    """A CustomRoutingStrategyBase: `router.set_custom_routing_strategy(strategy(router, hook))`.

    It chooses the model group of chat and text completions; which deployment of that group answers stays with the litellm.Router, with its
    load balancing, cooldowns and retries. Raises InputError as Hook.choose does.
    """
    from litellm.types.router import CustomRoutingStrategyBase  # type: ignore[import-not-found]

    plain = type(router)

    def request(model: str, messages: Any, kwargs: MutableMapping[str, Any]) -> dict[str, Any] | None:
        point = hook.point(model)
        if point is None or messages is None:
            hook.passed()
            return None
        return {"point": point, "query": messages, "serves": _served(router), "session": session_id(kwargs)}

    def chosen(choice: Choice, kwargs: MutableMapping[str, Any]) -> str:
        note(kwargs, choice.facts, "litellm_metadata" if "litellm_metadata" in kwargs else "metadata")
        return choice.model

    class Strategy(CustomRoutingStrategyBase):  # type: ignore[misc]
        async def async_get_available_deployment(
            self, model: str, messages: Any = None, input: Any = None, specific_deployment: Any = False, request_kwargs: Any = None
        ) -> Any:
            kwargs = {} if request_kwargs is None else request_kwargs
            if (asked := request(model, messages, kwargs)) is not None:
                model = chosen(await hook.choose(**asked), kwargs)
            return await plain.async_get_available_deployment(router, model, kwargs, messages, input, specific_deployment)

        def get_available_deployment(
            self, model: str, messages: Any = None, input: Any = None, specific_deployment: Any = False, request_kwargs: Any = None
        ) -> Any:
            kwargs = {} if request_kwargs is None else request_kwargs
            if (asked := request(model, messages, kwargs)) is not None:
                model = chosen(hook.choose_now(**asked), kwargs)
            return plain.get_available_deployment(router, model, messages, input, specific_deployment, kwargs)

    return Strategy()


def _served(router: Any) -> Serves | None:
    """Whether a litellm.Router has a model under a name, wildcards included; None where there is no model list."""
    if router is None:
        return None
    return lambda name: router.is_recognized_model(name) or bool(router.pattern_router.get_deployments_by_pattern(model=name))


@cache
def _handler() -> Any:
    return callback(Hook(Settings.read(os.environ)))


def __getattr__(name: str) -> Any:
    """`handler`, made when the proxy asks for it: importing this module loads neither LiteLLM nor a bundle."""
    if name == "handler":
        return _handler()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
