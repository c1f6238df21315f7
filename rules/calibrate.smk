"""Which calibrator transits in a group, the set that it gives, and the sets that a target uses."""


checkpoint detect:
    """The calibrator that transits in a group, from header and catalogue alone."""
    input:
        manifest="groups/{group}.json",
    output:
        calibrator="calibration/{date}/{group}/calibrator.json",
    log:
        "logs/{date}/{group}/detect.log",
    benchmark:
        "logs/{date}/{group}/detect.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    script:
        "../scripts/detect.py"


checkpoint solve:
    """Delays, bandpass and gains of every antenna, on a group in which a calibrator transits."""
    input:
        ms=to_solve,
        calibrator="calibration/{date}/{group}/calibrator.json",
    output:
        delay=update(directory("calibration/{date}/{group}/delay.cal")),
        bandpass=update(directory("calibration/{date}/{group}/bandpass.cal")),
        gain=update(directory("calibration/{date}/{group}/gain.cal")),
        plot=report(
            update("calibration/{date}/{group}/calibration.png"),
            caption="../report/calibration.rst",
            category="Calibration",
            labels={"set": "{group}"},
        ),
        sidecar=update("calibration/{date}/{group}/set.json"),
    log:
        "logs/{date}/{group}/solve.log",
    benchmark:
        "logs/{date}/{group}/solve.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: settings.limits.threads
    resources:
        mem_mb=settings.limits.mem_mb,
        runtime=settings.limits.solve_minutes,
    script:
        "../scripts/solve.py"


rule select:
    """The sets that calibrate a target, and what that says about its image (requirement C1)."""
    input:
        manifest="groups/{group}.json",
        sets=sets_of,
    output:
        selection="images/{date}/{group}.selection.json",
    log:
        "logs/{date}/{group}/select.log",
    benchmark:
        "logs/{date}/{group}/select.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    script:
        "../scripts/select.py"
