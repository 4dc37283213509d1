"""The scoring server of an image.

This folder is copied alone into the image as the package `insitu_serving`, so it imports nothing of
insitu, and within itself only relatively.
"""
