"""To be described by the package that fills it."""
