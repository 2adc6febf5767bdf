"""Kernel calls that Python lacks, and the names under which processes of clusterd appear in `ps`."""
