"""A valid request for every operation of the service, with most of the members that it has."""

from __future__ import annotations

import base64
from typing import Any

PHOTO = base64.b64encode(b"photo").decode()
LOCATION = {"S3Object": {"Bucket": "photos", "Name": "a b+ü.png", "Version": "7"}}

VALID: dict[str, Any] = {
    "AnalyzeDocument": {"Document": LOCATION, "FeatureTypes": ["TABLES", "FORMS"]},
    "AnalyzeExpense": {"Document": {"Bytes": PHOTO}},
    "AnalyzeID": {"DocumentPages": [LOCATION, {"Bytes": PHOTO}]},
    "CreateAdapter": {"AdapterName": "a-1_b", "FeatureTypes": ["QUERIES"], "Tags": {"küche": "süß"}},
    "CreateAdapterVersion": {
        "AdapterId": "a" * 12,
        "DatasetConfig": {"ManifestS3Object": LOCATION["S3Object"]},
        "OutputConfig": {"S3Bucket": "photos", "S3Prefix": "out/"},
    },
    "DeleteAdapter": {"AdapterId": "a" * 12},
    "DeleteAdapterVersion": {"AdapterId": "a" * 12, "AdapterVersion": "1"},
    "DetectDocumentText": {"Document": LOCATION},
    "GetAdapter": {"AdapterId": "a" * 12},
    "GetAdapterVersion": {"AdapterId": "a" * 12, "AdapterVersion": "1"},
    "GetDocumentAnalysis": {"JobId": "a" * 64, "MaxResults": 1, "NextToken": "x"},
    "GetDocumentTextDetection": {"JobId": "a" * 64, "MaxResults": 100_000},
    "GetExpenseAnalysis": {"JobId": "a-_1"},
    "GetLendingAnalysis": {"JobId": "a-_1"},
    "GetLendingAnalysisSummary": {"JobId": "a-_1"},
    "ListAdapterVersions": {"AfterCreationTime": 1.5e9},
    "ListAdapters": {},
    "ListTagsForResource": {"ResourceARN": "arn"},
    "StartDocumentAnalysis": {
        "DocumentLocation": LOCATION,
        "FeatureTypes": ["QUERIES"],
        "QueriesConfig": {"Queries": [{"Text": "How much flour?", "Alias": "flour", "Pages": ["1-2", "*"]}]},
    },
    "StartDocumentTextDetection": {
        "DocumentLocation": LOCATION,
        "ClientRequestToken": "t-1_2",
        "JobTag": "job:1.2",
        "NotificationChannel": {
            "SNSTopicArn": "arn:aws:sns:us-east-1:000000000000:done",
            "RoleArn": "arn:aws:iam::000000000000:role/textract",
        },
        "KMSKeyId": "alias/key",
    },
    "StartExpenseAnalysis": {"DocumentLocation": LOCATION},
    "StartLendingAnalysis": {"DocumentLocation": LOCATION},
    "TagResource": {"ResourceARN": "arn", "Tags": {"a": "b"}},
    "UntagResource": {"ResourceARN": "arn", "TagKeys": ["a"]},
    "UpdateAdapter": {"AdapterId": "a" * 12, "Description": "Reads cards", "AutoUpdate": "ENABLED"},
}
