"""The project's words as frozen data, without any knowledge of files, the kernel or the store."""
