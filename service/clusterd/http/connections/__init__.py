"""One client each: how it comes in, its bytes, its requests in order, how it moves and how it ends."""
