"""Frozen face models: detector, landmarks, recogniser."""
