"""Rules that refuse requests of web pages of other origins to the services of a local stack."""
