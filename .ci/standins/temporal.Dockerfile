# Temporal's command line and development server, the program of its own wheel, laid out as in temporalio/temporal.
ARG BASE
FROM ${BASE}
RUN useradd --uid 1000 --create-home temporal
COPY temporal /usr/local/bin/temporal
USER temporal
WORKDIR /home/temporal
ENTRYPOINT ["temporal"]
