"""Translates the service's configuration into the settings of the HTTP engine, which knows nothing of clusters."""

from dataclasses import replace

from clusterd.config.descriptors import usable_connections
from clusterd.config.model import Config, LogFormat, LogTargets, Switch
from clusterd.config.settings.access_format import AS_FIELDS, AS_JSON
from clusterd.http.settings import HttpSettings, Interface


def engine_settings(config: Config, interface: Interface, worker: str = "") -> HttpSettings:
    """Return the part of `config` that the engine needs. `worker` is the name of the process in the access log."""
    is_json = config.log.format is LogFormat.JSON
    return HttpSettings(
        interface=interface,
        threads=config.threads,
        greenlets=config.greenlets,
        root_path=config.root_path,
        trusted_proxies=config.trusted_proxies,
        proxy_protocol=config.proxy_protocol is Switch.ON,
        server_header=config.server_header is Switch.ON,
        underscores=config.underscores,
        request_ids=config.request_ids,
        access_log=config.log.access,
        # With JSON objects for records, the record of a request has its fields in one.
        access_format=AS_FIELDS if is_json and config.log.access_format == AS_JSON else config.log.access_format,
        slow=config.log.slow,
        whole_targets=config.log.targets is LogTargets.FULL,
        worker=worker,
        timeouts=config.timeouts,
        limits=replace(config.limits, connections=usable_connections(config)),
    )
