"""Where the product's own workflow classes and data converter are found; importing this imports nothing."""

PRODUCT_WORKFLOWS = "photo_worker.bootstrap:workflow_types"
PRODUCT_CONVERTER = "photo_worker.orchestration.converter:data_converter"
