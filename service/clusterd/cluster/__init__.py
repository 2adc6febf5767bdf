"""`from clusterd import Cluster`: a program that is its own master. docs/node-cluster.md explains it.

Imported in templates and workers too, where application and cluster are one file: at its import it needs the standard
library and nothing else, and the master only when the cluster runs.
"""
