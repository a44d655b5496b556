"""The training stages, one a module."""
