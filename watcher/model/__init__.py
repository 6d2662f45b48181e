"""The project's terms as frozen data; it knows no files, no kernel and no store."""
