"""Tags by which bserkit knows its runs in MLflow."""

#: The SHA-256 of a fine-tuned network, and the run that has its file.
DIGEST_TAG, HOLDER_TAG = "weights.digest", "weights.run"
#: That file.
WEIGHTS = "weights.safetensors"
#: Which process makes a run, and why it ended.
HOST_TAG, PROCESS_TAG, ENDED_TAG = "bserkit.host", "bserkit.process", "bserkit.ended"
#: What an MLflow run is, where it is no ordinary run: those have no such tag.
KIND_TAG, COMPARISON, NETWORK, SWEEP = "bserkit.kind", "comparison", "network", "sweep"
#: What a run of a sweep was made of, and the sweep that it was made in before it was taken over.
IDENTITY_TAG, MADE_IN_TAG = "bserkit.identity", "bserkit.made_in"
#: The run that another lies below.
PARENT_TAG = "mlflow.parentRunId"
