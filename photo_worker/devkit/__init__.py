"""The emulated cloud: Temporal, Postgres, S3, SNS, SQS and Textract on loopback, as processes or containers."""
