"""`clusterctl --host`: runs the clusterctl of other hosts over ssh, and shows their answers together."""
