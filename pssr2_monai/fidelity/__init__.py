"""Whether a restored image agrees with its input, and how sure the network is of it."""
