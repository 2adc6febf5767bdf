"""The settings of the listening sockets, the processes, rollouts and restarts."""

from http import HTTPStatus

from clusterd.config.model import RequestIds, Scheduling, Switch, TlsVersion, Underscores
from clusterd.config.settings.kinds import CoreType, Refusal, choice, duration, either, file_mode, text, whole_number
from clusterd.config.settings.places import listen_address, peer_network, secret_path, socket_path
from clusterd.config.settings.setting import Applies, Setting, Shape
from clusterd.config.settings.worker_count import worker_count

_NEXT, _RESTART = Applies.NEXT_GENERATION, Applies.RESTART
_NAME = text("a name", r"[A-Za-z_][A-Za-z0-9_.\-]{0,31}")


def _check_expect(written: str) -> None:
    if written.isdigit() and len(written) == 3 and written not in {str(status.value) for status in HTTPStatus}:
        raise Refusal("HTTP has no such status")


PROCESS_SETTINGS = (
    Setting(
        "listen",
        listen_address(),
        "127.0.0.1:8000",
        _RESTART,
        "Addresses to serve HTTP on. Sockets named http that systemd passes replace them. Write [] for none if there "
        "is HTTPS. In an instance (clusterd@NAME.service) clusterd serves these addresses in addition to the socket "
        "unit, and there is no default.",
        shape=Shape.LIST,
        metavar="ADDRESS",
        may_be_empty=True,
    ),
    Setting(
        "trusted_proxies",
        peer_network(),
        "",
        _NEXT,
        "The peers that clusterd believes when they name the client of a request: in X-Forwarded-For and "
        "X-Forwarded-Proto (in Forwarded, if neither is present), and in the PROXY protocol. unix stands for every "
        "peer on a Unix socket. clusterd ignores these headers from any other peer; the application sees them in "
        "either case. A trusted proxy must set or drop all three headers: clusterd also believes what the proxy "
        "passes on from its clients.",
        shape=Shape.LIST,
        metavar="ADDRESS",
        may_be_empty=True,
    ),
    Setting(
        "proxy_protocol",
        choice(Switch),
        "off",
        _NEXT,
        "Whether every connection begins with a PROXY protocol header, version 1 or 2, from one of trusted_proxies. A "
        "connection without the header, or from any other peer, is closed without an answer.",
    ),
    Setting(
        "server_header",
        choice(Switch),
        "on",
        _NEXT,
        "Whether clusterd adds the header Server: clusterd to responses. A Server header that the application sets is "
        "sent in either case.",
    ),
    Setting(
        "underscores",
        choice(Underscores),
        "drop",
        _NEXT,
        "What happens to header fields of a request whose names contain an underscore, such as X_User. In WSGI X_User "
        "and X-User have the same name, and ASGI frameworks treat them alike, so that a client could pose as a proxy "
        "that sets X-User. drop leaves them out, for WSGI and ASGI. refuse answers 400. pass hands them on: use it "
        "only if no header decides whom the application trusts, or if the proxy drops those of its clients, as nginx "
        "and HAProxy can. If names differ only in - and _, only the one without underscores is handed on.",
    ),
    Setting(
        "request_ids",
        choice(RequestIds),
        "off",
        _NEXT,
        "Whether every request has an identifier, for the application and the log: docs/logging.md. It is the "
        "X-Request-Id of a trusted proxy, else the trace of its traceparent, else clusterd makes one. return also "
        "sends it with the response, as X-Request-Id.",
    ),
    Setting(
        "control",
        either(socket_path(), "null"),
        "null",
        _RESTART,
        "The control socket that clusterctl connects to. Default: $RUNTIME_DIRECTORY/control.sock, else "
        "$XDG_RUNTIME_DIR/clusterd/control.sock, else /tmp/clusterd-UID/control.sock.",
        metavar="PATH",
    ),
    Setting(
        "agent",
        either(listen_address(), "off"),
        "off",
        _RESTART,
        "The address at which HAProxy asks how many requests this host should get (agent-check): ready up 75%, drain, "
        "maint or down. The weight follows the free capacity. A socket named agent that systemd passes replaces it. "
        "See docs/many-hosts.md.",
        metavar="ADDRESS",
    ),
    Setting(
        "workers",
        worker_count(),
        "auto",
        _NEXT,
        "The number of worker processes. auto starts one for each CPU that CPU affinity and the cgroup's quota leave "
        "to clusterd. With {min: 2, max: 8} (2-8 in a flag) clusterd starts more when requests wait, and ends some "
        "when fewer have been enough for shrink_after (1s to 24h, default 30s). max may be auto. See docs/workers.md.",
    ),
    Setting(
        "threads",
        whole_number(0, 1024),
        "4",
        _NEXT,
        "Threads per worker that call a WSGI application. With 0 the worker calls it on its event loop, one request "
        "at a time. That is fastest for applications that never wait.",
    ),
    Setting(
        "greenlets",
        whole_number(1, 100_000),
        "1000",
        _NEXT,
        "Requests per worker that run at a time in a WSGI application whose module begins with gevent's "
        "monkey.patch_all(). Each runs in a greenlet, and threads is not used.",
    ),
    Setting(
        "scheduling",
        choice(Scheduling),
        "least_connections",
        _NEXT,
        "Which worker takes a new connection. least_connections: the worker with the fewest connections. round_robin: "
        "each worker in turn; the master accepts the connections and passes them on. shared: the worker that the "
        "kernel wakes.",
    ),
    Setting(
        "metrics.address",
        either(listen_address(), "off"),
        "127.0.0.1:8001",
        _RESTART,
        "The address of /metrics, /healthz and /readyz. A socket named metrics that systemd passes replaces it. Keep "
        "it private. In an instance (clusterd@NAME.service) the default is unix:/run/clusterd-NAME/metrics.sock, "
        "which clusterd-instances.socket relays for Prometheus: docs/metrics.md. metrics: ADDRESS is short for it.",
        metavar="ADDRESS",
        alias="--metrics",
    ),
    Setting(
        "metrics.application",
        choice(Switch),
        "on",
        _NEXT,
        "Whether the application's own metrics are on /metrics, if it uses prometheus_client: with the label worker, "
        "and with counters that survive their workers. The application's own page of metrics then shows those of all "
        "workers. With off, prometheus_client is left alone. See docs/metrics.md.",
    ),
    Setting(
        "metrics.series",
        whole_number(1, 100_000),
        "10000",
        _NEXT,
        "The most series of the application that one worker has: one for each combination of the labels of a metric, "
        "and for each bucket of a histogram. Further ones are dropped, logged once, and counted "
        "(clusterd_application_series_dropped_total).",
    ),
    Setting(
        "tls.listen",
        listen_address(),
        "",
        _RESTART,
        "Addresses to serve HTTPS on. Sockets named https that systemd passes replace them.",
        shape=Shape.LIST,
        metavar="ADDRESS",
        may_be_empty=True,
    ),
    Setting(
        "tls.certificate",
        either(secret_path(), "null"),
        "null",
        _NEXT,
        "The certificate and the intermediate certificates, in PEM: a file, or credential:NAME for a credential that "
        "LoadCredential= of the unit passes. Every reload reads a file again. A credential is renewed only when the "
        "unit is restarted.",
        metavar="PATH",
    ),
    Setting(
        "tls.key",
        either(secret_path(), "null"),
        "null",
        _NEXT,
        "The certificate's private key, in PEM and without a passphrase: a file or credential:NAME. Default: the "
        "certificate's file contains it. The user that clusterd runs as must be able to read it.",
        metavar="PATH",
    ),
    Setting(
        "tls.minimum_version",
        choice(TlsVersion),
        "1.2",
        _NEXT,
        "The oldest version of TLS that clusterd accepts. With TLS 1.2 it accepts only ciphers with forward secrecy "
        "and authenticated encryption.",
    ),
    Setting(
        "unix_sockets.mode",
        file_mode(),
        "0666",
        _RESTART,
        "The permissions of the socket. A proxy that runs as another user must be able to write to it.",
        metavar="MODE",
    ),
    Setting(
        "unix_sockets.owner",
        either(_NAME, "null"),
        "null",
        _RESTART,
        "The user that owns the socket. Default: the user that clusterd runs as. Only root can set another one.",
        metavar="USER",
    ),
    Setting(
        "unix_sockets.group",
        either(_NAME, "null"),
        "null",
        _RESTART,
        "The group that owns the socket. The user that clusterd runs as must be a member of it.",
        metavar="GROUP",
    ),
    Setting(
        "rollout.surge",
        whole_number(1, 1024),
        "1",
        _NEXT,
        "How many workers are replaced at the same time.",
    ),
    Setting(
        "rollout.boot_timeout",
        duration("100ms", "1h"),
        "60s",
        _NEXT,
        "The time limit for the import of the application, and separately for a worker to become ready. If it is "
        "exceeded, the reload is withdrawn.",
    ),
    Setting(
        "rollout.settle",
        duration("0s", "10m"),
        "1s",
        _NEXT,
        "How long the first new worker must live before the others are replaced, and how long each of those must live "
        "before the reload has succeeded. A service of several workers therefore waits twice this time.",
    ),
    Setting(
        "rollout.max_draining",
        whole_number(1, 64),
        "4",
        _NEXT,
        "How many generations may drain at once. If there are more, clusterd ends the oldest.",
    ),
    Setting(
        "rollout.health_check.path",
        text("a path that begins with /", r"/[!-~]*"),
        None,
        _NEXT,
        "The path that clusterd requests with GET.",
    ),
    Setting(
        "rollout.health_check.host",
        text("a host name, with or without a port", r"[A-Za-z0-9._\-\[\]:]{1,255}"),
        "localhost",
        _NEXT,
        "The Host header of the request. Frameworks that check this header refuse names that they do not know.",
    ),
    Setting(
        "rollout.health_check.expect",
        text(
            "a status like 204, or a class of them like 2xx", r"[1-5]xx|[1-5][0-9][0-9]", _check_expect, CoreType.NUMBER
        ),
        "2xx",
        _NEXT,
        "The status of a response that passes.",
    ),
    Setting(
        "rollout.health_check.timeout",
        duration("100ms", "1h"),
        "5s",
        _NEXT,
        "The time limit for the whole response, at most rollout.boot_timeout. The time counts towards that limit too.",
    ),
    Setting(
        "rollout.health_check.headers",
        text("a header like X-Forwarded-Proto: https", r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [ -~]*"),
        "",
        _NEXT,
        "Further headers of the request. An application that redirects to HTTPS needs what its proxy would say.",
        shape=Shape.LIST,
        metavar="HEADER",
    ),
    Setting(
        "restarts.burst",
        whole_number(1, 10_000),
        "20",
        _NEXT,
        "How many restarts may happen at once. When they are used up, restarts are spaced evenly, one every per / "
        "burst. The spacing is never so long that less than half of the workers would be restarted within a second: "
        "at most 1 s for one or two workers. A reload that succeeds applies a changed limit and clears the count.",
    ),
    Setting(
        "restarts.per",
        duration("100ms", "1h"),
        "10s",
        _NEXT,
        "The time in which restarts.burst restarts become available again.",
    ),
)
