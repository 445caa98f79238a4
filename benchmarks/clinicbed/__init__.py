"""A small clinic in a region: its link, its core, its memory, and what is measured of them."""
