"""Mutation scores: does a test fail where the source is wrong?

./dev mutate                          150 random mutants of each module that the project counts on
./dev mutate forecasting/fit --list   score and survivors found so far, nothing run
./dev mutate tracing/fold --tests tests/test_tracing_exact.py
                                      measure what these test files touch, where that is not known yet,
                                      and no others


Interrupt it at any time: the same command goes on. Mutants of a source or tests that changed are run again,
those whose killing test and source are as they were are not.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import choosing
import scores
import trial
import warm
from mutants import Mutant, mutants, sample

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "solving/operator solving/basis limits/extrapolation limits/ladder limits/estimate"
    " limits/series parametrization/rules parametrization/schemes tracing/fold tracing/survey"
    " transferring/optimum transferring/analysis transferring/bounds transferring/smooth"
    " transferring/shift transferring/verdict intervals"
    " forecasting/fit forecasting/estimate forecasting/choice claims/verdict"
).split()


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        "./dev mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument("modules", nargs="*", metavar="MODULE", help="such as forecasting/fit")
    out.add_argument("--count", type=int, default=150, help="mutants a module (default: 150)")
    out.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    out.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    out.add_argument("--tests", nargs="+", default=[], help="test files to measure (default: all)")
    out.add_argument("--only", default="", help="mutants whose key starts so, run again")
    out.add_argument("--cache", type=Path, default=ROOT / ".mutation", help="(default: .mutation)")
    out.add_argument("--root", type=Path, default=ROOT, help="repository (default: this one)")
    out.add_argument(
        "--patience",
        type=float,
        default=10.0,
        help="processor seconds that a test may take, and ten times what it takes unmutated (default: 10)",
    )
    out.add_argument(
        "--most",
        type=float,
        default=12.0,
        help="processor seconds of tests that a mutant has to survive (default: 12)",
    )
    out.add_argument("--out", type=Path, help="file for the table and the survivors")
    out.add_argument("--list", action="store_true", help="what was found so far; run nothing")
    out.add_argument("--survivors", action="store_true", help="run those that survived, anyway")
    return out


class Module:
    """One module's mutants, and what is known of them."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name, self.root = name, arguments.root
        self.path = Path("src") / "leadline" / f"{name}.py"
        self.source = (self.root / self.path).read_text()
        found = mutants(self.source, name)
        self.of = len(found)
        self.drawn = sample(found, arguments.count, arguments.seed)
        entries = scores.equivalent(self.root / "benchmarks" / "mutation" / "equivalent.toml")
        self.mutants = [m for m in self.drawn if not scores.is_equivalent(m, entries)]
        self.results = scores.Results(arguments.cache, name)
        self.hash = choosing.digest(self.source)
        self._hashes: dict[str, str] = {}

    def file_hash(self, file: str) -> str:
        if file not in self._hashes:
            path = self.root / file
            self._hashes[file] = choosing.digest(path.read_text()) if path.exists() else ""
        return self._hashes[file]

    def tests_hash(self, tests: list[choosing.Test]) -> str:
        files = sorted({t.file for t in tests})
        return choosing.digest(" ".join(self.file_hash(f) for f in files))

    def known(self, mutant: Mutant, tests: list[choosing.Test]) -> bool:
        """A result of this source, whose killing test, or all of whose tests, are as they were."""
        row = self.results.rows.get(mutant.key)
        if row is None or row["source"] != self.hash:
            return False
        if row["status"] in scores.KILLED:
            return row["killer_hash"] == self.file_hash(row["killer"].split("::")[0])
        return row["tests"] == self.tests_hash(tests)

    def table(self) -> str:
        rows = [self.results.rows.get(m.key) for m in self.mutants]
        statuses = [r["status"] for r in rows if r is not None and r["source"] == self.hash]
        same = len(self.drawn) - len(self.mutants)
        return scores.line(self.name, len(self.drawn), self.of, statuses, same)

    def survivors(self) -> list[str]:
        out = []
        for mutant in sorted(self.mutants, key=lambda m: m.start):
            row = self.results.rows.get(mutant.key)
            if row and row["status"] not in scores.KILLED and row["source"] == self.hash:
                more = ", more tests than the bound allows" if row.get("bounded") else ""
                out.append(
                    f"{self.path}:{mutant.lines[0]} {mutant.function} [{mutant.key}"
                    f" {row['status']}: {row['ran']} tests, {row['seconds']:.0f} s{more}]\n"
                    f"    {mutant.line}\n    {mutant.before}  →  {mutant.after}"
                )
        return out


class Runner:
    """Runs mutants in a private copy of the repository."""

    def __init__(self, tree: Path, touched: choosing.Touched, patience: float) -> None:
        self.tree, self.touched, self.patience = tree, touched, patience
        # Tests that were seen to pass on the unmutated copy, or not to.
        self.sound: dict[str, bool] = {}
        self.killers: dict[str, str] = {}
        self.warm: warm.Warm | None = None

    def enter(self, module: Module) -> None:
        """Collect every test that touches a module, once for all its mutants."""
        if self.warm is not None:
            self.warm.close()
        files = sorted({t.file for t in self.touched.tests})
        files = [f for f in files if (self.tree / f).exists()]
        self.warm = warm.Warm(self.tree, module.name, files) if files else None

    def verdict(self, module: Module, mutant: Mutant) -> dict:
        """The mutant's line of the results."""
        first = (module.results.rows.get(mutant.key) or {}).get("killer", "")
        first = first or self.killers.get(mutant.function, "")
        tests, bounded = self.touched.choose(mutant, module.source, first)
        found = {"status": "survived" if tests else "untouched", "killer": "", "killer_hash": ""}
        path = self.tree / module.path
        began, ran = time.monotonic(), 0
        todo = [t for t in tests if self.sound.get(t.name, True)]
        while todo:
            part = choosing.chunks(todo)[0]
            try:
                trial.write(path, mutant.apply(module.source))
                outcome = self.run(part, mutant)
            finally:
                trial.write(path, module.source)
            if outcome.status == "passed":
                ran += len(part)
                todo = todo[len(part) :]
                continue
            suspects = [t for t in part if t.name == outcome.test] or part
            # A test that fails without the mutant says nothing.
            if self.fails(suspects):
                todo = [t for t in todo if self.sound.get(t.name, True)]
                continue
            status = "timeout" if outcome.status == "timeout" else "killed"
            killer = outcome.test if "::" in outcome.test else part[0].name
            hashed = module.file_hash(killer.split("::")[0])
            found = {"status": status, "killer": killer, "killer_hash": hashed}
            self.killers[mutant.function] = killer
            break
        return scores.row(
            mutant,
            **found,
            ran=ran,
            bounded=bounded,
            seconds=round(time.monotonic() - began, 1),
            source=module.hash,
            tests=module.tests_hash(tests),
            date=datetime.date.today().isoformat(),
        )

    def run(self, tests: list[choosing.Test], mutant: Mutant | None = None) -> trial.Outcome:
        limits = {t.name: self.patience + 10 * t.seconds for t in tests}
        found = self.warm.run(limits, mutant is not None) if self.warm else None
        return trial.run(self.tree, limits) if found is None else found

    def fails(self, tests: list[choosing.Test]) -> bool:
        """Whether one of these fails on the unmutated copy; each is tried once."""
        for test in tests:
            if test.name not in self.sound:
                self.sound[test.name] = self.run([test]).status == "passed"
        return not all(self.sound[t.name] for t in tests)


def work(arguments: argparse.Namespace, modules: list[Module], share: int) -> None:
    """Every ``jobs``-th mutant, from ``share`` on."""
    files = choosing.test_files(arguments.root)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder) / "copy"
        trial.copy_tree(arguments.root, tree)
        touched = choosing.Touched(arguments.root, arguments.cache, arguments.most)
        stale = [f for f in files if f in arguments.tests] if arguments.tests else files
        for i, file in enumerate(touched.stale(stale)):
            if i % arguments.jobs == share:
                began = time.monotonic()
                status = touched.measure(tree, file).status
                say(f"measured {file}: {status}, {time.monotonic() - began:.0f} s")
        runner = Runner(tree, touched, arguments.patience)
        for module in modules:
            trial.write(tree / module.path, module.source)
            touched.read(module.name, files)
            todo = module.mutants[share :: arguments.jobs]
            entered = False
            for mutant in sorted(todo, key=lambda m: m.start):
                if arguments.only and not mutant.key.startswith(arguments.only):
                    continue
                status = module.results.rows.get(mutant.key, {}).get("status", "killed")
                again = arguments.only or (arguments.survivors and status not in scores.KILLED)
                tests, _ = touched.choose(mutant, module.source)
                if not again and module.known(mutant, tests):
                    continue
                if not entered:
                    runner.enter(module)
                    entered = True
                row = runner.verdict(module, mutant)
                module.results.add(row)
                say(
                    f"{row['status']:9} {mutant.key} {module.name}:{mutant.lines[0]}"
                    f" {mutant.before!r} → {mutant.after!r}  {row['seconds']:.1f} s  {row['killer']}"
                )


def say(text: str) -> None:
    print(" ".join(text.split()), file=sys.stderr, flush=True)


def main() -> None:
    arguments = parser().parse_args()
    arguments.root, arguments.cache = arguments.root.resolve(), arguments.cache.resolve()
    names = [m.removesuffix(".py").removeprefix("src/leadline/") for m in arguments.modules]
    modules = [Module(name, arguments) for name in names or MODULES]
    if not arguments.list:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        trial.load()
        others = []
        for share in range(1, arguments.jobs):
            pid = os.fork()
            if pid == 0:
                try:
                    work(arguments, modules, share)
                finally:
                    os._exit(0)
            others.append(pid)
        try:
            work(arguments, modules, 0)
        finally:
            for pid in others:
                os.waitpid(pid, 0)
    lines = [scores.HEAD]
    for module in modules:
        module.results.read()
        lines.append(module.table())
    for module in modules:
        lines += ["", *module.survivors()] if module.survivors() else []
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
