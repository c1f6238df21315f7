"""Calibration: detection of a transiting calibrator, solution of its set, selection of a target's sets."""


checkpoint detect:
    """Calibrator that transits in a group, from header and catalogue alone."""
    input:
        manifest=product("manifest"),
    output:
        calibrator=product("calibrator"),
    log:
        "logs/{date}/{group}/detect.log",
    benchmark:
        "logs/{date}/{group}/detect.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 1
    resources:
        mem_mb=demand("detect", settings.limits).memory_mb,
        runtime=minutes("detect"),
    script:
        "../scripts/detect.py"


rule solve:
    """Delays, bandpass and gains of every antenna, from a group with a calibrator's transit.

    The tables are moved into place beside the set's description, which says whether they exist and may be used: a
    group without a solution is a result.
    """
    input:
        ms=product("ms"),
        calibrator=product("calibrator"),
    output:
        plot=update(product("set_png")),
        sidecar=update(product("set")),
    log:
        "logs/{date}/{group}/solve.log",
    benchmark:
        "logs/{date}/{group}/solve.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: settings.limits.threads
    resources:
        mem_mb=demand("solve", settings.limits).memory_mb,
        runtime=minutes("solve"),
    params:
        failed_tries=tries("solve"),
    script:
        "../scripts/solve.py"


rule select:
    """Calibration sets of a target, and the calibration verdict of its image (requirement C1)."""
    input:
        manifest=product("manifest"),
        calibrator=product("calibrator"),
        sets=sets_of,
    output:
        selection=product("selection"),
    log:
        "logs/{date}/{group}/select.log",
    benchmark:
        "logs/{date}/{group}/select.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 1
    resources:
        mem_mb=demand("select", settings.limits).memory_mb,
        runtime=minutes("select"),
    script:
        "../scripts/select.py"
