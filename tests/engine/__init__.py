"""Tests of the engine ring: real sockets and threads in this process, no clusterd process."""
