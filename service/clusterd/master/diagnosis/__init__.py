"""Examinations of workers that operators ask for."""
