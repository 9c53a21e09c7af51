"""The stand-in API by itself, and a sync of it."""
