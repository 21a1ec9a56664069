"""A real Ray cluster on this machine, for the tests of the pool and of the connection to it."""

import pytest


@pytest.fixture(scope="module")
def cluster():
    """One machine with four CPUs; Ray's own test cluster, so that another can join and be killed."""
    import ray
    from ray.cluster_utils import Cluster

    machines = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "include_dashboard": False, "object_store_memory": 200_000_000},
    )
    ray.shutdown()  # another test of this process may have joined another cluster
    ray.init(address=machines.address, log_to_driver=False, logging_level="ERROR")
    yield machines
    ray.shutdown()
    machines.shutdown()
