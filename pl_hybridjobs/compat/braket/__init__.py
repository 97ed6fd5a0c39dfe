"""Amazon Braket Hybrid Jobs' names: a program for ``braket.jobs`` runs with its imports changed and nothing else.

``use("local")``, or the variable ``HYBRIDJOBS_BRAKET=local``, decides that such jobs run on this machine. The guide "From Amazon Braket"
lists what differs, all of it on purpose.
"""

from pl_hybridjobs.compat.braket.config import CheckpointConfig as CheckpointConfig
from pl_hybridjobs.compat.braket.config import DeviceConfig as DeviceConfig
from pl_hybridjobs.compat.braket.config import InstanceConfig as InstanceConfig
from pl_hybridjobs.compat.braket.config import OutputDataConfig as OutputDataConfig
from pl_hybridjobs.compat.braket.config import PersistedJobDataFormat as PersistedJobDataFormat
from pl_hybridjobs.compat.braket.config import S3DataSourceConfig as S3DataSourceConfig
from pl_hybridjobs.compat.braket.config import StoppingCondition as StoppingCondition
from pl_hybridjobs.compat.braket.data_persistence import load_job_checkpoint as load_job_checkpoint
from pl_hybridjobs.compat.braket.data_persistence import load_job_result as load_job_result
from pl_hybridjobs.compat.braket.data_persistence import save_job_checkpoint as save_job_checkpoint
from pl_hybridjobs.compat.braket.data_persistence import save_job_result as save_job_result
from pl_hybridjobs.compat.braket.devices import Finder as _Finder
from pl_hybridjobs.compat.braket.environment_variables import get_checkpoint_dir as get_checkpoint_dir
from pl_hybridjobs.compat.braket.environment_variables import get_hyperparameters as get_hyperparameters
from pl_hybridjobs.compat.braket.environment_variables import get_input_data_dir as get_input_data_dir
from pl_hybridjobs.compat.braket.environment_variables import get_job_device_arn as get_job_device_arn
from pl_hybridjobs.compat.braket.environment_variables import get_job_name as get_job_name
from pl_hybridjobs.compat.braket.environment_variables import get_results_dir as get_results_dir
from pl_hybridjobs.compat.braket.hybrid_job import hybrid_job as hybrid_job
from pl_hybridjobs.compat.braket.image_uris import Framework as Framework
from pl_hybridjobs.compat.braket.image_uris import retrieve_image as retrieve_image
from pl_hybridjobs.compat.braket.metrics import log_metric as log_metric
from pl_hybridjobs.compat.braket.metrics_data import LogMetricsParser as LogMetricsParser
from pl_hybridjobs.compat.braket.metrics_data import MetricStatistic as MetricStatistic
from pl_hybridjobs.compat.braket.metrics_data import MetricType as MetricType
from pl_hybridjobs.compat.braket.quantum_job import AwsQuantumJob as AwsQuantumJob
from pl_hybridjobs.compat.braket.quantum_job import HybridJobQueueInfo as HybridJobQueueInfo
from pl_hybridjobs.compat.braket.quantum_job import LocalQuantumJob as LocalQuantumJob
from pl_hybridjobs.compat.braket.setting import use as use

_Finder.install()
