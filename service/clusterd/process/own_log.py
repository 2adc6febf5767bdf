"""The log of this process as the configuration says."""

from clusterd.config.model import Log, LogFormat
from clusterd.log import Level, Logger


def level_of(settings: Log) -> Level:
    """Return the level that is configured."""
    return Level[settings.level.name]


def configure_log(log: Logger, settings: Log) -> None:
    """Give the log of this process the configured format and limit of equal records. Its level is set apart."""
    log.shape(as_json=settings.format is LogFormat.JSON, repeats=settings.repeats)
