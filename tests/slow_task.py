"""A task of slow runs for the crash tests: it notes every start and end, and can kill its own worker."""
import os, time
from dataclasses import dataclass

from mlfixes.bench import Claim, Metric, Profile, Result, Study, Task


@dataclass(frozen=True)
class Config:
    shift: float = 0.
    seconds: float = .2
    log: str = ""
    killer: int = -1          # the seed whose runs kill their worker


def run(config, seed):
    import numpy as np
    with open(config.log, "a") as log: log.write(f"start {config.shift} {seed} {os.getpid()}\n")
    time.sleep(config.seconds)
    if seed == config.killer: os.kill(os.getpid(), 9)
    with open(config.log, "a") as log: log.write(f"end {config.shift} {seed} {os.getpid()}\n")
    return Result({"score": np.random.default_rng(seed).normal() + config.shift})


def study(store, log, jobs=2, seeds=5, **fields):
    fields["log"] = str(log)
    task = Task("slow", "Does it survive?", Config, run, {"documented": Config(1.)},
                metrics={"score": Metric()},
                claims=[Claim("better", "It helps.", "made up", "superiority", "score")],
                profiles={"quick": Profile(seeds, fields)})
    return Study(task, seeds=seeds, store=store, jobs=jobs)


def main(store, log, jobs, seconds):
    study(store, log, int(jobs), seconds=float(seconds)).run()
    print("complete")
