"""Dotted paths of the product's workflow classes and data converter; this module imports nothing."""

PRODUCT_WORKFLOWS = "photo_worker.bootstrap:workflow_types"
PRODUCT_CONVERTER = "photo_worker.orchestration.converter:data_converter"
