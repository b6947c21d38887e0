"""A small cluster: front, worker and Redis hosts with addresses of their own, under chaos' load.

network.py   hosts as network namespaces on a bridge, and their cables
failures.py  what happens to hosts and deployments: cuts, losses, rolling updates
autoscaler.py  what KEDA and the cluster's autoscaler make of the manifests' rule
driver.py    the fleet on its hosts, and a run from its start to its verdict
test_cluster.py  a short run of it, as part of the tests; `make cluster` is the whole one
"""
