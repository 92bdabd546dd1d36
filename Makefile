# Each target sets up all that it needs by itself: Debian packages where this is root, and a virtual environment in .venv.
# The second time it finds everything there and starts at once.

PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
LOWEST := .venv-lowest
FOR_LOWEST := tests/unit tests/properties/test_command_line.py tests/integration/test_demo.py \
	$(wildcard tests/integration/test_commands_*.py)
PYTEST := $(VENV)/bin/python -m pytest
LABS := $(shell awk '/MemAvailable/ { print ($$2 > 6000000 && '$$(nproc)' > 1) ? 2 : 1 }' /proc/meminfo)
WORKERS := $(shell n=$$(nproc); echo $$((n < 3 ? 3 * n : 8)))
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH):/usr/sbin:/sbin
# Else each of the thousands of starts would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

FOR_DEMO := python3 python3-venv rsync mount util-linux e2fsprogs acl
FOR_CLUSTER := python3 python3-venv cpio e2fsprogs fdisk kmod mmdebstrap openssh-client qemu-system-x86 qemu-utils rclone socat vde2
FOR_DOCS := python3 python3-venv
FOR_PACKAGE := python3 python3-venv dpkg dpkg-dev lintian mmdebstrap util-linux
FOR_TEST := attr bindfs btrfs-progs chromium cron exfatprogs fonts-dejavu-core fuse3 libxml2-utils man-db \
	mariadb-backup mariadb-client mariadb-client-core mariadb-server-core monitoring-plugins-basic nagios-nrpe-plugin nagios-nrpe-server openssh-client \
	openssh-server openssl procps prometheus prometheus-node-exporter rclone resource-agents restic shellcheck strace sudo systemd xxhash

.PHONY: help demo test golden lowest tests-with-lowest bench check docs clean deb package packages-for-package packages-for-demo packages-for-docs packages-for-test cluster cluster-shell packages-for-cluster

help:
	@echo "make demo    play the whole story on this machine, without DRBD, in under a minute"
	@echo "make test    run every test but those that need virtual machines"
	@echo "make lowest  run the unit tests, the commands and the demo with the oldest packages that are allowed"
	@echo "make cluster run the scenarios on a real pair, in virtual machines; make cluster-shell leaves you in it"
	@echo "make golden  write tests/golden anew: what each command says at several widths; read the difference"
	@echo "make bench   measure against the classic scripts"
	@echo "make check   the quick part: style, types, layers and unit tests"
	@echo "make docs    build the documentation as a site, into site/"
	@echo "make deb     build a Debian package for this release into dist/; make deb RELEASE=trixie for another one"
	@echo "make package build it for Debian 12 and 13 and try it in a fresh system of each"
	@echo "make clean   remove what these have made here"

demo: $(VENV)/.for-demo
	@$(VENV)/bin/drbdbackup demo

test: $(VENV)/.for-test
	@$(VENV)/bin/python -m tests.newer_restic
	@[ "$$(id -u)" = 0 ] || echo "Not root: tests that mount, chown or make namespaces are left out, and named at the end."
	@$(PYTEST) -q -n $(WORKERS) --dist worksteal

lowest: packages-for-test
	@$(PYTHON) -m tests.lowest >$(LOWEST).txt
	@$(MAKE) --no-print-directory VENV=$(LOWEST) CONSTRAINTS=$(LOWEST).txt tests-with-lowest

tests-with-lowest: $(VENV)/.for-test
	@$(PYTEST) -q -n $(WORKERS) --dist worksteal --ignore tests/unit/test_shape.py $(FOR_LOWEST)

golden: $(VENV)/.for-test
	@DRBDBACKUP_NEW_SCREENS=1 $(PYTEST) -q tests/unit/test_golden.py
	@git --no-pager diff --stat -- tests/golden

bench: $(VENV)/.for-test
	@$(VENV)/bin/python -m tests.bench

cluster: $(VENV)/.for-test packages-for-cluster
	@$(PYTEST) -q -n $(LABS) --dist worksteal --durations=0 --durations-min=1 tests/cluster

cluster-shell: $(VENV)/.for-test packages-for-cluster
	@$(VENV)/bin/python -m tests.cluster

check: $(VENV)/.for-test
	@$(PYTEST) -q -n $(WORKERS) --dist worksteal tests/unit/test_shape.py tests/unit  # the types first: they take longest

# The pages are laid out as they are here, so that each link leads to the same place. Zensical knows one language for all.
docs: $(VENV)/.for-docs
	@rm -rf build/pages site
	@mkdir -p build/pages/drbdbackup
	@cp -R docs *.md LICENSE build/pages
	@cp -R drbdbackup/share build/pages/drbdbackup
	@$(VENV)/bin/zensical build --clean --strict
	@sed -i 's/^<html lang="en"/<html lang="de"/' site/docs/de/*.html
	@! grep -L '^<html lang="de"' site/docs/de/*.html | grep .

deb: $(VENV)/.for-demo packages-for-package
	@$(if $(RELEASE),debian/build-for $(RELEASE),debian/build $(VENV)/bin/python)

package: $(VENV)/.for-test packages-for-package
	@$(PYTEST) -q -n 2 --dist loadscope --durations=0 --durations-min=1 tests/package

clean:
	rm -rf $(VENV) $(LOWEST) $(LOWEST).txt build dist site .bench .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.for-demo: pyproject.toml | packages-for-demo
	$(call with_pip,-e .)
	@touch $@

$(VENV)/.for-docs: pyproject.toml | packages-for-docs
	$(call with_pip,-e '.[docs]')
	@touch $@

$(VENV)/.for-test: pyproject.toml | packages-for-test
	$(call with_pip,-e '.[test]')
	@touch $@ $(VENV)/.for-demo

packages-for-demo:
	$(call with_packages,$(FOR_DEMO))

packages-for-docs:
	$(call with_packages,$(FOR_DOCS))

packages-for-test:
	$(call with_packages,$(FOR_DEMO) $(FOR_TEST))

packages-for-package:
	$(call with_packages,$(FOR_PACKAGE))

packages-for-cluster:
	$(call with_packages,$(FOR_CLUSTER))

# Installs packages into the virtual environment, with pip's own settings on this machine.
define with_pip
@[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv --clear $(VENV) || \
	{ rm -rf $(VENV); echo "A virtual environment cannot be made: apt install python3-venv" >&2; exit 1; }
@echo "Installing drbdbackup into $(VENV) ..."
@$(VENV)/bin/pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) $(1)
endef

# Installs the Debian packages that are missing where this is root, else says which they are and goes on without.
define with_packages
@command -v dpkg-query >/dev/null || { echo "Not a Debian: see for yourself that these are there: $(1)"; exit 0; }; \
missing=; \
for name in $(1); do \
	dpkg-query --show --showformat='$${db:Status-Status}' $$name 2>/dev/null | grep -qx installed || missing="$$missing $$name"; \
done; \
[ -n "$$missing" ] || exit 0; \
[ "$$(id -u)" = 0 ] || { echo "Not root, so these Debian packages are left out; as root: apt install$$missing"; exit 0; }; \
echo "Installing the Debian packages$$missing ..."; \
export DEBIAN_FRONTEND=noninteractive; \
{ apt-get update && apt-get install --yes --no-install-recommends $$missing; } >$(VENV).apt.log 2>&1 || \
	{ cat $(VENV).apt.log >&2; exit 1; }; \
rm -f $(VENV).apt.log
endef
