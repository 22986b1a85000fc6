# `make` alone lists the targets: every line `target: ## what it does`.
.DEFAULT_GOAL := help

.PHONY: help cluster-up cluster-down

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cluster-up: ## start a local Kubernetes control plane; prints the KUBECONFIG to use
	@tests/cluster/control-plane up

cluster-down: ## end it
	@tests/cluster/control-plane down
