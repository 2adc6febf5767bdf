"""Several hosts: what deploying to them, taking them out and losing them costs clients. Needs root."""
