"""The settings that say where clusterd listens, how many processes it runs and how it replaces them."""

from http import HTTPStatus

from clusterd.config.model import Scheduling, Switch, TlsVersion
from clusterd.config.settings.kinds import CoreType, Refusal, choice, duration, either, file_mode, text, whole_number
from clusterd.config.settings.places import listen_address, peer_network, secret_path, socket_path
from clusterd.config.settings.setting import Applies, Setting, Shape

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
        "Addresses to serve HTTP on, unless systemd passes sockets named http. [] for none, where there is HTTPS. In "
        "an instance (clusterd@NAME.service) they are served beside its socket unit, and there is no default.",
        shape=Shape.LIST,
        metavar="ADDRESS",
        may_be_empty=True,
    ),
    Setting(
        "trusted_proxies",
        peer_network(),
        "",
        _NEXT,
        "Who is believed when it says on whose behalf a request comes: in X-Forwarded-For and X-Forwarded-Proto (or in "
        "Forwarded, where neither is there), and in the PROXY protocol. unix is every peer on a Unix socket. From "
        "anybody else these headers mean nothing; the application sees them in either case. A trusted proxy must set "
        "or drop all three: what it passes on from its clients is believed.",
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
        "connection that does not, or comes from anybody else, is closed without an answer.",
    ),
    Setting(
        "server_header",
        choice(Switch),
        "on",
        _NEXT,
        "Whether responses say Server: clusterd. What the application says in a Server header of its own is sent in "
        "either case.",
    ),
    Setting(
        "metrics",
        either(listen_address(), "off"),
        "127.0.0.1:8001",
        _RESTART,
        "Address of /metrics, /healthz and /readyz, unless systemd passes a socket named metrics. Keep it private. In "
        "an instance (clusterd@NAME.service) the default is unix:/run/clusterd-NAME/metrics.sock, which "
        "clusterd-instances.socket relays for Prometheus: docs/metrics.md.",
        metavar="ADDRESS",
    ),
    Setting(
        "control",
        either(socket_path(), "null"),
        "null",
        _RESTART,
        "The control socket that clusterctl talks to. Default: $RUNTIME_DIRECTORY/control.sock, else "
        "$XDG_RUNTIME_DIR/clusterd/control.sock, else /tmp/clusterd-UID/control.sock.",
        metavar="PATH",
    ),
    Setting(
        "workers",
        either(whole_number(1, 1024), "auto"),
        "auto",
        _NEXT,
        "Worker processes. auto is one for each CPU that CPU affinity and the cgroup's quota leave to clusterd.",
    ),
    Setting(
        "threads",
        whole_number(0, 1024),
        "4",
        _NEXT,
        "Threads per worker that call a WSGI application. 0 calls it on the event loop: fastest for applications that "
        "never wait, and one request at a time.",
    ),
    Setting(
        "scheduling",
        choice(Scheduling),
        "least_connections",
        _NEXT,
        "Which worker takes a new connection: the one with the fewest; each in turn with round_robin, where the master "
        "accepts and passes connections on; or whichever the kernel wakes, with shared.",
    ),
    Setting(
        "tls.listen",
        listen_address(),
        "",
        _RESTART,
        "Addresses to serve HTTPS on, unless systemd passes sockets named https.",
        shape=Shape.LIST,
        metavar="ADDRESS",
        may_be_empty=True,
    ),
    Setting(
        "tls.certificate",
        either(secret_path(), "null"),
        "null",
        _NEXT,
        "The certificate and those between it and the root, in PEM: a file, or credential:NAME for one that "
        "LoadCredential= of the unit passes. A file is read anew by every reload; a credential is renewed only when "
        "the unit is restarted.",
        metavar="PATH",
    ),
    Setting(
        "tls.key",
        either(secret_path(), "null"),
        "null",
        _NEXT,
        "The certificate's private key, in PEM and without a passphrase, likewise. Default: it is in the "
        "certificate's file. The user that clusterd runs as has to be able to read it.",
        metavar="PATH",
    ),
    Setting(
        "tls.minimum_version",
        choice(TlsVersion),
        "1.2",
        _NEXT,
        "The oldest version of TLS that is spoken. In 1.2 only with forward secrecy and authenticated encryption.",
    ),
    Setting(
        "unix_sockets.mode",
        file_mode(),
        "0666",
        _RESTART,
        "The permissions of the socket. A proxy that runs as another user has to be able to write to it.",
        metavar="MODE",
    ),
    Setting(
        "unix_sockets.owner",
        either(_NAME, "null"),
        "null",
        _RESTART,
        "The user it belongs to. Default: whoever clusterd runs as, and only root can give it to another.",
        metavar="USER",
    ),
    Setting(
        "unix_sockets.group",
        either(_NAME, "null"),
        "null",
        _RESTART,
        "The group it belongs to: one that clusterd's user is in.",
        metavar="GROUP",
    ),
    Setting(
        "rollout.surge",
        whole_number(1, 1024),
        "1",
        _NEXT,
        "Workers that are replaced at the same time.",
    ),
    Setting(
        "rollout.boot_timeout",
        duration("100ms", "1h"),
        "60s",
        _NEXT,
        "For the application's import, and again for a worker to become ready. Past it the reload is withdrawn.",
    ),
    Setting(
        "rollout.settle",
        duration("0s", "10m"),
        "1s",
        _NEXT,
        "How long the first new worker must live before the others are replaced, and each of those before the reload "
        "has succeeded: two such times for a service of several workers.",
    ),
    Setting(
        "rollout.max_draining",
        whole_number(1, 64),
        "4",
        _NEXT,
        "Generations that may be draining at once; beyond it the oldest is ended.",
    ),
    Setting(
        "rollout.health_check.path",
        text("a path that begins with /", r"/[!-~]*"),
        None,
        _NEXT,
        "What is requested with GET.",
    ),
    Setting(
        "rollout.health_check.host",
        text("a host name, with or without a port", r"[A-Za-z0-9._\-\[\]:]{1,255}"),
        "localhost",
        _NEXT,
        "The Host header. Frameworks that check it refuse names they do not know.",
    ),
    Setting(
        "rollout.health_check.expect",
        text(
            "a status like 204, or a class of them like 2xx", r"[1-5]xx|[1-5][0-9][0-9]", _check_expect, CoreType.NUMBER
        ),
        "2xx",
        _NEXT,
        "The status that passes.",
    ),
    Setting(
        "rollout.health_check.timeout",
        duration("100ms", "1h"),
        "5s",
        _NEXT,
        "For the whole response. At most rollout.boot_timeout, which goes on running.",
    ),
    Setting(
        "restarts.burst",
        whole_number(1, 10_000),
        "20",
        _NEXT,
        "Restarts that happen at once. When they are used up, restarts are spaced evenly, one every per / burst. The "
        "spacing is never so long that less than half of the workers would be restarted within a second: at most 1 s "
        "for one or two workers. A reload that succeeds applies a changed limit and clears the count.",
    ),
    Setting(
        "restarts.per",
        duration("100ms", "1h"),
        "10s",
        _NEXT,
        "The time in which restarts.burst restarts become available again.",
    ),
)
