"""What is kept of a command: all that it takes to repeat it, and no secrets."""

from deepmac.commands import command_line
from pipelines import build_dataset


def test_secrets_of_stores_are_not_kept():
    beam_args = [
        *(
            "--s3_secret_access_key=a b",
            "--s3_session_token",
            "c",
            "--s3_region_name=d",
        ),
        *("--azure_connection_string=e=f;g", "--direct_num_workers", "2"),
    ]
    kept = command_line(
        "deepmac build",
        build_dataset.Options(annotations="A", images="I", out="O"),
        beam_args,
    )
    assert kept.endswith(
        " -- --s3_secret_access_key=... --s3_session_token ... --s3_region_name=d "
        "--azure_connection_string=... --direct_num_workers 2"
    )
