"""The page of the metrics endpoint: a dashboard as one HTML document, without assets of its own beside it."""
