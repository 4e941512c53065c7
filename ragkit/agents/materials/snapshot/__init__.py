"""The shipped snapshot of published values, as a back end."""
