"""The relay: the metrics of all instances at one TCP address, because Prometheus cannot scrape Unix sockets."""
