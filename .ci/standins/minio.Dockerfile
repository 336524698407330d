# MinIO's server, built from its Go module, started as pgsty/silo is: `docker run IMAGE server /data`.
ARG BASE
FROM ${BASE}
COPY minio /usr/bin/minio
ENV HOME=/tmp
VOLUME /data
EXPOSE 9000
ENTRYPOINT ["minio"]
