"""The commands of clusterctl that look into workers: stacks, profiles, and what their memory is used for."""
