"""What every child of the master does: receive its first order, and drop after a fork what belongs to the template."""
