"""Where pixels come from and go to: image files read lazily, and written region by region."""
