"""The messages between processes, their encoding, and the channel that carries them."""
