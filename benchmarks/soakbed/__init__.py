"""A whole region under load that is harmed again and again, and what is measured of it."""
