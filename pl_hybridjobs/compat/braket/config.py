"""What a hybrid job is configured by, in Amazon Braket's words. Any object with these attributes is taken, the SDK's own too."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass
class CheckpointConfig:
    """Where checkpoints are kept.

    Attributes:
        localPath: Not used, which is said: the job's own folder holds them, and ``get_checkpoint_dir()`` tells where.
        s3Uri: Where they are copied to at Amazon Braket.
    """

    localPath: str = "/opt/jobs/checkpoints"  # noqa: N815 - Amazon Braket's name
    s3Uri: str | None = None  # noqa: N815


@dataclass
class InstanceConfig:
    """The machines at Amazon Braket. On this machine it says nothing; more than one are refused."""

    instanceType: str = "ml.m5.large"  # noqa: N815
    volumeSizeInGb: int = 30  # noqa: N815
    instanceCount: int = 1  # noqa: N815


@dataclass
class OutputDataConfig:
    """Where results go at Amazon Braket."""

    s3Path: str | None = None  # noqa: N815
    kmsKeyId: str | None = None  # noqa: N815


@dataclass
class StoppingCondition:
    """When a job is stopped. It then has failed (``JobTimeout``), on this machine too."""

    maxRuntimeInSeconds: int = 5 * 24 * 60 * 60  # noqa: N815


@dataclass
class DeviceConfig:
    """The device that a job is for."""

    device: str


@dataclass(init=False)
class S3DataSourceConfig:
    """Input data that lies in S3.

    Args:
        s3_data: ``s3://...``
        content_type: Its MIME type.
    """

    config: dict[str, Any] = field(default_factory=dict)

    def __init__(self, s3_data: str, content_type: str | None = None) -> None:
        self.config = {"dataSource": {"s3DataSource": {"s3Uri": s3_data}}}
        if content_type is not None:
            self.config["contentType"] = content_type


class PersistedJobDataFormat(StrEnum):
    """How values stand in a results or checkpoint file."""

    PLAINTEXT = "plaintext"
    PICKLED_V4 = "pickled_v4"  #: pickle protocol 4, then base64
