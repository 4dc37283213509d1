"""One module for each family of formats; `insitu.residency.decode` is the door."""
