"""What other servers call their settings and flags, and what does the same here. Names are written with underscores."""

import re

FOREIGN = {
    # gunicorn, uvicorn and granian
    "bind": "listen: HOST:PORT",
    "host": "listen: HOST:PORT",
    "port": "listen: HOST:PORT",
    "uds": "listen: unix:/path",
    "reload": "the flag --watch .",
    "reload_dir": "the flag --watch DIRECTORY",
    "reload_extra_file": "the flag --watch FILE",
    "chdir": "directory",
    "app_dir": "directory",
    "working_dir": "directory",
    "pythonpath": "directory, or environment: with PYTHONPATH",
    "root_path_prefix": "root_path",
    "url_path_prefix": "root_path",
    "raw_env": "environment",
    "env_file": "environment_file",
    "preload_app": "preload",
    "factory": "app: module:factory()",
    "timeout": "timeouts.hang",
    "graceful_timeout": "timeouts.drain",
    "timeout_graceful_shutdown": "timeouts.drain",
    "workers_kill_timeout": "timeouts.drain",
    "keep_alive": "timeouts.keepalive",
    "timeout_keep_alive": "timeouts.keepalive",
    "worker_connections": "limits.connections",
    "limit_concurrency": "limits.connections",
    "backpressure": "limits.connections",
    "max_requests": "limits.max_requests",
    "max_requests_jitter": "limits.max_requests, which has a jitter of its own",
    "limit_max_requests": "limits.max_requests",
    "workers_max_rss": "limits.max_memory",
    "limit_request_line": "limits.request_line",
    "limit_request_fields": "limits.header_count",
    "limit_request_field_size": "limits.headers",
    "backlog": "Backlog= of the socket unit",
    "blocking_threads": "threads",
    "runtime_blocking_threads": "threads",
    "worker_class": "interface, which is found out by itself, and threads",
    "loop": "nothing: workers run uvloop",
    "http": "nothing: there is one implementation",
    "ws": "nothing: WebSockets need wsproto in the application's environment",
    "lifespan": "nothing: an application that has one is asked for it",
    "certfile": "tls.certificate",
    "ssl_certfile": "tls.certificate",
    "ssl_certificate": "tls.certificate",
    "keyfile": "tls.key",
    "ssl_keyfile": "tls.key",
    "accesslog": "log.access: all",
    "access_logfile": "log.access: all",
    "access_log": "log.access: all",
    "loglevel": "log.level",
    "log_level": "log.level",
    "forwarded_allow_ips": "trusted_proxies",
    "proxy_allow_ips": "trusted_proxies",
    "proxy_headers": "trusted_proxies",
    "post_fork": "worker_start",
    "worker_exit": "worker_stop",
    "when_ready": "hooks",
    "child_exit": "hooks",
    "daemon": "nothing: systemd runs it in the background",
    "pid": "nothing: systemd knows the process",
    "pidfile": "nothing: systemd knows the process",
    "user": "User= of the unit",
    "group": "Group= of the unit",
    "statsd_host": "metrics, for Prometheus",
}
_NOTHING = "nothing: "
_SHORT = {"w": "--workers", "b": "--listen HOST:PORT", "c": "--config"}
_match_setting = re.compile(r"use ([a-z_.]+):?((?: [^ ,]+)? instead)").fullmatch


def instead_of(name: str) -> str:
    """What to do in place of another server's setting, as a hint; empty if none has it."""
    ours = FOREIGN.get(name.replace("-", "_"), "")
    if ours.startswith(_NOTHING):
        return f"not needed here: {ours.removeprefix(_NOTHING)}"
    return f"use {ours} instead" if ours else ""


def instead_of_flag(flag: str) -> str:
    """The same for a flag, with our flag."""
    if not flag.startswith("--"):
        ours = _SHORT.get(flag.removeprefix("-"), "")
        return f"use {ours} instead" if ours else ""
    hint = instead_of(flag.removeprefix("--")).replace("use the flag ", "use ")
    setting = _match_setting(hint)
    return hint if setting is None else f"use --{setting[1]}{setting[2]}"
