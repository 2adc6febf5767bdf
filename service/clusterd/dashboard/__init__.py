"""What the page for browsers and `clusterctl top` show: the numbers, and their words. Without side effects."""
