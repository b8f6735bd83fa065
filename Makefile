# Two commands: `make report` judges the documented fix, `make test` tests everything. Both set up .venv first.
PYTHON ?= python3
FAMILY ?= coreset
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup report reports test test-slow export readme lab record peers doctor-trial clean
.DEFAULT_GOAL := report

setup: $(READY)
$(READY): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mlfixes needs Python 3.11 or newer, found " + sys.version.split()[0] + "; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,hub,lab,docs]'
	if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/nbdev_install_hooks; fi
	touch $@

report: setup        ## run one family's report and print where its page is
	@$(BIN)/mlfixes report $(FAMILY)

reports: setup       ## the same for every family
	@$(BIN)/mlfixes report

test: setup          ## everything that must hold; prints what was skipped and why
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_test --n_workers 0 --do_print
	$(BIN)/python -m pytest tests

test-slow: setup     ## the study-sized cells too
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_test --n_workers 0 --do_print --flags slow

export: setup        ## notebooks -> mlfixes/ and README.md
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_clean --fname reports
	$(BIN)/python tools/site.py readme

readme: setup        ## run the front page and make README.md from it
	$(BIN)/python tools/site.py execute
	$(BIN)/python tools/site.py readme

record: setup        ## run the `standard` study of FAMILY and keep its files
	$(BIN)/mlfixes report $(FAMILY) --profile standard --record reports/recorded/$(FAMILY)

peers: setup         ## measure again what the peers cost (half an hour)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python tools/peers.py coreset --full --record reports/recorded/peers/coreset.csv
	$(BIN)/python tools/peers.py arcface --record reports/recorded/peers/arcface.csv
	$(BIN)/python tools/peers.py temi --record reports/recorded/peers/temi.csv
	$(BIN)/python tools/peers.py heads --record reports/recorded/peers/heads.csv
	$(BIN)/python tools/peers.py quantize --record reports/recorded/peers/quantize.csv
	$(BIN)/python tools/peers.py lensing --record reports/recorded/peers/lensing.csv

doctor-trial: setup  ## try every check again on arrays that no threshold was tuned on (an hour and a half of a core)
	$(BIN)/python tools/doctor_trial.py --jobs 2 --record reports/recorded/doctor
	$(BIN)/python tools/doctor_trial.py --arms --jobs 2 --record reports/recorded/doctor

lab: setup
	$(BIN)/jupyter lab --notebook-dir .

clean:
	rm -rf .venv build dist *.egg-info mlfixes-out .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
