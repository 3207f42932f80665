"""Reads what is sent to the decision endpoint: strict JSON, held to the schema that the OpenAPI document publishes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from routewright.gateway.cascade import CascadeBundle

SHOWN = 200  # characters of the sender's own text that an error repeats
MALFORMED, UNFIT = 400, 422
KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer())),
}
Schema = Mapping[str, Any]


class RefusedError(InputError):
    """A request that is not answered, with the HTTP status that says so."""

    def __init__(self, status: int, what: str, *, where: str = "", expected: str = "", found: str = "", mend: str = "") -> None:
        super().__init__(what, where=where, expected=expected, found=found, mend=mend)
        self.status = status


def told(error: InputError) -> dict[str, str]:
    """An error as JSON: what, where, expected, found, mend, each of bounded length."""
    return {name: str(getattr(error, name))[: 5 * SHOWN] for name in ("what", "where", "expected", "found", "mend")}


def parsed(body: bytes) -> Any:
    """A body as JSON. Raises RefusedError (400) for what is no UTF-8, and for what is no JSON as RFC 8259 has it.

    Duplicate keys are refused, since readers differ in which they keep; so are NaN and Infinity, and texts with lone surrogates.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        if "\\u" in text:  # only an escape can bring a lone surrogate
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise RefusedError(MALFORMED, "the body is not UTF-8", found=f"byte {body[error.start]:#04x} at {error.start}") from None
    except UnicodeEncodeError as error:
        raise RefusedError(
            MALFORMED, "a text is not Unicode", expected="no lone surrogates", found=repr(error.object[error.start])
        ) from None
    except RecursionError:
        raise deep() from None
    except RefusedError:
        raise
    except ValueError as error:
        raise RefusedError(MALFORMED, "the body is not JSON", found=str(error)[:SHOWN]) from None
    return value


def deep() -> RefusedError:
    """For JSON nested beyond what can be read."""
    return RefusedError(MALFORMED, "the body is nested too deeply", expected="a few levels")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RefusedError(MALFORMED, "a key stands twice in one object", expected="each key once", found=ascii(key)[:SHOWN])
        found[key] = value
    return found


def _constant(name: str) -> None:
    raise RefusedError(MALFORMED, "the body is not JSON", expected="a finite number", found=name)


class Requests:
    """The OpenAPI document, and the checks of request bodies that are read from it.

    The checks know the words of JSON Schema that the document uses for requests, a dozen of them, and take a seventh of a general
    validator's time, which would cost more than all else that the endpoint does (tests compare the two). A word that they do not know is an
    error here, at the start.
    """

    def __init__(self) -> None:
        self._document: dict[str, Any] = json.loads((Path(__file__).parent / "openapi.json").read_text())
        schemas = self._document["components"]["schemas"]
        self._schemas = {name: _resolved(schemas[name], schemas) for name in ("RouteRequest", "ClassifyRequest", "CascadeRequest")}

    def route(self, body: bytes) -> dict[str, Any]:
        """A RouteRequest. Raises RefusedError: 400 for what is no JSON, 422 by JSON path for JSON of another form."""
        return self._checked(body, "RouteRequest")

    def classify(self, body: bytes) -> dict[str, Any]:
        """A ClassifyRequest; raises as `route` does."""
        return self._checked(body, "ClassifyRequest")

    def cascade(self, body: bytes) -> dict[str, Any]:
        """A CascadeRequest; raises as `route` does."""
        return self._checked(body, "CascadeRequest")

    def _checked(self, body: bytes, name: str) -> dict[str, Any]:
        value: dict[str, Any] = parsed(body)
        fit(value, self._schemas[name], "")
        return value

    def document(self, bundle: Bundle | CascadeBundle | None, point: str) -> dict[str, Any]:
        """The OpenAPI document, with the points and models of the bundle that is in service. point: the server's own."""
        whole = copy.deepcopy(self._document)
        schemas = whole["components"]["schemas"]
        route, cascade = (schemas[name]["properties"] for name in ("RouteRequest", "CascadeRequest"))
        for fields in (route, cascade):
            fields["point"] |= {"default": point} | ({"enum": list(bundle.points)} if bundle is not None else {})
        if bundle is not None:
            for model in (route["candidates"]["items"], schemas["Call"]["properties"]["model"]):
                model["enum"] = list(bundle.models)
        return whole


def fit(value: Any, schema: Schema, where: str) -> None:
    """Raises RefusedError (422), by JSON path, where a value does not fit a schema whose references are resolved."""
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(KINDS[kind](value) for kind in kinds):
        raise _unfit("wrong type", where, " or ".join(kinds), _shown(value))
    if isinstance(value, dict):
        _fit_object(value, schema, where)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            raise _unfit("too few items", where, f"at least {schema['minItems']}", str(len(value)))
        if items := schema.get("items"):
            for i, item in enumerate(value):
                fit(item, items, f"{where}[{i}]")
    elif isinstance(value, str):
        least, most = schema.get("minLength", 0), schema.get("maxLength", len(value))
        if not least <= len(value) <= most:
            raise _unfit("wrong length", where, f"{least} to {most} characters", str(len(value)))
    elif "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        raise _unfit("out of range", where, f"{schema['minimum']} to {schema['maximum']}", _shown(value))


def _fit_object(value: Mapping[str, Any], schema: Schema, where: str) -> None:
    fields: Mapping[str, Schema] = schema.get("properties", {})
    if schema.get("additionalProperties", True) is False and (unknown := [name for name in value if name not in fields]):
        raise _unfit("unknown field", where, "some of " + ", ".join(fields), ascii(unknown[0]))
    ways = [way["required"] for way in schema.get("oneOf", ())]
    if ways and sum(all(name in value for name in way) for way in ways) != 1:
        names = " or ".join(name for way in ways for name in way)
        raise _unfit("either field must be there, not both", where, names, ", ".join(map(ascii, value)) or "none")
    if isinstance(others := schema.get("additionalProperties"), Mapping):
        for name in (name for name in value if name not in fields):
            fit(value[name], others, f"{where}.{ascii(name)[:SHOWN]}")
    needed = [*schema.get("required", ())]
    for name, more in schema.get("dependentRequired", {}).items():
        needed += more if name in value else ()
    for name in needed:
        if name not in value:
            raise _unfit("a field is missing", where, name, ", ".join(map(ascii, value)) or "none")
    for name, inner in fields.items():
        if name in value:
            fit(value[name], inner, f"{where}.{name}" if where else name)


def _unfit(what: str, where: str, expected: str, found: str) -> RefusedError:
    return RefusedError(UNFIT, what, where=where or "the body", expected=expected, found=found[:SHOWN])


def _shown(value: Any) -> str:
    """A value in an error: a number or a name in full, of anything longer its type."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**18):
        return repr(value)
    return {dict: "object", list: "array", str: "string", int: "a huge integer"}[type(value)]


KNOWN = {
    *("type", "description", "properties", "required", "additionalProperties", "oneOf", "dependentRequired"),
    *("items", "minItems", "minLength", "maxLength", "minimum", "maximum"),
}


def _resolved(schema: Schema, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    """A schema with its references filled in. Raises InputError for a word that `fit` does not know."""
    if "$ref" in schema:
        return _resolved(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if unknown := set(schema) - KNOWN:
        raise InputError("a request's schema has words that are not checked", expected=", ".join(sorted(KNOWN)), found=", ".join(unknown))
    out = dict(schema)
    if "properties" in schema:
        out["properties"] = {name: _resolved(inner, schemas) for name, inner in schema["properties"].items()}
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), Mapping):
            out[word] = _resolved(schema[word], schemas)
    return out
