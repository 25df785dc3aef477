"""The Flask application: what happens before and after every request, and which routes there are."""

import random
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, g, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter, Rule

from api import errors
from api.auth import KeyCheck
from api.context import EXTENSION, ApiContext
from api.json_gate import BATCH_LIMIT_BYTES
from api.operation import operation_of
from api.query import read_query
from api.routes import BLUEPRINTS
from domain.errors import HeaderTooLarge, NotFound, UriTooLong

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_HEADERS = ("HTTP_", "CONTENT_")  # how their names begin in WSGI
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_URI_CHARS = 8_192
MAX_HEADER_CHARS = 16_384  # names and values; the server refuses by itself, with an empty body, what is twice as much or over 100 headers


class _NoSessions(SessionInterface):
    """This API knows no cookies; one empty session serves every request."""

    def __init__(self) -> None:
        self._none = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002 - Flask calls it so
        """The empty session."""
        return self._none

    def is_null_session(self, obj: object) -> bool:  # noqa: ARG002
        """Always: there is nothing to save."""
        return True


class _Application(Flask):
    """Flask, less what this API has no use for: a third of what it takes of a submit.

    No view is asynchronous, no route depends on the host name, nothing is redirected, every view gives a whole answer. What happens before
    and after each request stands here: hooks and signals of Flask's own are not called.

    Args:
        context: what requests work with.
    """

    session_interface = _NoSessions()

    def __init__(self, context: ApiContext) -> None:
        super().__init__("api", static_folder=None)
        self.extensions[EXTENSION] = context
        self._key_check = context.key_check
        self._in_hand = context.in_hand

    def full_dispatch_request(self) -> Response:
        """Names the request and its caller, lets the view or an error answer, and signs the answer."""
        environ = request.environ
        named = g._get_current_object()  # noqa: SLF001 - documented so; each look through the proxy takes a microsecond
        with self._in_hand.taken():
            try:
                _identify(environ, named, self._key_check)
                if environ.get("QUERY_STRING"):
                    self._refuse_parameters()
                answer: Response = self.dispatch_request()  # type: ignore[assignment]  # Flask takes other things from views; ours give this
            except Exception as error:  # noqa: BLE001 - each has its handler, in api/errors.py
                answer = self.handle_user_exception(error)  # type: ignore[assignment]
        return _sign(answer, named.request_id)

    def _refuse_parameters(self) -> None:
        """Refuses the query of a request whose route reads none; one that reads some refuses by itself what it does not know."""
        described = None if request.url_rule is None else operation_of(self.view_functions[request.url_rule.endpoint])
        if described is not None and not described.public and all(parameter.place != "query" for parameter in described.parameters):
            read_query({})

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """There is nothing to take down."""

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """There is nothing to take down."""

    @cached_property
    def _whole_paths(self) -> Mapping[tuple[str, str], Rule]:
        """Routes without a variable part, by path and method. werkzeug walks each path by a closure that holds itself, which only garbage collection frees."""
        return {(rule.rule, method): rule for rule in self.url_map.iter_rules() if not rule.arguments for method in (rule.methods or set()) - {"OPTIONS"}}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The view itself."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Matches by path and method alone; a route without a variable part is found at once, and there is nothing left to match."""
        if request is None:
            return None
        if (rule := self._whole_paths.get((request.path, request.method))) is not None:
            request.url_rule, request.view_args = rule, {}
            return None
        return MapAdapter(self.url_map, "localhost", "/", "", "http", request.path, request.method, None)


def create_app(context: ApiContext) -> Flask:
    """Builds the application around a context; one per process."""
    app = _Application(context)
    app.url_map.merge_slashes = False  # `//v1/jobs` is an unknown path, not a redirect
    app.config["MAX_CONTENT_LENGTH"] = BATCH_LIMIT_BYTES  # the last resort; every route that takes a body has its own limit
    errors.install(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def _identify(environ: "WSGIEnvironment", named: Any, key_check: KeyCheck) -> None:
    """Names the request and its caller: without a key, nothing under ``/v1`` says whether it exists.

    Raises:
        HeaderTooLarge, MissingKey, InvalidKey, UriTooLong, NotFound: as their names say, in this order.
    """
    given = environ.get("HTTP_X_REQUEST_ID")
    named.request_id = given if given and _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    if sum([len(name) + len(value) for name, value in environ.items() if name.startswith(_HEADERS)]) > MAX_HEADER_CHARS:
        raise HeaderTooLarge
    path = environ["PATH_INFO"]
    if path.startswith(("/v1/", "//")):
        named.principal = key_check(environ.get("HTTP_AUTHORIZATION"))
    if len(path) + len(environ.get("QUERY_STRING", "")) > MAX_URI_CHARS:
        raise UriTooLong
    if path.startswith("//"):  # werkzeug would read it as one slash
        raise NotFound


def _sign(answer: Response, request_id: str) -> Response:
    headers = answer.headers
    headers.add("X-Request-Id", request_id)
    headers.add("X-Content-Type-Options", "nosniff")
    if "Cache-Control" not in headers:
        headers.add("Cache-Control", "no-store")
    return answer
