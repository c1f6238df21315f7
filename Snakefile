# contimg: UVH5 groups → Measurement Sets → calibration → images → mosaics.
#
#   snakemake --profile profiles/local --config data_root=DIR            # everything that is due
#   snakemake --profile profiles/local --config data_root=DIR --until image
#   snakemake --profile profiles/local --config data_root=DIR -- images/2026-01-12/20260112T084500.image.fits
#
# Paths are relative to the data root. Settings: config/config.yaml.


configfile: f"{workflow.basedir}/config/config.yaml"


include: "rules/common.smk"
include: "rules/ingest.smk"
include: "rules/calibrate.smk"
include: "rules/image.smk"
include: "rules/mosaic.smk"
include: "rules/report.smk"
include: "rules/retention.smk"
include: "rules/backup.smk"


workdir: str(root.root)


report: "report/workflow.rst"


# Keeps runners out during a run; a dry run, a report and the like need no lock.
onstart:
    share_data_root()


localrules:
    all,
    images,
    mosaics,
    detect,
    scan,
    summary,
    retain,
    backup,


rule all:
    default_target: True
    input:
        scans(),
        asked("ms", "unimaged"),
        asked("calibrator", "usable"),
        asked("set", "calibrator_groups"),
        asked("image", "image_groups"),
        asked("mosaic", "windows"),
        product("summary"),
        pictures(),


rule images:
    input:
        scans(),
        asked("calibrator", "usable"),
        asked("image", "image_groups"),


rule mosaics:
    input:
        scans(),
        asked("calibrator", "usable"),
        asked("mosaic", "windows"),
