"""What the traces of others may see of a request: never a secret, never a poll.

OpenTelemetry's instrumentation of aiohttp, which an operator switches on without a word
to us, writes the URL of every request into a span; of a log-out that is the session ID.
Where it captures headers, those are the token and the password as well. And it makes a
span of each poll, a child of whatever span was open when the pollers were started.

So what is about our own logon session, and each poll, runs under the key of its API
that suppresses instrumentation; and of every request the headers with a secret are
added by a middleware, which runs after the traces were told of the rest. Nothing of
OpenTelemetry is imported here: where nobody has, nobody traces.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any

import aiohttp

from veeam_tasks._redaction import Secret, Secrets
from veeam_tasks._transport.workarounds import Response

_KEYS = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
_PLAIN_KEY = "suppress_instrumentation"
"""What the API had before it had keys; some instrumentation asks for it still."""


def _suppressing() -> tuple[Any, Any] | None:
    """Return OpenTelemetry's module, and a context in which nothing is traced.

    The context holds nothing else: no span that was open goes on in it.
    """
    api = sys.modules.get("opentelemetry.context")
    if api is None:
        return None
    keys = [getattr(api, name) for name in _KEYS if hasattr(api, name)]
    return api, api.Context(dict.fromkeys([*keys, _PLAIN_KEY], True))


@contextmanager
def untraced() -> Iterator[None]:
    """Let no instrumentation of OpenTelemetry trace what happens meanwhile."""
    found = _suppressing()
    if found is None:
        yield
        return
    api, context = found
    token = api.attach(context)
    try:
        yield
    finally:
        api.detach(token)


def untraced_context() -> Context:
    """Return a context for an asyncio task of which nothing is traced."""
    context = copy_context()
    found = _suppressing()
    if found is not None:
        api, suppressing = found
        context.run(api.attach, suppressing)
    return context


class SecretHeaders:
    """A middleware that keeps secrets from the traces of a request.

    Args:
        headers: Those with a secret: added now that the traces were told.
        secrets: Hidden in the headers of the reply, of which the traces are told next;
            None hides nothing.
    """

    def __init__(self, headers: Mapping[str, Secret], secrets: Secrets | None) -> None:
        self._headers = headers
        self._secrets = secrets

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Pass the request on with all its headers, and the reply without some."""
        for name, value in self._headers.items():
            request.headers[name] = value.reveal()
        response = await handler(request)
        if self._secrets is not None and isinstance(response, Response):
            response.hide_headers(self._secrets)
        return response
