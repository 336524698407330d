"""Every server has exactly the behaviours that ``behaviours.toml`` lists for it.

The classes have the names of the table's groups.
"""

from __future__ import annotations

from tests.contracts.s3.buckets import BucketBehaviours
from tests.contracts.s3.checksums import ChecksumBehaviours
from tests.contracts.s3.conditions import ConditionBehaviours
from tests.contracts.s3.events import EventBehaviours
from tests.contracts.s3.listings import ListingBehaviours
from tests.contracts.s3.objects import ObjectBehaviours
from tests.contracts.s3.signed import SignatureBehaviours


class TestBuckets(BucketBehaviours):
    pass


class TestObjects(ObjectBehaviours):
    pass


class TestConditions(ConditionBehaviours):
    pass


class TestChecksums(ChecksumBehaviours):
    pass


class TestListings(ListingBehaviours):
    pass


class TestSignatures(SignatureBehaviours):
    pass


class TestEvents(EventBehaviours):
    pass
