"""What is taken for a credential, and what is not. All credentials here are made up; they are put together at run time."""

from __future__ import annotations

import pytest

from pl_hybridjobs.jobs import secrets_scan


def found(**values):
    """The names of those values that look like a credential."""
    return {path.removeprefix("kw.") for path, _, _ in secrets_scan.in_objects([(f"kw.{k}", v) for k, v in values.items()], None)}


SOLID = "Ab3dEf6h"

VALUES = {
    "AWS access key id": "AKIA" + "IOSFODNN7" + "ABCDEFG",
    "temporary AWS key id": "ASIA" + "IOSFODNN7" + "ABCDEFG",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA",
    "key in OpenSSH form": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXkt",
    "GitHub token": "ghp_" + SOLID * 5,
    "fine-grained GitHub token": "github_" + "pat_" + SOLID * 4,
    "GitLab token": "glpat-" + SOLID * 3,
    "Slack token": "xoxb-" + "123456789012-" + SOLID,
    "OpenAI key": "sk-" + "proj-" + SOLID * 4,
    "Hugging Face token": "hf_" + SOLID * 4,
    "Google key": "AIza" + SOLID * 4 + "abc",
    "JWT": "eyJ" + SOLID + ".eyJ" + SOLID + "." + SOLID,
    "address with a password": "postgres://me:" + "hunter2@db.example.org/x",
}


@pytest.mark.parametrize("what", VALUES)
def test_a_value_of_known_form_is_found_under_any_name_as_text_and_as_bytes(what):
    value = VALUES[what]

    assert found(harmless=value, data=b"... " + value.encode() + b" ...", nested={"a": [(value,)]}) == {
        "harmless",
        "data",
        'nested["a"][0][0]',
    }


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "api_key", "API_KEY", "apiKey", "client_secret", "aws_secret_access_key", "hfToken", "private_key"],
)
def test_a_text_under_a_telling_name_is_found(name):
    assert found(**{name: "wJalrXUtnFEMI7MDENG"}) == {name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_count", "1234567890"),
        ("tokenizer", "bert-base-uncased"),
        ("token", 5),
        ("password", None),
        ("password", ""),
        ("password", "no"),
        ("pad_token", "<|padding|>"),
        ("mask_token", "[MASKED_OUT]"),
        ("api_key", "OPENAI_API_KEY"),
        ("api_key", "<your key here>"),
        ("secret_name", "prod-database-9"),
        ("secret", "a whole sentence about something"),
        ("keyword", "something9long"),
        ("sort_key", "created_at_9999"),
        ("monkey", "capuchin-12345"),
        ("text", "ask-something-of-somebody-who-knows"),
        ("url", "https://example.org:8080/a@b"),
        ("data", bytes(range(256)) * 4),
    ],
)
def test_what_is_no_credential_is_let_pass(name, value):
    assert found(**{name: value}) == set()


def test_objects_are_looked_into():
    class Config:
        shared_secret = "Zx81Zx81Zx81"

        def __init__(self):
            self.auth = {"password": "hunter2!"}

    assert found(config=Config()) == {'config.auth["password"]', "config.__class__.shared_secret"}


def test_code_that_travels_is_looked_into():
    def train():
        def inner():
            return "ghp_Ab3dEf6hAb3dEf6hAb3dEf6hAb3dEf6hAb3dEf6h"

        return inner

    assert found(train=train) == {"train.<code>"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("train.<globals>.API_KEY", "API_KEY"),
        ('kwargs["token"]', "token"),
        ('args[0]["a"]["secret"]', "secret"),
        ("args[0].conn.password", "password"),
        ("train.<closure>.tokens[3]", "tokens"),
        ("train.<code>", "train"),
        ("args[1]", "args"),
        ("package/helper.py:12", "helper.py"),
        ("call.pkl", "call.pkl"),
    ],
)
def test_a_finding_is_allowed_by_its_path_or_its_last_name(path, name):
    assert secrets_scan.last_name(path) == name
    assert secrets_scan.allowed(path, [name])
    assert secrets_scan.allowed(path, [path])
    assert not secrets_scan.allowed(path, ["other", name + "x"])


def test_what_was_reported_already_is_not_reported_again_for_the_pickle():
    value = VALUES["GitHub token"]
    data = b"..." + value.encode() + b"..." + VALUES["AWS access key id"].encode()

    assert secrets_scan.in_bytes(data, [f"see {value}"]) == ["an AWS access key id"]


def test_a_finding_in_a_source_file_has_its_line():
    assert secrets_scan.in_source(f"a = 1\n\nb = '{VALUES['GitHub token']}'\n".encode()) == [(3, "a GitHub token")]
