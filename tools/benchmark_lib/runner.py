"""Runs everything in interleaved repetitions, then the sweeps. What fails is noted and the rest goes on."""
from . import device, processes, workloads
from .drivers import options_of


class Runner:
    def __init__(self, settings, drivers, folder, make_progress):
        self.settings, self.drivers, self.folder = settings, drivers, folder
        self.failures = []
        # The workloads that this run is to measure with any driver.
        self.expected = set()
        self.repetitions = [
            {"device": {}, "appends": {}, "scans": {}, "fills": {}} for _ in range(settings.repetitions)
        ]
        self.sweeps = {}
        self.fio_file = folder / "fio"
        self.processor = None
        self.ramp = 0.5 if settings.seconds >= 1.5 else 0.2
        self.plan = [step for index in range(settings.repetitions) for step in self.steps_of(index)]
        self.sweep_plan = self.steps_of_sweeps() if settings.sweeps else []
        self.progress = make_progress(len(self.plan) + len(self.sweep_plan))

    def run(self):
        needs_device = any(family in job.families for job in device.JOBS for family in self.settings.families)
        if needs_device:
            device.prefill(self.fio_file)
            self.processor = self.drivers.processor = device.nearest_processor(self.fio_file)
        for index, (title, work) in enumerate(self.plan + self.sweep_plan):
            if index == len(self.plan):
                # The sweeps do not need the logs that R1 reads; some of them are large.
                self.remove_scan_logs()
            self.progress.step(title)
            try:
                work()
            except (processes.ProgramFailed, KeyError, ValueError) as failure:
                text = f"{title}: {failure}"
                self.failures.append(text)
                self.progress.say(text)
        self.progress.finish()

    def steps_of(self, index):
        settings, measured = self.settings, self.repetitions[index]
        prefix = f"repetition {index + 1} of {settings.repetitions}: " if settings.repetitions > 1 else ""
        steps = []
        for stage in workloads.STAGES:
            here = []
            families = [family for family in stage if family in settings.families]
            for job in device.JOBS:
                if any(family in job.families for family in families) and (job.is_quick or not settings.is_quick):
                    here.append((f"{prefix}fio, {job.title}", self.device_step(measured, job)))
            for workload in workloads.WORKLOADS:
                if workload.family not in families or (settings.is_quick and not workload.is_quick):
                    continue
                for driver in self.drivers_for(workload.drivers, workload.family):
                    self.expected.add(workload.key)
                    here.append((f"{prefix}{workload.key}, {driver}", self.append_step(measured, workload, driver)))
            if "micro" in families and workloads.OURS in settings.drivers:
                here.append((f"{prefix}micro", self.micro_step(measured)))
            if "R1" in families:
                for driver in self.drivers_for(workloads.DRIVERS, "R1"):
                    self.expected.add("R1")
                    if index == 0:
                        steps.append((f"{prefix}the log for R1, {driver}", self.fill_step(measured, driver)))
                    here.append((f"{prefix}R1, {driver}", self.scan_step(measured, driver)))
                for key, variant in workloads.VARIANTS.items() if workloads.OURS in settings.drivers else ():
                    if index == 0:
                        steps.append((f"{prefix}the log for R1, {variant.title}", self.fill_step(measured, key)))
                    here.append((f"{prefix}R1, {variant.title}", self.scan_step(measured, key)))
            steps += workloads.rotated(here, index, settings.repetitions)
        return steps

    def drivers_for(self, able, family):
        settings = self.settings
        chosen = [driver for driver in settings.drivers if driver in able]
        if settings.is_quick and not settings.only:
            # A smoke run has no time for more.
            chosen = [driver for driver in chosen if driver == workloads.OURS or family in ("W1", "W2")]
        return chosen

    def device_step(self, measured, job):
        def work():
            measured["device"][job.key] = device.measure(
                job, self.fio_file, self.settings.seconds, self.ramp, self.processor)
        return work

    def append_step(self, measured, workload, driver):
        def work():
            result = self.drivers.append(
                driver, workload.mode, options_of(workload), self.settings.seconds, is_pinned=workload.is_pinned,
                flags=workload.flags)
            measured["appends"].setdefault(workload.key, {})[driver] = result
        return work

    def micro_step(self, measured):
        def work():
            measured["micro"] = self.drivers.micro()
        return work

    def fill_step(self, measured, driver):
        """Makes the log that R1 reads in every repetition. How long that takes is known from W3, or tried."""
        def work():
            fill = workloads.SCAN_FILL
            variant = workloads.VARIANTS.get(driver)
            program = workloads.OURS if variant else driver
            try:
                known = measured["appends"]["W3"][program]
            except KeyError:
                known = self.drivers.append(program, fill.mode, options_of(fill), 1)
            rate = known["payloadBytes"] / known["seconds"]
            # A little more than needed, since rates vary; not endless, since some are slow.
            seconds = min(1.1 * workloads.SCAN_BYTES / rate, 1 if self.settings.is_quick else 20)
            measured["fills"][driver] = self.drivers.append(
                program, fill.mode, options_of(fill), round(max(seconds, 0.5), 1), keep_as=f"scan-{driver}",
                flags=variant.append_flags if variant else ())
        return work

    def scan_step(self, measured, driver):
        def work():
            # Only the first repetition writes; without its log there is nothing to read.
            if driver not in self.repetitions[0]["fills"]:
                raise processes.ProgramFailed("there is no log to read")
            variant = workloads.VARIANTS.get(driver)
            result = self.drivers.scan(
                workloads.OURS if variant else driver, f"scan-{driver}", variant.scan_flags if variant else ())
            if result["records"] < self.repetitions[0]["fills"][driver]["records"]:
                raise processes.ProgramFailed(f"only {result['records']} records came back")
            measured["scans"][driver] = result
        return work

    def remove_scan_logs(self):
        for driver in (*self.settings.drivers, *workloads.VARIANTS):
            processes.discard(self.folder / f"scan-{driver}")

    def steps_of_sweeps(self):
        settings, steps = self.settings, []
        for sweep in workloads.SWEEPS:
            chosen = [driver for driver in settings.drivers if driver in sweep.drivers]
            if settings.is_quick:
                chosen = chosen[:2]
            for point in sweep.quick_points if settings.is_quick else sweep.points:
                for driver in chosen:
                    for mode in workloads.sweep_modes(sweep, driver)[: 1 if settings.is_quick else None]:
                        line = f"{driver}, {mode}" if mode == "blocking" else driver
                        title = f"sweep over {sweep.key.replace('-', ' ')}, {point}: {line}"
                        steps.append((title, self.sweep_step(sweep, point, driver, mode, line)))
        return steps

    def sweep_step(self, sweep, point, driver, mode, line):
        def work():
            options = workloads.sweep_options(sweep, point)
            result = self.drivers.append(driver, mode, options, self.settings.sweep_seconds)
            lines = self.sweeps.setdefault(sweep.key, {})
            lines.setdefault(line, []).append({"point": point, **result})
        return work
