"""The rules of this program, and room for them among those of others."""
