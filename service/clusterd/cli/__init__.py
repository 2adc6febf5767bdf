"""The commands: clusterd and clusterctl."""
