"""Takes keys out of texts that are shown or kept: servers echo headers in their error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "[redacted]"
_SECRETS = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"  # Authorization: Bearer ...
    r"|\b(?:sk|pk|rk)-[\w-]{6,}"  # OpenAI, Anthropic, OpenRouter, Langfuse
    r"|\b(?:gsk|hf|xai|glpat|ghp)[_-]\w{6,}"
    r"|\bAIza[\w-]{20,}"
    r"|(?<=://)[^/\s@]+:[^/\s@]+(?=@)"  # user:password@host
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without these secrets and without anything that looks like a key, a bearer token or a password in a URL."""
    return _SECRETS.sub(HIDDEN, hide(text, secrets))


def hide(text: str, secrets: Iterable[str]) -> str:
    """`text` without these secrets, longest first; what merely looks like one stays."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text
