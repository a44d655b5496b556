"""Face photos, captions and alignment."""
