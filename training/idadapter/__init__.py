"""Training, evaluation and export of IDAdapter (arXiv 2403.13535)."""
