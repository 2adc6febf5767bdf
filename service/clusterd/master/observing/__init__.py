"""What the master observes for the metrics beside the counts of the workers."""
