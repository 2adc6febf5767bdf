"""A laboratory of several hosts: booted Debians with addresses of their own, a balancer and clients."""
