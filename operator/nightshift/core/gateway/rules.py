"""The rules by which HAProxy finds the deployment that a request is for, and what may reach it.

Variables: txn.path (as the engine sees it), txn.asked (the model's name that the client gave), txn.route
(NAMESPACE/NAME), txn.props (its line in the map of routes), txn.choice (revisions with cumulative weights), txn.count
(how many those are), txn.slot (the backend). `props` is TASK|STATE|BODY BYTES|QUEUE|AFFINITY|ADAPTERS|CHOICE, and
CHOICE is COUNT|SLOT|CUMULATIVE PERCENT|SLOT|...; one line of one map, so that a route changes as a whole or not at all.

A client that wants one revision names it in a header: txn.pin is a slash and that name. The map of routes has a line
for each revision too, by NAMESPACE/NAME/REVISION, so that others pay for it with a look for the header and one
condition: the key is the route's alone where there is no pin. No route has a third part, whatever stands in a path.
"""

from dataclasses import replace

from nightshift.api.route import MAX_WEIGHTED
from nightshift.core.gateway import answers
from nightshift.core.gateway.settings import (
    ADAPTERS_MAP,
    BARE_MAP,
    HOSTS_MAP,
    MODELS_MAP,
    PATHS_MAP,
    REVISIONS_MAP,
    ROUTES_MAP,
    Settings,
)

REVISION_HEADER = "x-nightshift-revision"
PINNED = "{ var(txn.pin) -m found }"
UNROUTED = "!{ var(txn.route) -m found }"
UNASKED = "!{ var(txn.asked) -m found }"
CHUNKED_BYTES = 48_000
"""Headers and body together below which a chunked body is in the buffer to its end. (HAProxy waits for all of a body,
or for a full buffer, and does not say which it was.)"""


def identify(settings: Settings) -> list[str]:
    """Find out which deployment a client's request is for: by path, Host, header or body, in this order."""
    return [
        f"http-request set-var(txn.pin) req.fhdr({REVISION_HEADER}),regsub(^,/)",
        "http-request del-header x-nightshift- -m beg",
        "http-request del-header upgrade",
        "acl listing path /v1/models",
        "acl listing path_beg /v1/models/",
        "acl by_path path,field(4,/) -m str v1",
        "http-request set-var(txn.path) path",
        "http-request set-var(txn.name) path,field(3,/) if by_path",
        "http-request set-var(txn.route) path,field(2,/),concat(/,txn.name) if by_path",
        "http-request set-path /%[path,field(4,/,0)] if by_path",
        answers.NO_PATH.rule("!{ path_beg /v1/ }"),
        "http-request set-var(txn.path) path if { var(txn.name) -m found }",
        f"http-request set-var(txn.host) req.hdr(host),field(1,:),lower,rtrim(.) if {UNROUTED}",
        f"http-request set-var(txn.route) var(txn.host),map_str({settings.path(HOSTS_MAP)}) if {UNROUTED}",
        f"http-request set-var(txn.asked) req.fhdr(x-model) if {UNROUTED} {{ req.fhdr(x-model) -m found }}",
        f"http-request set-var(txn.full) var(txn.host),map_str({settings.path(BARE_MAP)}) if {UNROUTED} {UNASKED}",
        answers.BARE_HOST.rule("{ var(txn.full) -m found }"),
        f"http-request set-var(txn.slot) str(be_agent) if METH_GET listing {UNROUTED} {UNASKED}",
        "http-request allow if { var(txn.slot) -m found }",
        answers.NO_PATH.rule(f"!METH_POST {UNROUTED} {UNASKED}"),
        *_by_body(settings),
    ]


def _by_body(settings: Settings) -> list[str]:
    return [
        f"http-request set-var(txn.size) req.body_size if {UNROUTED} {UNASKED}",
        answers.TOO_LARGE_FOR_BODY.rule(f"{UNROUTED} {UNASKED} {{ req.body_len,sub(txn.size) lt 0 }}"),
        f"http-request set-var(txn.asked) req.body,json_query('$.model') if {UNROUTED} {UNASKED}",
        answers.MODEL_MISSING.rule(f"{UNROUTED} {UNASKED}"),
        f"http-request set-var(txn.route) var(txn.asked),map_str({settings.path(MODELS_MAP)}) if {UNROUTED}",
        answers.NO_MODEL.rule(UNROUTED),
    ]


def released() -> list[str]:
    """What the activator held: the route stands in a header that no client can send, on a socket of its own."""
    return [
        "acl listing always_false",
        "http-request set-var(txn.path) path",
        "http-request set-var(txn.route) req.hdr(x-nightshift-released)",
        "http-request del-header x-nightshift- -m beg",
    ]


def route_request(settings: Settings) -> list[str]:
    """Hold a request against its route, and choose the slot that carries it."""
    return [
        f"http-request set-var(txn.props) var(txn.route),concat(,txn.pin),map_str({settings.path(ROUTES_MAP)})",
        _no_revision(settings, "!{ var(txn.props) -m found } " + PINNED),
        answers.NO_MODEL_BY_PATH.rule("!{ var(txn.props) -m found }"),
        "http-request set-var(txn.slot) str(be_agent) if METH_GET listing",
        "http-request allow if { var(txn.slot) -m found }",
        *_limits(settings),
        *_choose(),
        *_adapter(settings),
        *_weigh(),
        answers.NO_ADAPTER.rule("has_adapters no_adapter usable"),
        *_affinity(),
    ]


def _no_revision(settings: Settings, condition: str) -> str:
    """Tell a client which revisions there are, unless there is no such route at all."""
    there = f"var(txn.route),map_str({settings.path(REVISIONS_MAP)})"
    return replace(answers.NO_REVISION, value=there).rule(f"{condition} {{ {there} -m found }}")


def pinned_in_vain(settings: Settings) -> str:
    """Of what would be held until a replica serves: who wants one revision would get another one then."""
    return _no_revision(settings, PINNED)


def _limits(settings: Settings) -> list[str]:
    return [
        "http-request set-var(txn.method) method",
        "http-request set-var(txn.call) var(txn.props),field(1,|),concat(:,txn.method),concat(:,txn.path)",
        answers.PATH_REFUSED.rule(f"!{{ var(txn.call),map_str({settings.path(PATHS_MAP)}) -m found }}"),
        answers.OFF.rule("{ var(txn.props),field(2,|) -m str Off }"),
        "http-request set-var(txn.size) req.body_size",
        "http-request set-var(txn.limit) var(txn.props),field(3,|)",
        answers.TOO_LARGE.rule("{ var(txn.limit),sub(txn.size) lt 0 }"),
        "acl chunked req.hdr(transfer-encoding) -m found",
        "http-request set-var(txn.head) req.hdrs,length if chunked",
        answers.NO_LENGTH.rule(f"chunked {{ req.body_len,add(txn.head) gt {CHUNKED_BYTES} }}"),
    ]


def _choose() -> list[str]:
    return ["http-request set-var(txn.choice) var(txn.props),field(7,|,0)"]


def _adapter(settings: Settings) -> list[str]:
    """An adapter that not all replicas have brings a choice of its own; a count of 0 says that none has it."""
    return [
        "acl has_adapters var(txn.props),field(6,|) -m str 1",
        "acl no_adapter var(txn.special),field(1,|) -m str 0",
        "http-request set-var(txn.model) var(txn.asked) if has_adapters { var(txn.asked) -m found }",
        "http-request set-var(txn.model) req.body,json_query('$.model') if has_adapters !{ var(txn.model) -m found }",
        "http-request set-var(txn.special) "
        f"var(txn.route),concat(:,txn.model),map_str({settings.path(ADAPTERS_MAP)}) if has_adapters",
        "http-request set-var(txn.choice) var(txn.special) if has_adapters { var(txn.special) -m found } !no_adapter",
    ]


def _weigh() -> list[str]:
    """The first revision whose cumulative weight exceeds the draw; another one if that has no usable replica.

    The draw is a hash of x-session-id where a client sends it, so that it stays with its revision. Conditions that cost
    least stand first: each of these rules is looked at for every request of a canary.
    """
    lines = [
        "http-request set-var(txn.count) var(txn.choice),field(1,|),add(0)",  # a number, made of text once
        "acl several var(txn.count) -m int gt 1",
        "acl usable var(txn.slot),nbsrv gt 0",
        "http-request set-var(txn.slot) var(txn.choice),field(2,|)",
        "http-request set-var(txn.draw) rand(100) if several",
        "http-request set-var(txn.draw) req.fhdr(x-session-id),concat(,txn.route),xxh32,mod(100) "
        "if several { req.fhdr(x-session-id) -m found }",
    ]
    for index in range(1, MAX_WEIGHTED):
        enough = f"{{ var(txn.count) -m int gt {index} }}"
        passed = f"{{ var(txn.choice),field({2 * index + 1},|),sub(txn.draw) le 0 }}"
        lines.append(f"http-request set-var(txn.slot) var(txn.choice),field({2 * index + 2},|) if {enough} {passed}")
    for index in range(MAX_WEIGHTED):
        enough = f"{{ var(txn.count) -m int gt {max(1, index)} }}"  # with one revision there is no other
        lines.append(f"http-request set-var(txn.slot) var(txn.choice),field({2 * index + 2},|) if {enough} !usable")
    return lines


def _affinity() -> list[str]:
    """What requests that belong on the same replica have in common: a session, or how their prompts begin."""
    return [
        "acl by_session var(txn.props),field(5,|) -m str Session",
        "acl by_prefix var(txn.props),field(5,|) -m str Prefix",
        "acl keyed var(txn.affinity) -m found",
        "http-request set-var(txn.affinity) req.fhdr(x-session-id) if by_session",
        *(
            f"http-request set-var(txn.affinity) req.body,json_query('{path}'),bytes(0,256) if by_prefix !keyed"
            for path in ("$.messages[0].content", "$.messages[0].content[0].text", "$.prompt")
        ),
    ]
