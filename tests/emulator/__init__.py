"""The emulated Amazon Braket, seen by clients that we did not write: boto3, the Braket SDK, the Braket plug-in of PennyLane."""
