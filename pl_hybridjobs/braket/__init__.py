"""Amazon Braket, spoken to through plain boto3. Nothing here is imported before it is needed."""
