# PgBouncer and psql from Debian; the Compose file says how it is started, whatever the image.
ARG BASE
FROM ${BASE}
RUN apt-get update \
 && RUNLEVEL=1 apt-get install --yes --quiet --no-install-recommends pgbouncer postgresql-client \
 && rm -rf /var/lib/apt/lists/*
USER nobody
EXPOSE 6432
