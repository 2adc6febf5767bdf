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
    "reload_extra_files": "the flag --watch FILE",
    "chdir": "directory",
    "app_dir": "directory",
    "working_dir": "directory",
    "pythonpath": "directory, or environment: with PYTHONPATH",
    "root_path_prefix": "root_path",
    "url_path_prefix": "root_path",
    "raw_env": "environment",
    "env": "environment",
    "env_file": "environment_file",
    "preload_app": "preload",
    "factory": "app: module:factory()",
    "wsgi_app": "app",
    "timeout": "timeouts.hang",
    "graceful_timeout": "timeouts.drain",
    "timeout_graceful_shutdown": "timeouts.drain",
    "workers_kill_timeout": "timeouts.drain",
    "keep_alive": "timeouts.keepalive",
    "keepalive": "timeouts.keepalive",
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
    "h11_max_incomplete_event_size": "limits.headers",
    "ws_max_size": "limits.body",
    "header_map": "underscores",
    "backlog": "Backlog= of the socket unit",
    "blocking_threads": "threads",
    "runtime_blocking_threads": "threads",
    "worker_class": "nothing: WSGI, ASGI, and gevent where the module calls monkey.patch_all(), are found out",
    "loop": "nothing: workers run uvloop",
    "http": "nothing: there is one implementation",
    "ws": "nothing: there is one implementation",
    "lifespan": "nothing: an application that has one is asked for it",
    "certfile": "tls.certificate",
    "ssl_certfile": "tls.certificate",
    "ssl_certificate": "tls.certificate",
    "keyfile": "tls.key",
    "ssl_keyfile": "tls.key",
    "accesslog": "log.access: all",
    "access_logfile": "log.access: all",
    "access_log": "log.access: all",
    "no_access_log": "log.access: off",
    "disable_access_log": "log.access: off",
    "errorlog": "nothing: the log goes to stderr, and under systemd to the journal",
    "error_logfile": "nothing: the log goes to stderr, and under systemd to the journal",
    "log_file": "nothing: the log goes to stderr, and under systemd to the journal",
    "log_config": "nothing: the application sets up its own log, and log: in the configuration that of clusterd",
    "logconfig": "nothing: the application sets up its own log, and log: in the configuration that of clusterd",
    "capture_output": "nothing: what the application prints goes where the log goes",
    "loglevel": "log.level",
    "log_level": "log.level",
    "forwarded_allow_ips": "trusted_proxies",
    "proxy_allow_ips": "trusted_proxies",
    "proxy_headers": "trusted_proxies",
    "no_server_header": "server_header: off",
    "post_fork": "worker_start",
    "post_worker_init": "worker_start",
    "worker_exit": "worker_stop",
    "when_ready": "hooks",
    "child_exit": "hooks",
    "daemon": "nothing: systemd runs it in the background",
    "pid": "nothing: systemd knows the process",
    "pidfile": "nothing: systemd knows the process",
    "user": "User= of the unit",
    "group": "Group= of the unit",
    "worker_tmp_dir": "nothing: a hang is found without a file",
    "check_config": "the flag --check",
    "print_config": "the command clusterctl config",
    "statsd_host": "metrics, for Prometheus",
}
_NOTHING = "nothing: "
_SHORT = {
    "b": "bind", "c": "config", "D": "daemon", "e": "env", "g": "group", "k": "worker_class", "p": "pid",
    "t": "timeout", "u": "user", "w": "workers",
}  # fmt: skip
"""The flags of gunicorn that are one letter, by their long names."""
_OURS = {
    "workers": "use --workers instead",
    "config": "use --config instead",
    "env": "use --environment NAME=VALUE instead",
    "app": "the application has no flag: clusterd myapp:app",
    "factory": "write the application as module:factory()",
    "preload": "--preload has a value: true is what that of gunicorn does, and auto, the default, nearly always too",
    "proxy_protocol": "--proxy_protocol has a value: on",
}
"""What is said of a flag, and not of a setting in a file."""
_match_setting = re.compile(r"use ([a-z_.]+):?((?: [^ ,]+)? instead)").fullmatch


def instead_of(name: str) -> str:
    """What to do in place of another server's setting, as a hint; empty if none has it."""
    ours = FOREIGN.get(name.replace("-", "_"), "")
    if ours.startswith(_NOTHING):
        return f"not needed here: {ours.removeprefix(_NOTHING)}"
    return f"use {ours} instead" if ours else ""


def instead_of_flag(flag: str) -> str:
    """The same for a flag, with our flag."""
    is_long = flag.startswith("--")
    name = flag.removeprefix("--").replace("-", "_") if is_long else _SHORT.get(flag.removeprefix("-"), "")
    if name in _OURS:
        return _OURS[name]
    hint = instead_of(name).replace("use the flag ", "use ")
    if (setting := _match_setting(hint)) is not None:
        return f"use --{setting[1]}{setting[2]}"
    return hint.replace("use the command ", "use ")
