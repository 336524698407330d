"""The emulated cloud: Temporal, Postgres, S3, SNS, SQS and Textract as processes on loopback."""
