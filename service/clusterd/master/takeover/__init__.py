"""One program of the master takes the service over from another."""
