"""A notebook that runs inside a hybrid job: its parameters come as arguments, the executed notebook is a result."""

import nbformat

from pl_hybridjobs.compat.braket import get_results_dir, hybrid_job


@hybrid_job(device=None, input_data={"input": "notebooks/experiment.ipynb"}, include_modules=[], dependencies=["nbclient"])
def run_notebook(path: str, parameters: dict):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    injected = nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
    notebook.cells.insert(0, injected)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    nbformat.write(notebook, f"{get_results_dir()}/executed.ipynb")
    return {"cells": len(notebook.cells)}


if __name__ == "__main__":
    job = run_notebook("notebooks/experiment.ipynb", {"angle": 0.5, "title": "first"})
    result = job.result()
    job.download_result("downloaded")
    print(result)
