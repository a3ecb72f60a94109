"""Copies files into pending versions and out of versions."""
