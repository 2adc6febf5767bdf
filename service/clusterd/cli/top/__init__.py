"""`clusterctl top`: the service on the whole terminal, once a second."""
