"""Keeps web pages of other origins away from the services of a local stack."""
