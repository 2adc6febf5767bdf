"""What crosses between processes: the messages, their codec and the channel that carries them."""
