"""SAGEMAKER_PROGRAM of our images: runs a job that came through Amazon Braket."""

from pl_hybridjobs.braket.entry import main

if __name__ == "__main__":
    main()
