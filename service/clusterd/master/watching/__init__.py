"""`clusterd --watch`: file changes that end in a reload."""
