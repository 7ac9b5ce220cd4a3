"""Image files, read on demand and written region by region; axes, grey levels, windows, charts and pictures."""
