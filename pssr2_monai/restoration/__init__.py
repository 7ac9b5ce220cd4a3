"""Restoring files of any size: windows, blocks, files, folders, and the processes that share the work."""
