"""The metrics of every instance of clusterd at one TCP address, for Prometheus, which does not scrape unix sockets."""
