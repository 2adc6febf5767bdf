"""Where a request comes from: the client behind the proxies, and who is believed."""
