"""Translates the service's configuration into the settings of the HTTP engine, which knows nothing of clusters."""

from dataclasses import replace

from clusterd.config.descriptors import usable_connections
from clusterd.config.model import Config, Switch
from clusterd.http.settings import HttpSettings, Interface


def engine_settings(config: Config, interface: Interface) -> HttpSettings:
    """Return the part of `config` that the engine needs."""
    return HttpSettings(
        interface=interface,
        threads=config.threads,
        greenlets=config.greenlets,
        root_path=config.root_path,
        trusted_proxies=config.trusted_proxies,
        proxy_protocol=config.proxy_protocol is Switch.ON,
        server_header=config.server_header is Switch.ON,
        underscores=config.underscores,
        access_log=config.log.access,
        timeouts=config.timeouts,
        limits=replace(config.limits, connections=usable_connections(config)),
    )
