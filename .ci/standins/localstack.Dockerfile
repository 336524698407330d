# LocalStack's open core from its wheels, started without the image's own entry script and what that can do.
ARG BASE
FROM ${BASE}
COPY packages /opt/code/localstack/packages
ENV PYTHONPATH=/opt/code/localstack/packages \
    PYTHONUNBUFFERED=1 \
    GATEWAY_LISTEN=0.0.0.0:4566 \
    FILESYSTEM_ROOT=/var/lib/localstack
WORKDIR /opt/code/localstack
# What is imported at start is compiled now: each new container would do that again.
RUN python3 -c "import localstack.runtime.main, localstack.aws.patches, moto.core.config, localstack.services.s3.provider, localstack.services.sns.provider, localstack.services.sqs.provider"
VOLUME /var/lib/localstack
EXPOSE 4566
ENTRYPOINT ["python3", "-m", "localstack.runtime.main"]
