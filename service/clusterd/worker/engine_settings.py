"""Translates the service's configuration into the settings of the HTTP engine, which knows nothing of clusters."""

from clusterd.config.descriptors import usable_connections
from clusterd.config.model import Config, Switch
from clusterd.http.settings import HttpSettings, Interface, Limits, Timeouts


def engine_settings(config: Config, interface: Interface) -> HttpSettings:
    """Return the part of `config` that the engine needs."""
    timeouts, limits = config.timeouts, config.limits
    return HttpSettings(
        interface=interface,
        threads=config.threads,
        root_path=config.root_path,
        trusted_proxies=config.trusted_proxies,
        proxy_protocol=config.proxy_protocol is Switch.ON,
        server_header=config.server_header is Switch.ON,
        access_log=config.log.access,
        timeouts=Timeouts(
            keepalive=timeouts.keepalive,
            header=timeouts.header,
            body=timeouts.body,
            write=timeouts.write,
            queue=timeouts.queue,
            request=timeouts.request,
        ),
        limits=Limits(
            connections=usable_connections(config),
            queue=limits.queue,
            request_line=limits.request_line,
            headers=limits.headers,
            header_count=limits.header_count,
            body=limits.body,
        ),
    )
