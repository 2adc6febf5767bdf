"""`clusterd --watch`: reload when files change."""
