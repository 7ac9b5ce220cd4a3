"""Scoring restored images against known ones: what is compared, how sure it is, and the page that tells it."""
